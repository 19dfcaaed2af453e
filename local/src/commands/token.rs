//! The command `token`.

use serde_json::{Value, json};
use shared::clock::format_millis;
use shared::tokens::{TRUSTED, Token};

use super::fields::text;
use crate::api::Api;
use crate::cli::TokenAction;
use crate::output::{DONE, Failure, Output};

pub async fn run(api: &Api, output: &Output, action: &TokenAction) -> Result<u8, Failure> {
    match action {
        TokenAction::New { name, scope } => {
            let (token, secret) = api.keepsake.tokens.issue(name, *scope).await?;
            let mut made = shown(&token);
            made["token"] = json!(secret);
            output.print(&made, |made| {
                let hint = "It is shown once. Send it as Authorization: Bearer …, or sign in with it on the page.";
                vec![text(made, "token").to_owned(), hint.to_owned()]
            });
        }
        TokenAction::List => {
            let tokens: Vec<Value> = api.keepsake.tokens.list().await?.iter().map(shown).collect();
            output.print(&json!({ "tokens": tokens }), lines);
        }
        TokenAction::Revoke { token } => {
            let mut revoked = shown(&api.keepsake.tokens.revoke(token).await?);
            let bound = TRUSTED.as_secs();
            let name = text(&revoked, "name");
            let message = format!("{name} was revoked. A running server accepts it for at most {bound} more seconds.");
            revoked["message"] = json!(message);
            output.print(&revoked, |revoked| vec![text(revoked, "message").to_owned()]);
        }
    }
    Ok(DONE)
}

fn shown(token: &Token) -> Value {
    json!({ "id": token.id, "name": token.name, "scope": token.scope, "created": format_millis(token.created) })
}

fn lines(answer: &Value) -> Vec<String> {
    let tokens = answer["tokens"].as_array().map_or(&[][..], Vec::as_slice);
    if tokens.is_empty() {
        return vec!["There are no tokens, except API_TOKEN if it is set.".to_owned()];
    }
    let line = |created: &str, scope: &str, name: &str| format!("{created:<24}  {scope:<6}  {name}");
    let token = |token: &Value| line(text(token, "created"), text(token, "scope"), text(token, "name"));
    std::iter::once(line("CREATED", "SCOPE", "NAME")).chain(tokens.iter().map(token)).collect()
}
