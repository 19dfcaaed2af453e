//! The description as a page: all of it in one document of HTML that needs no script, and nothing from anywhere else.
//!
//! Every text of the description passes through [`text`], which escapes it.

use std::fmt::Write;

use serde_json::{Map, Value};
use shared::digest::Digest;

const STYLE: &str = include_str!("page.css");
const METHODS: [&str; 6] = ["get", "head", "post", "put", "patch", "delete"];

/// What a browser may do with the page: show it in its own style, and nothing else.
pub fn policy() -> String {
    let style = Digest::of(STYLE.as_bytes()).to_base64();
    format!(
        "default-src 'none'; style-src 'sha256-{style}'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
}

/// The page that tells what `document` says.
pub fn html(document: &Value) -> String {
    let info = &document["info"];
    let title = text(str(&info["title"]));
    let mut html = format!(
        "<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width\">\n<title>{title}: API</title>\n<style>{STYLE}</style>\n\
         <h1>{title} {}</h1>\n{}\n<p>The same for machines: <a href=\"/api/openapi.json\">openapi.json</a>.</p>\n",
        text(str(&info["version"])),
        paragraphs(&info["description"]),
    );
    let tags: Vec<&Value> = list(&document["tags"]).collect();
    html += "<nav aria-label=\"Routes\">\n";
    for tag in &tags {
        let entries: String = tagged(document, tag).map(|operation| operation.entry()).collect();
        html += &format!("<h2>{}</h2>\n<ul>\n{entries}</ul>\n", text(str(&tag["description"])));
    }
    html += "</nav>\n<main>\n";
    for tag in &tags {
        html += &format!("<h2>{}</h2>\n", text(str(&tag["description"])));
        html.extend(tagged(document, tag).map(|operation| operation.section()));
    }
    html += "<h2>What is sent and answered</h2>\n";
    html.extend(object(&document["components"]["schemas"]).map(|(name, schema)| described(name, schema)));
    html + "</main>\n</html>\n"
}

/// A method of a path.
struct Operation<'a> {
    method: String,
    path: &'a str,
    what: &'a Value,
}

fn tagged<'a>(document: &'a Value, tag: &'a Value) -> impl Iterator<Item = Operation<'a>> {
    let of_path = |(path, item): (&'a String, &'a Value)| {
        let methods = METHODS.into_iter().filter_map(move |method| Some((method, item.get(method)?)));
        methods.map(move |(method, what)| Operation { method: method.to_ascii_uppercase(), path, what })
    };
    let operations = object(&document["paths"]).flat_map(of_path);
    operations.filter(|operation| list(&operation.what["tags"]).next() == Some(&tag["name"]))
}

impl Operation<'_> {
    fn name(&self) -> String {
        format!("<code>{} {}</code>", self.method, text(self.path))
    }

    fn id(&self) -> String {
        text(str(&self.what["operationId"]))
    }

    fn entry(&self) -> String {
        format!("<li><a href=\"#{}\">{}</a></li>\n", self.id(), self.name())
    }

    fn section(&self) -> String {
        let Self { what, .. } = self;
        let mut html = format!(
            "<h3 id=\"{}\">{}</h3>\n{}{}",
            self.id(),
            self.name(),
            paragraphs(&what["summary"]),
            paragraphs(&what["description"])
        );
        let optional = list(&what["security"]).any(|needed| object(needed).next().is_none());
        let when = if optional { "Where reading needs a token" } else { "Where tokens are needed" };
        for scope in list(&what["security"]).flat_map(|needed| list(&needed["token"])) {
            html += &format!("<p>{when}, it needs one with the scope {}.</p>\n", code(str(scope)));
        }
        let parameters = list(&what["parameters"]).map(|parameter| {
            let place = str(&parameter["in"]);
            let required = if parameter["required"] == true { ", required" } else { "" };
            let kind = format!("{}, in the {}{required}", kind(&parameter["schema"]), text(place));
            [code(str(&parameter["name"])), kind, text(str(&parameter["description"]))]
        });
        html += &table("Parameters", parameters);
        let body = object(&what["requestBody"]["content"]);
        html += &table("Body", body.map(|(media, body)| [code(media), kind(&body["schema"]), String::new()]));
        let answers = object(&what["responses"]).map(|(status, answer)| {
            let content = object(&answer["content"]);
            let kinds: Vec<_> =
                content.map(|(media, c)| format!("{} as {}", kind(&c["schema"]), code(media))).collect();
            let names: Vec<_> = object(&answer["headers"]).map(|(name, _)| code(name)).collect();
            let headers = if names.is_empty() { String::new() } else { format!(" With {}.", names.join(", ")) };
            [code(status), kinds.join(" or "), text(str(&answer["description"])) + &headers]
        });
        html + &table("Answers", answers)
    }
}

