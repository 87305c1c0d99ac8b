//! The machine that is being set up: its root folder is `/`, or, for an installation that is
//! prepared elsewhere (an image, a test), another one.

use std::path::{Path, PathBuf};

/// Gives absolute paths beneath the root folder of the machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Host {
    root: PathBuf,
}

impl Host {
    /// This machine.
    pub fn this() -> Self {
        Self::at("/")
    }

    /// A machine whose files lie beneath `root`.
    pub fn at(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// The place of an absolute path.
    pub fn path(&self, absolute: impl AsRef<Path>) -> PathBuf {
        let absolute = absolute.as_ref();
        self.root
            .join(absolute.strip_prefix("/").unwrap_or(absolute))
    }

    /// Whether this is the running machine, whose services may be started.
    pub fn is_running(&self) -> bool {
        self.root == Path::new("/")
    }

    /// Whether systemd is what runs the services here (`sd_booted(3)`).
    pub fn has_systemd(&self) -> bool {
        self.is_running() && Path::new("/run/systemd/system").is_dir()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn absolute_paths_stay_beneath_the_root() {
        assert_eq!(Host::this().path("/etc/one"), Path::new("/etc/one"));
        assert_eq!(Host::at("/t").path("/etc/one"), Path::new("/t/etc/one"));
    }
}
