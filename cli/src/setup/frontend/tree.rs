//! Our part of the remotes: binaries, shims, the NIC's class and `onedock.conf`. It stands within
//! an OpenNebula's, or alone where a node is tried without one (`onedock run`).

use std::path::Path;

use onedock_common::types::reference::RegistryName;

use super::configuration::{self, Facts};
use super::{drivers, shims};
use crate::error::Result;
use crate::file_step::{Folder, PutFile};
use crate::owner::Owner;
use crate::step::Steps;

/// The Ruby that registers the NICs of containers with OpenNebula's network drivers.
const NIC_PLUGIN: &str = include_str!("../../../../packaging/vnmmad-onedock.rb");

/// The tree beneath `remotes`, with the drivers that are in `from`.
pub fn steps(
    remotes: &Path,
    from: &Path,
    registry: Option<RegistryName>,
    owner: &Owner,
) -> Result<Steps> {
    let mut steps: Steps = Vec::new();

    for binary in drivers::find(from)? {
        let folder = remotes.join("onedock").join(binary.arch);
        if !steps
            .iter()
            .any(|s| s.subject() == folder.display().to_string())
        {
            for path in [remotes.join("onedock"), folder.clone()] {
                steps.push(Folder::new(path, 0o755, owner.clone()));
            }
        }
        let source = binary.source.clone();
        let read = move || drivers::read(&source);
        steps.push(PutFile::from(
            folder.join(binary.name),
            read,
            0o755,
            owner.clone(),
        ));
    }
    for (folder, shims) in shims::all() {
        steps.push(Folder::new(remotes.join(&folder), 0o755, owner.clone()));
        for (name, text) in shims {
            steps.push(PutFile::new(
                remotes.join(&folder).join(name),
                text,
                0o755,
                owner.clone(),
            ));
        }
    }
    // The agent's own crate says what the monitoring of either release wants to find.
    let control = remotes.join(onedock_im::CONTROL_SHIM_PATH);
    let folder = remotes.join("im/onedock.d");
    steps.push(Folder::new(folder, 0o755, owner.clone()));
    steps.push(PutFile::new(
        control,
        onedock_im::CONTROL_SHIM,
        0o755,
        owner.clone(),
    ));
    for folder in onedock_im::PROBE_DIRS {
        let mut path = remotes.to_path_buf();
        for part in Path::new(folder).iter() {
            path.push(part);
            let is_stock = part == "im";
            if !is_stock
                && !steps
                    .iter()
                    .any(|s| s.subject() == path.display().to_string())
            {
                steps.push(Folder::new(path.clone(), 0o755, owner.clone()));
            }
        }
    }
    let plugins = remotes.join("vnm/vnmmad-load.d");
    if !plugins.is_dir() {
        steps.push(Folder::new(plugins.clone(), 0o755, owner.clone()));
    }
    // It is loaded, not run, but `onehost sync` and the administrator see one mode everywhere.
    steps.push(PutFile::new(
        plugins.join("onedock.rb"),
        NIC_PLUGIN,
        0o755,
        owner.clone(),
    ));

    let facts = Facts {
        registry,
        data: None,
    };
    steps.extend(configuration::steps(remotes, facts, owner));
    Ok(steps)
}
