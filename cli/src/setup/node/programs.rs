//! What root runs on a node lies in a folder that root owns: never in `/var/tmp/one`, which
//! oneadmin can write and each synchronisation empties.

use std::fs;
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};
use crate::file_step::{Folder, PutFile};
use crate::host::Host;
use crate::owner::Owner;
use crate::step::Steps;

/// Where they lie.
const FOLDER: &str = "/usr/lib/onedock";

/// The runtime as Docker knows it.
pub(super) const RUNTIME: &str = "/usr/lib/onedock/onedock-runtime";

const NAMES: [&str; 3] = ["onedock-runtime", "onedock-node", "onedock-init"];

/// Where each program is taken from: the folder, or the one in it for this processor.
pub(super) fn find(from: &Path) -> Result<Vec<PathBuf>> {
    NAMES
        .iter()
        .map(|name| {
            [
                from.join(name),
                from.join(std::env::consts::ARCH).join(name),
            ]
            .into_iter()
            .find(|path| path.is_file())
            .ok_or_else(|| {
                Error::refused(format!(
                    "{name} is not in {}; name the folder of ONEDock's programs with --from",
                    from.display()
                ))
            })
        })
        .collect()
}

/// The folder and the programs.
pub(super) fn steps(host: &Host, sources: &[PathBuf]) -> Steps {
    let folder = host.path(FOLDER);
    let mut steps: Steps = vec![Folder::new(folder.clone(), 0o755, Owner::root())];
    for (source, name) in sources.iter().zip(NAMES) {
        let source = source.clone();
        let read = move || fs::read(&source).map_err(Error::file("read", &source));
        steps.push(PutFile::from(folder.join(name), read, 0o755, Owner::root()));
    }
    steps
}
