//! Where an OpenNebula front-end keeps its files (`install.sh`): system-wide, or all beneath
//! one folder (`ONE_LOCATION`).

use std::path::{Path, PathBuf};

use crate::edit::template::Template;
use crate::error::{Error, Result};
use crate::host::Host;
use crate::owner::Owner;
use crate::setup::{join, run_folders};

/// One installation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    etc: PathBuf,
    var: PathBuf,
    location: Option<PathBuf>,
}

impl Layout {
    /// The installation, if its remotes and its configuration are there.
    pub fn find(host: &Host, one_location: Option<&Path>) -> Result<Self> {
        let layout = match one_location {
            Some(folder) => {
                let folder = host.path(folder);
                Self {
                    etc: folder.join("etc"),
                    var: folder.join("var"),
                    location: Some(folder),
                }
            }
            None => Self {
                etc: host.path("/etc/one"),
                var: host.path("/var/lib/one"),
                location: None,
            },
        };
        for path in [layout.remotes().join("vmm"), layout.etc.join("oned.conf")] {
            if !path.exists() {
                return Err(Error::refused(format!(
                    "no OpenNebula front-end is installed here: there is no {}; for a \
                     self-contained one name its folder with --one-location",
                    path.display()
                )));
            }
        }
        Ok(layout)
    }

    /// The folder of `oned.conf`.
    pub fn etc(&self) -> &Path {
        &self.etc
    }

    /// The driver scripts.
    pub fn remotes(&self) -> PathBuf {
        self.var.join("remotes")
    }

    /// Whether it is spread over the system.
    pub fn is_system_wide(&self) -> bool {
        self.location.is_none()
    }

    /// The folder of a self-contained one, else `/`.
    pub fn location(&self) -> &Path {
        self.location.as_deref().unwrap_or(Path::new("/"))
    }

    /// Who the remotes belong to: oneadmin, whatever its number.
    pub fn owner(&self) -> Result<Owner> {
        Owner::of(&self.remotes())
    }

    /// Where the datastores lie, here and on every node (`DATASTORE_LOCATION` of `oned.conf`).
    pub fn datastores(&self) -> PathBuf {
        self.folder_of("DATASTORE_LOCATION")
            .unwrap_or_else(|| self.var.join("datastores"))
    }

    /// Where the drivers lie on every node (`SCRIPTS_REMOTE_DIR` of `oned.conf`).
    pub fn remote_scripts(&self) -> PathBuf {
        self.folder_of("SCRIPTS_REMOTE_DIR")
            .filter(|folder| join::is_scripts_folder(folder))
            .unwrap_or_else(|| PathBuf::from(run_folders::REMOTE_SCRIPTS))
    }

    fn folder_of(&self, attribute: &str) -> Option<PathBuf> {
        std::fs::read_to_string(self.etc.join("oned.conf"))
            .ok()
            .and_then(|text| Template::new(&text).ok())
            .and_then(|template| template.single(attribute))
            .filter(|value| value.starts_with('/'))
            .map(PathBuf::from)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_without_opennebula_is_told_so() {
        let dir = tempfile::tempdir().unwrap();
        let error = Layout::find(&Host::at(dir.path()), None).unwrap_err();
        assert!(error.line().contains("no OpenNebula front-end"), "{error}");
    }

    #[test]
    fn the_folders_on_nodes_are_those_of_oned_conf() {
        let dir = tempfile::tempdir().unwrap();
        let host = Host::at(dir.path());
        let (etc, remotes) = (host.path("/etc/one"), host.path("/var/lib/one/remotes/vmm"));
        std::fs::create_dir_all(&etc).unwrap();
        std::fs::create_dir_all(remotes).unwrap();
        let with = |text: &str| {
            std::fs::write(etc.join("oned.conf"), text).unwrap();
            let layout = Layout::find(&host, None).unwrap();
            (layout.datastores(), layout.remote_scripts())
        };
        let usual = (host.path("/var/lib/one/datastores"), "/var/tmp/one".into());
        assert_eq!(with("PORT = 2633\n"), usual);
        assert_eq!(with("SCRIPTS_REMOTE_DIR=\"/var/../etc\"\n"), usual);
        assert_eq!(
            with("DATASTORE_LOCATION = /srv/ds\nSCRIPTS_REMOTE_DIR=/srv/scripts\n"),
            ("/srv/ds".into(), "/srv/scripts".into())
        );
    }
}
