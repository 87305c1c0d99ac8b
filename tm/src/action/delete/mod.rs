//! `delete host:path vm datastore`: first each disk, then the VM's folder. What is gone is
//! deleted. The host says where the registry has something of the VM's own; that goes first.

pub(super) mod remove;

use onedock_common::opennebula::answer::Answer;

use self::remove::{Delete, Deletion};
use super::{FrontEnd, first, target};

pub(super) async fn run(arguments: &[String], front: &FrontEnd<'_>) -> anyhow::Result<Answer> {
    let [path, vm] = first(arguments, "delete needs <host:path> <vm> <datastore>")?;
    let target = target(path, vm)?;
    let request = |registry_is_clean| Delete {
        path: target.path.clone(),
        system: front.system,
        saved: None,
        registry_is_clean,
    };
    if let Deletion::RegistryFirst(disks) = target.call(&request(false)).await? {
        let images = front.images()?;
        for found in disks {
            let of = (target.path.vm(), found.disk);
            images.remove_disk(&found.repository, of).await?;
        }
        target.call(&request(true)).await?;
    }
    Ok(Answer::done())
}
