//! The output of commands: text for people or one JSON document, and the exit codes.

use std::io::{IsTerminal, Write, stderr, stdin, stdout};

use serde_json::{Value, json};
use shared::http::Problem;

pub const DONE: u8 = 0;
pub const FAILED: u8 = 1;
/// The command line or the configuration is wrong; clap's own code for that.
pub const WRONG_USAGE: u8 = 2;
/// Done, but something needs attention.
pub const ATTENTION: u8 = 3;

#[derive(Debug)]
pub struct Failure {
    pub code: u8,
    /// The problem, as the HTTP API returns it.
    pub problem: Value,
}

impl Failure {
    /// A failure of this type; `detail` is a sentence for the user.
    pub fn new(code: u8, slug: &str, title: &str, detail: impl Into<String>) -> Self {
        let detail = detail.into();
        Self { code, problem: json!({ "type": slug, "title": title, "detail": detail, "error": detail }) }
    }

    /// An error in the command line or the configuration.
    pub fn usage(detail: impl Into<String>) -> Self {
        Self::new(WRONG_USAGE, "wrong-configuration", "Wrong configuration", detail)
    }

    /// An error of the store or the machine.
    pub fn failed(detail: impl Into<String>) -> Self {
        Self::new(FAILED, "failed", "Failed", detail)
    }

    pub fn sentence(&self) -> &str {
        self.problem["detail"].as_str().unwrap_or("Something unexpected went wrong.")
    }

    pub fn add(&mut self, more: &str) {
        let detail = format!("{} {more}", self.sentence());
        for field in ["detail", "error"] {
            self.problem[field] = json!(detail);
        }
    }
}

impl From<shared::Error> for Failure {
    /// The problem that the API would return. The user of a command may also see the cause.
    fn from(error: shared::Error) -> Self {
        let causes = shared::telemetry::with_causes(&error);
        let problem = Problem::from(error);
        let mut failure = Self { code: FAILED, problem: problem.json() };
        if problem.is_server_error() {
            failure.add(&format!("({causes})"));
        }
        failure
    }
}

impl From<String> for Failure {
    fn from(sentence: String) -> Self {
        Self::failed(sentence)
    }
}

/// The output of a command: standard output, as text or as one JSON document. A failed write to it undoes nothing.
#[derive(Debug)]
pub struct Output {
    json: bool,
}

impl Output {
    pub fn new(json: bool) -> Self {
        Self { json }
    }

    /// Prints an answer: as it is, or as these lines.
    pub fn print(&self, answer: &Value, lines: impl FnOnce(&Value) -> Vec<String>) {
        let mut output = stdout().lock();
        if self.json {
            let _ = writeln!(output, "{answer}");
            return;
        }
        for line in lines(answer) {
            let _ = writeln!(output, "{line}");
        }
    }

    /// Prints lines that are no part of the JSON.
    pub fn tell(&self, lines: &[String]) {
        if !self.json {
            self.print(&Value::Null, |_| lines.to_vec());
        }
    }

    /// Reports a failure; returns the exit code. With `--json` the one document is the problem.
    pub fn fail(&self, failure: &Failure) -> u8 {
        if self.json {
            self.print(&failure.problem, |_| Vec::new());
        } else {
            let _ = writeln!(stderr(), "keepsake: {}", failure.sentence());
        }
        failure.code
    }

    /// The exit code of a completed command. Text output also reports that something needs attention.
    pub fn end(&self, needs_attention: bool) -> u8 {
        if !needs_attention {
            return DONE;
        }
        if !self.json {
            let _ = writeln!(stderr(), "keepsake: something needs attention");
        }
        ATTENTION
    }

    pub fn can_ask(&self) -> bool {
        !self.json && stdin().is_terminal() && stderr().is_terminal()
    }

    /// Asks the user; anything but yes is no.
    pub fn ask(&self, question: &str) -> bool {
        let _ = write!(stderr(), "{question} [y/N] ");
        let _ = stderr().flush();
        let mut answer = String::new();
        let read = stdin().read_line(&mut answer);
        read.is_ok() && matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes")
    }
}
