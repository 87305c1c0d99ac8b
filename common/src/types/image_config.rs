//! What a VM needs to know of an image's configuration (OCI image specification, config.md).

use std::path::{Component, Path, PathBuf};

use serde::{Deserialize, Serialize};

/// The part of an image's configuration by which a container of it runs.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ImageConfig {
    /// ENTRYPOINT.
    pub entrypoint: Vec<String>,
    /// CMD.
    pub cmd: Vec<String>,
    /// VOLUME paths, as the engine mounts them.
    pub volumes: Vec<PathBuf>,
}

impl ImageConfig {
    /// Of the fields as a configuration or the engine has them.
    pub fn new<'a>(
        entrypoint: Vec<String>,
        cmd: Vec<String>,
        volumes: impl IntoIterator<Item = &'a str>,
    ) -> Self {
        Self {
            entrypoint,
            cmd,
            volumes: volumes.into_iter().map(cleaned).collect(),
        }
    }
}

/// A VOLUME path without `.`, `..` and double slashes.
fn cleaned(path: &str) -> PathBuf {
    let mut clean = PathBuf::from("/");
    for component in Path::new(path).components() {
        match component {
            Component::Normal(name) => clean.push(name),
            Component::ParentDir => drop(clean.pop()),
            _ => {}
        }
    }
    clean
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn volumes_are_absolute_and_stay_beneath_the_root() {
        let config = ImageConfig::new(vec![], vec![], ["data", "/a//b/./c/", "/x/../../y", "/"]);
        let paths = ["/data", "/a/b/c", "/y", "/"].map(PathBuf::from);
        assert_eq!(config.volumes, paths);
    }
}
