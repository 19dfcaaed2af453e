//! The binaries as they are deployed.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::Result;

/// Builds these binaries for this machine with the profile that Lambda gets, and returns where they are.
///
/// The target is given although it is the machine's own: without, Cargo would put a binary where `cargo lambda` keeps the
/// folder of that function.
pub fn build(names: &[&str]) -> Result<Vec<PathBuf>> {
    let version = output_of(&["-vV"])?;
    let host = version.lines().find_map(|line| line.strip_prefix("host: ")).ok_or("cargo does not name its host")?;
    let metadata: Value = serde_json::from_str(&output_of(&["metadata", "--format-version", "1", "--no-deps"])?)?;
    let target = metadata["target_directory"].as_str().ok_or("cargo does not say where it builds")?;
    let mut cargo = cargo(&["build", "--profile", "lambda", "--target", host]);
    for name in names {
        cargo.args(["--package", name, "--bin", name]);
    }
    if !cargo.status()?.success() {
        return Err("the functions cannot be built".into());
    }
    Ok(names.iter().map(|name| Path::new(target).join(host).join("lambda").join(name)).collect())
}

fn cargo(arguments: &[&str]) -> Command {
    let mut cargo = Command::new(env!("CARGO"));
    cargo.current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/..")).args(arguments);
    cargo
}

fn output_of(arguments: &[&str]) -> Result<String> {
    let output = cargo(arguments).output()?;
    if output.status.success() { Ok(String::from_utf8(output.stdout)?) } else { Err(format!("{output:?}").into()) }
}

/// The length of a binary, which must hold no symbols.
pub fn stripped_megabytes(binary: &Path) -> Result<f64> {
    let bytes = std::fs::read(binary)?;
    // The name of the section in which a linker leaves them.
    if bytes.windows(8).any(|window| window == b"\0.symtab") {
        return Err(format!("{} is not stripped", binary.display()).into());
    }
    Ok(bytes.len() as f64 / 1e6)
}
