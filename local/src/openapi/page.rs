//! The description as a page: a list of the routes, each with its part of the document.
//!
//! Written by hand, because `utoipa-scalar` and `utoipa-redoc` load their viewer from another host, and
//! `utoipa-swagger-ui` brings a megabyte of script, which would run with the session of its reader.

use serde_json::{Map, Value};
use shared::digest::Digest;

const STYLE: &str = include_str!("page.css");
/// Fields of an operation that the page shows outside the JSON.
const SHOWN_ABOVE: [&str; 4] = ["description", "operationId", "summary", "tags"];

/// The content security policy of the page: only its own style.
pub fn policy() -> String {
    let style = Digest::of(STYLE.as_bytes()).to_base64();
    format!(
        "default-src 'none'; style-src 'sha256-{style}'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
}

pub fn html(document: &Value) -> String {
    let info = &document["info"];
    let title = format!("{} {}: API", text(&info["title"]), text(&info["version"]));
    let mut html = format!(
        "<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width\">\n<title>{title}</title>\n<style>{STYLE}</style>\n\
         <h1>{title}</h1>\n<p>{}</p>\n<p>All of this is in <a href=\"/api/openapi.json\">openapi.json</a>, \
         which viewers and generators of clients read: Swagger UI, Redoc, Scalar, Bruno and others.</p>\n<main>\n",
        text(&info["description"]),
    );
    for tag in document["tags"].as_array().into_iter().flatten() {
        html += &format!("<h2>{}</h2>\n", text(&tag["description"]));
        html.extend(object(&document["paths"]).flat_map(|(path, item)| operations(path, item, &tag["name"])));
    }
    html += "<h2>Schemas</h2>\n";
    html.extend(object(&document["components"]["schemas"]).map(|(name, schema)| {
        let name = escaped(name);
        details(&format!("schema-{name}"), &format!("<code>{name}</code>"), &Value::Null, schema.clone())
    }));
    html + "</main>\n</html>\n"
}

/// The operations of a path that belong to this tag.
fn operations(path: &str, item: &Value, tag: &Value) -> impl Iterator<Item = String> {
    object(item).filter(|(_, operation)| operation["tags"][0] == *tag).map(move |(method, operation)| {
        let name =
            format!("<code>{} {}</code> {}", method.to_ascii_uppercase(), escaped(path), text(&operation["summary"]));
        let rest = object(operation).filter(|(key, _)| !SHOWN_ABOVE.contains(&key.as_str()));
        let rest = rest.map(|(key, value)| (key.clone(), value.clone())).collect();
        details(&text(&operation["operationId"]), &name, &operation["description"], rest)
    })
}

/// A line that opens to a text and a part of the document.
fn details(id: &str, line: &str, description: &Value, part: Value) -> String {
    let (description, part) = (text(description), escaped(&format!("{part:#}")));
    format!("<details id=\"{id}\"><summary>{line}</summary>\n<p>{description}</p>\n<pre>{part}</pre></details>\n")
}

fn text(value: &Value) -> String {
    escaped(value.as_str().unwrap_or_default())
}

/// A text as HTML, also inside the quotes of an attribute.
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

fn object(value: &Value) -> impl Iterator<Item = (&String, &Value)> {
    value.as_object().into_iter().flat_map(Map::iter)
}