fn described(name: &str, schema: &Value) -> String {
    let mut html =
        format!("<h3 id=\"schema-{0}\"><code>{0}</code></h3>\n{1}", text(name), paragraphs(&schema["description"]));
    let parts: Vec<&Value> = if schema["allOf"].is_array() { list(&schema["allOf"]).collect() } else { vec![schema] };
    for part in parts {
        if !part["properties"].is_object() {
            html += &format!("<p>{}</p>\n", kind(part));
            continue;
        }
        let required: Vec<&Value> = list(&part["required"]).collect();
        let fields = object(&part["properties"]).map(|(name, field)| {
            let may_lack = if required.iter().any(|r| *r == name) { "" } else { ", may be missing" };
            // What a field may be besides null says it there.
            let said = list(&field["oneOf"]).chain([field]).map(|said| str(&said["description"]));
            [code(name), kind(field) + may_lack, said.map(text).collect()]
        });
        html += &table("Fields", fields);
    }
    html
}

/// What a schema lets through, in a few words.
fn kind(schema: &Value) -> String {
    if let Some(name) = schema["$ref"].as_str().and_then(|to| to.rsplit('/').next()) {
        return format!("<a href=\"#schema-{0}\">{0}</a>", text(name));
    }
    for (several, between) in [("oneOf", " or "), ("anyOf", " or "), ("allOf", " and ")] {
        if schema[several].is_array() {
            return list(&schema[several]).map(kind).collect::<Vec<_>>().join(between);
        }
    }
    if schema["enum"].is_array() {
        return list(&schema["enum"]).map(|value| code(str(value))).collect::<Vec<_>>().join(" or ");
    }
    let single = std::slice::from_ref(&schema["type"]);
    let types = schema["type"].as_array().map_or(single, Vec::as_slice);
    let words = types.iter().map(|name| match str(name) {
        "array" => format!("list of {}", kind(&schema["items"])),
        "object" if schema["additionalProperties"].is_object() => {
            format!("object of {}", kind(&schema["additionalProperties"]))
        }
        "string" if schema["format"] == "date-time" => "time".to_owned(),
        "string" if schema["format"] == "binary" => "bytes".to_owned(),
        "" => "anything".to_owned(),
        name => text(name),
    });
    words.collect::<Vec<_>>().join(" or ")
}

fn table(caption: &str, rows: impl Iterator<Item = [String; 3]>) -> String {
    let mut html = String::new();
    for [head, kind, description] in rows {
        let _ = writeln!(html, "<tr><th scope=\"row\">{head}</th><td>{kind}</td><td>{description}</td></tr>");
    }
    if html.is_empty() {
        return html;
    }
    format!("<div class=\"scroll\"><table>\n<caption>{caption}</caption>\n{html}</table></div>\n")
}

fn paragraphs(value: &Value) -> String {
    let paragraphs = str(value).split("\n\n").filter(|paragraph| !paragraph.is_empty());
    paragraphs.map(|paragraph| format!("<p>{}</p>\n", text(paragraph))).collect()
}

fn code(value: &str) -> String {
    format!("<code>{}</code>", text(value))
}

/// A text as HTML, also inside the quotes of an attribute; what stands between backticks is code.
fn text(value: &str) -> String {
    let mut html = String::with_capacity(value.len());
    let mut inside = false;
    for sign in value.chars() {
        match sign {
            '&' => html += "&amp;",
            '<' => html += "&lt;",
            '>' => html += "&gt;",
            '"' => html += "&quot;",
            '`' => {
                html += if inside { "</code>" } else { "<code>" };
                inside = !inside;
            }
            sign => html.push(sign),
        }
    }
    if inside { html + "</code>" } else { html }
}

fn str(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

fn object(value: &Value) -> impl Iterator<Item = (&String, &Value)> {
    value.as_object().into_iter().flat_map(Map::iter)
}
