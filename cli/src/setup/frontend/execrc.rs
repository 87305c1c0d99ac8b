//! `vmm_exec/vmm_execrc`: for which disks a snapshot of a running VM is let through
//! (`LIVE_DISK_SNAPSHOTS`, pairs of VM_MAD and TM_MAD).
//!
//! The TM_MAD that `one_vmm_exec` compares is the disk's own, which is that of its image's
//! datastore, whatever the system datastore's is (`disk_snapshot_create`). So one pair lets
//! through all that our transfer manager keeps, also in system datastores of kind `ssh`,
//! `shared` and `local`. A disk of a stock datastore under a container is refused there, because
//! the stock `snap_create_live` would ask virsh (`onedock-ssh` and the like stand nowhere);
//! volatile disks `oned` itself refuses.

use crate::edit::shell_rc;
use crate::error::Result;
use crate::file_step::Edited;

/// The file with our pair.
pub(super) fn edit(text: &str) -> Result<Edited> {
    let edited = shell_rc::add_word(text, "LIVE_DISK_SNAPSHOTS", "onedock-onedock");
    let changes = if edited == text {
        Vec::new()
    } else {
        vec!["LIVE_DISK_SNAPSHOTS onedock-onedock".to_owned()]
    };
    Ok(Edited {
        text: edited,
        changes,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_pair_joins_the_others_once() {
        let text =
            "# pairs\nLIVE_DISK_SNAPSHOTS=\"kvm-qcow2 lxc-ssh\"\nVNMAD_LOCAL_ACTIONS=\"a\"\n";
        let out = edit(text).unwrap();
        assert_eq!(out.text, text.replace("lxc-ssh", "lxc-ssh onedock-onedock"));
        assert_eq!(edit(&out.text).unwrap().changes.len(), 0);
        let ours = out.text.matches(" onedock-").count();
        assert_eq!(ours, 1, "a stock transfer manager knows no containers");
    }
}
