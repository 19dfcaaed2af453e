//! The command line of the real binary: on an empty store, on a filled one, beside a running server, and without rights.

mod each;
mod help;
mod migrating;
mod run;
mod tokens;
