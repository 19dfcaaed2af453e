//! What the files in `deploy/` say, as the hosts read them.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::Value;

/// What an image built of `deploy/Dockerfile` says of the containers that are made of it.
#[derive(Debug, Clone, Default)]
pub struct Image {
    pub user: u32,
    pub group: u32,
    pub variables: BTreeMap<String, String>,
    pub folder: String,
    pub command: Vec<String>,
    pub healthcheck: Vec<String>,
    pub stop_signal: String,
    /// Folders that the image brings along for its user, and their owners.
    pub folders: Vec<(String, u32)>,
    pub instructions: Vec<(String, String)>,
}

pub fn text(name: &str) -> String {
    let path = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy")).join(name);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// A file as a tree of values, whatever its format.
pub fn tree(name: &str) -> Value {
    documents(name).pop().unwrap()
}

/// All documents of a file.
pub fn documents(name: &str) -> Vec<Value> {
    let text = text(name);
    match name.rsplit_once('.').unwrap().1 {
        "json" => vec![serde_json::from_str(&text).unwrap()],
        "toml" => vec![toml::from_str(&text).unwrap()],
        _ => text.split("\n---\n").map(|document| serde_yaml_ng::from_str(document).unwrap()).collect(),
    }
}

/// The last stage of the Dockerfile, with these build arguments.
pub fn image(arguments: &[(&str, &str)]) -> Image {
    let mut image = Image::default();
    let mut known: BTreeMap<String, String> = BTreeMap::new();
    let text = text("Dockerfile").replace("\\\n", " ");
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let (instruction, rest) = line.split_once(' ').unwrap();
        let rest = known
            .iter()
            .fold(rest.trim().to_owned(), |rest, (name, value)| rest.replace(&format!("${{{name}}}"), value));
        image.instructions.push((instruction.to_owned(), rest.clone()));
        let list = |rest: &str| serde_json::from_str::<Vec<String>>(rest).unwrap();
        match instruction {
            "FROM" => image = Image { instructions: std::mem::take(&mut image.instructions), ..Image::default() },
            "ARG" => {
                let (name, value) = rest.split_once('=').unwrap();
                let given = arguments.iter().find(|(given, _)| *given == name).map(|(_, value)| *value);
                known.insert(name.to_owned(), given.unwrap_or(value).to_owned());
            }
            "ENV" => {
                let pairs = rest.split(' ').map(|pair| pair.split_once('=').unwrap());
                image.variables.extend(pairs.map(|(name, value)| (name.to_owned(), value.to_owned())));
            }
            "COPY" => {
                if let Some(owner) = rest.split(' ').find_map(|word| word.strip_prefix("--chown=")) {
                    let target = rest.rsplit(' ').next().unwrap().trim_end_matches('/');
                    image.folders.push((target.to_owned(), ids(owner).0));
                }
            }
            "WORKDIR" => image.folder = rest,
            "USER" => (image.user, image.group) = ids(&rest),
            "STOPSIGNAL" => image.stop_signal = rest,
            "HEALTHCHECK" => image.healthcheck = list(rest.split_once("CMD ").unwrap().1),
            "ENTRYPOINT" => image.command = list(&rest),
            "EXPOSE" | "RUN" => {}
            other => panic!("what does {other} mean here?"),
        }
    }
    image
}

fn ids(owner: &str) -> (u32, u32) {
    let (user, group) = owner.split_once(':').unwrap();
    (user.parse().unwrap(), group.parse().unwrap())
}

/// The settings of a systemd unit, by their names; the last one of each.
pub fn unit(name: &str) -> BTreeMap<String, String> {
    let text = text(name);
    let pairs = text.lines().filter(|line| !line.starts_with('#')).filter_map(|line| line.split_once('='));
    pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}
