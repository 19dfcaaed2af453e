//! `GET /api/openapi.json` and `GET /api/docs`: the description of the routes, for machines and for people.
//!
//! Each handler has its description beside its code. Here they become one document, together with the responses that all
//! routes share. Only the server serves it: a function would contain the descriptions of all others.

mod page;

use axum::http::Method;
use axum::http::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE};
use axum::response::{IntoResponse, Response};
use shared::http::scopes::{Needs, needed};
use shared::http::{Problem, Routes, session};
use shared::tokens::Scope;
use utoipa::openapi::path::{Operation, PathItem};
use utoipa::openapi::schema::{Schema, SchemaType, Type};
use utoipa::openapi::security::{
    ApiKey, ApiKeyValue, HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme,
};
use utoipa::openapi::{ContentBuilder, OpenApi as Document, Ref, RefOr, Response as Described, ResponseBuilder};
use utoipa::{OpenApi, ToSchema};

use crate::metrics;

/// A response may be cached, but must be revalidated.
const CACHE: &str = "no-cache";
/// The ways to send a token: by itself, or in a session of the page.
const SCHEMES: [&str; 2] = ["token", "session"];

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Keepsake",
        description = "Stores images so that nothing acknowledged is ever lost.\n\n\
            JSON is in camelCase, and times are in UTC with milliseconds. Errors are problem documents, RFC 9457.",
    ),
    paths(document_as_json, page, metrics::scrape),
    components(schemas(Problem)),
    tags(
        (name = "upload", description = "New images"),
        (name = "images", description = "Listing, showing, editing, deleting and serving images"),
        (name = "groups", description = "Images that belong together, in an order and under a title"),
        (name = "backups", description = "Backups, restores, pruning and verification"),
        (name = "health", description = "The state of the store"),
        (name = "session", description = "The caller, and the sessions of the page"),
        (name = "about", description = "This description"),
    ),
)]
struct Api;

pub fn routes() -> Routes {
    Routes::new().get("/api/openapi.json", document_as_json).get("/api/docs", page)
}

/// Describe the routes for machines: this document.
#[utoipa::path(get, path = "/api/openapi.json", operation_id = "getDescription", tag = "about", responses(
    (status = 200, description = "OpenAPI 3.1", body = Object),
))]
async fn document_as_json() -> Result<Response, Problem> {
    let document = document().to_json().map_err(Problem::internal)?;
    Ok(([(CONTENT_TYPE, "application/json"), (CACHE_CONTROL, CACHE)], document).into_response())
}

/// Describe the routes for people.
#[utoipa::path(get, path = "/api/docs", operation_id = "getDocs", tag = "about", responses(
    (status = 200, description = "A page to read", body = String, content_type = "text/html"),
))]
async fn page() -> Result<Response, Problem> {
    let document = serde_json::to_value(document()).map_err(Problem::internal)?;
    let headers = [
        (CONTENT_TYPE, "text/html; charset=utf-8".to_owned()),
        (CACHE_CONTROL, CACHE.to_owned()),
        (CONTENT_SECURITY_POLICY, page::policy()),
    ];
    Ok((headers, page::html(&document)).into_response())
}

pub fn document() -> Document {
    let mut document = Api::openapi();
    parts().into_iter().for_each(|part| document.merge(part));
    let bearer = HttpBuilder::new()
        .scheme(HttpAuthScheme::Bearer)
        .description(Some("`API_TOKEN`, or a token made with `keepsake token new`"));
    let cookie = ApiKeyValue::with_description(session::NAME, "What `POST /api/session` gave a page");
    let components = document.components.get_or_insert_default();
    components.add_security_scheme(SCHEMES[0], SecurityScheme::Http(bearer.build()));
    components.add_security_scheme(SCHEMES[1], SecurityScheme::ApiKey(ApiKey::Cookie(cookie)));
    for (path, item) in &mut document.paths.paths {
        for (method, operation) in operations(item) {
            // A route that is missing from the table needs the highest scope; a test checks that there is none.
            complete(operation, needed(&method, path).unwrap_or(Needs::Token(Scope::Admin)));
        }
        if let Some(id) = item.head.as_mut().and_then(|head| head.operation_id.as_mut()) {
            // A handler that answers GET as well has one name for both.
            *id += "Head";
        }
    }
    document
}

fn parts() -> [Document; 7] {
    [
        upload::Api::openapi(),
        upload::ServerApi::openapi(),
        images::Api::openapi(),
        images::ServerApi::openapi(),
        backup::Api::openapi(),
        restore::Api::openapi(),
        health::Api::openapi(),
    ]
}

fn operations(item: &mut PathItem) -> impl Iterator<Item = (Method, &mut Operation)> {
    let PathItem { get, head, post, put, patch, delete, .. } = item;
    let methods = [
        (Method::GET, get),
        (Method::HEAD, head),
        (Method::POST, post),
        (Method::PUT, put),
        (Method::PATCH, patch),
        (Method::DELETE, delete),
    ];
    methods.into_iter().filter_map(|(method, operation)| Some((method, operation.as_mut()?)))
}

