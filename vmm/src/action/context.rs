//! The folder with a VM's context files. On a system datastore of ours the transfer manager
//! writes the files themselves; on those of OpenNebula's own (`ssh`, `shared`, `local`) it is an
//! ISO image, whose files are brought into a folder that the container keeps in view.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use onedock_common::VmId;
use onedock_common::opennebula::vm::Vm;
use onedock_common::state::descriptor::{Descriptor, DiskKind};
use onedock_common::state::vm_folder;

use super::disks::extract;
use crate::{Host, iso};

/// The folder for the next start.
pub(super) async fn folder<E, R>(
    host: &Host<E, R>,
    vm: &Vm,
    system_dir: &Path,
) -> anyhow::Result<Option<PathBuf>> {
    match &vm.context {
        None => Ok(None),
        Some(context) => {
            let path = vm_folder::disk(system_dir, context.disk);
            of(host, vm.id, path).await.map(Some)
        }
    }
}

/// The folder of the context that lies at `path`, brought up to date.
pub(super) async fn of<E, R>(
    host: &Host<E, R>,
    vm: VmId,
    path: PathBuf,
) -> anyhow::Result<PathBuf> {
    match Descriptor::find(&path)? {
        Some(DiskKind::Folder) => Ok(path),
        Some(DiskKind::File) => {
            let folder = host.paths.context_folder(vm);
            extract(path, folder.clone(), iso::replace)
                .await
                .context("the VM's context")?;
            Ok(folder)
        }
        None | Some(DiskKind::Container(_)) => {
            bail!("the context files of the VM are not at {}", path.display())
        }
    }
}