/// Adds what all routes have in common: the required scope, the responses of the layers around them, and the schema of
/// problems.
fn complete(operation: &mut Operation, needs: Needs) {
    let with = |scope: Scope| SCHEMES.map(|scheme| SecurityRequirement::new(scheme, [scope.name()])).to_vec();
    operation.security = match needs {
        Needs::Nothing | Needs::OwnSecret => None,
        Needs::Reading => Some([vec![SecurityRequirement::default()], with(Scope::Read)].concat()),
        Needs::Token(scope) => Some(with(scope)),
    };
    let token = operation.security.is_some();
    let on_store = needs != Needs::Nothing;
    let common = [
        ("401", "`unauthorized`: a valid token is required", token),
        ("403", "`forbidden-scope`, `forbidden-host`, `forbidden-origin`", token),
        ("403", "`forbidden-host`, `forbidden-origin`", true),
        ("429", "`too-many-requests`: this client has sent too many requests, or too many wrong tokens", true),
        ("500", "`internal`: an unexpected error", true),
        ("503", "The store does not answer, or accepts no writes", on_store),
    ];
    for parameter in operation.parameters.iter_mut().flatten() {
        if let Some(RefOr::T(Schema::Object(object))) = &mut parameter.schema
            && let SchemaType::Array(types) = &mut object.schema_type
        {
            // A missing parameter is omitted, not null.
            types.retain(|one| *one != Type::Null);
        }
    }
    let answers = &mut operation.responses.responses;
    for (status, description, _) in common.into_iter().filter(|(.., applies)| *applies) {
        let described = || RefOr::T(ResponseBuilder::new().description(description).build());
        answers.entry(status.to_owned()).or_insert_with(described);
    }
    for (status, answer) in answers {
        if let RefOr::T(Described { content, .. }) = answer
            && content.is_empty()
            && status.starts_with(['4', '5'])
        {
            let problem = ContentBuilder::new().schema(Some(Ref::from_schema_name(Problem::name()))).build();
            content.insert("application/problem+json".to_owned(), problem);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use serde_json::Value;

    use super::*;

    #[test]
    fn no_name_is_used_twice() {
        let mut document = document();
        let ids = document.paths.paths.values_mut().flat_map(operations);
        let ids: Vec<String> = ids.map(|(_, operation)| operation.operation_id.clone().unwrap()).collect();
        assert_eq!(ids.iter().collect::<BTreeSet<_>>().len(), ids.len(), "{ids:?}");

        let mut known = BTreeMap::new();
        for schemas in parts().into_iter().chain([Api::openapi()]).filter_map(|part| part.components) {
            for (name, schema) in schemas.schemas {
                let earlier = known.insert(name.clone(), schema.clone());
                assert!(earlier.is_none_or(|earlier| earlier == schema), "{name}");
            }
        }
    }

    #[test]
    fn every_route_has_a_group_and_problem_responses() {
        let mut document = document();
        let tags: BTreeSet<String> = document.tags.take().unwrap().into_iter().map(|tag| tag.name).collect();
        for (_, operation) in document.paths.paths.values_mut().flat_map(operations) {
            let id = operation.operation_id.as_deref().unwrap();
            assert!(operation.tags.iter().flatten().all(|tag| tags.contains(tag)), "{id}");
            for (status, answer) in &operation.responses.responses {
                let RefOr::T(answer) = answer else { panic!("{id} {status}") };
                assert!(!answer.content.is_empty() || !status.starts_with(['4', '5']), "{id} {status}");
            }
        }
        // A link in a comment leads to code.
        assert!(!document.to_json().unwrap().contains("[`"));
    }

    /// Puts something hostile into every string of a document.
    fn poisoned(value: &Value) -> Value {
        match value {
            Value::String(text) => format!("{text}\"><script>`'&").into(),
            Value::Array(values) => values.iter().map(poisoned).collect(),
            Value::Object(fields) => fields.iter().map(|(name, value)| (name.clone(), poisoned(value))).collect(),
            other => other.clone(),
        }
    }

    #[test]
    fn descriptions_are_escaped() {
        let document = serde_json::to_value(document()).unwrap();
        let page = page::html(&poisoned(&document));
        assert!(page.contains("&quot;&gt;&lt;script&gt;"));
        assert!(!page.contains("<script") && !page.contains("\"><script"));
    }

    #[test]
    fn the_page_describes_every_route_and_loads_nothing() {
        let document = serde_json::to_value(document()).unwrap();
        let page = page::html(&document);
        for (path, item) in document["paths"].as_object().unwrap() {
            for (method, operation) in item.as_object().unwrap() {
                let id = operation["operationId"].as_str().unwrap();
                let line = format!("<details id=\"{id}\"><summary><code>{} {path}</code>", method.to_ascii_uppercase());
                assert!(page.contains(&line), "{line}");
                for status in operation["responses"].as_object().unwrap().keys() {
                    let behind = page.split(&line).nth(1).unwrap().split("</details>").next().unwrap();
                    assert!(behind.contains(&format!("&quot;{status}&quot;: {{")), "{line} {status}");
                }
            }
        }
        for name in document["components"]["schemas"].as_object().unwrap().keys() {
            assert!(page.contains(&format!("<details id=\"schema-{name}\">")), "{name}");
        }
        for elsewhere in ["src=", "@import", "url(", "<link", "<script", "style=", "onclick"] {
            assert!(!page.contains(elsewhere), "{elsewhere}");
        }
    }
}
