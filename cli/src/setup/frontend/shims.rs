//! The files that OpenNebula calls. Each is three lines of `sh` that start one binary with the
//! name of the action: `onehost sync` follows links and would copy a linked binary dozens of
//! times (`rsync -L`, `src/mad/ruby/HostSyncManager.rb`).

/// The VMM's actions: every one that `one_vmm_exec` can call, because a missing file makes it
/// copy all remotes to the node before it fails.
const VMM: [&str; 23] = [
    "attach_disk",
    "attach_nic",
    "cancel",
    "deploy",
    "detach_disk",
    "detach_nic",
    "exec",
    "exec_cancel",
    "migrate",
    "migrate_local",
    "poll",
    "prereconfigure",
    "reboot",
    "reconfigure",
    "reset",
    "resize",
    "resize_disk",
    "restore",
    "save",
    "shutdown",
    "snapshot_create",
    "snapshot_delete",
    "snapshot_revert",
];

/// The transfer manager's scripts; `node` is the half that runs on the node, over ssh.
const TM: [&str; 25] = [
    "clone",
    "context",
    "cpds",
    "delete",
    "failmigrate",
    "ln",
    "mkimage",
    "mkswap",
    "monitor",
    "monitor_ds",
    "mv",
    "mvds",
    "node",
    "postbackup",
    "postbackup_live",
    "postmigrate",
    "prebackup",
    "prebackup_live",
    "premigrate",
    "resize",
    "restore",
    "snap_create",
    "snap_create_live",
    "snap_delete",
    "snap_revert",
];

/// The datastore's actions.
const DATASTORE: [&str; 15] = [
    "backup",
    "backup_cancel",
    "clone",
    "cp",
    "export",
    "increment_flatten",
    "ls",
    "mkfs",
    "monitor",
    "restore",
    "rm",
    "snap_delete",
    "snap_flatten",
    "snap_revert",
    "stat",
];

/// The files of one folder: their names and texts.
type Files = Vec<(&'static str, String)>;

/// Every folder beneath the remotes with the shims in it.
pub(super) fn all() -> Vec<(String, Files)> {
    let family = |folder: &str, binary: &str, actions: &[&'static str]| {
        let files = actions.iter().map(|a| (*a, shim(binary, a))).collect();
        (folder.to_owned(), files)
    };
    vec![
        family("vmm/onedock", "onedock-vmm", &VMM),
        family("tm/onedock", "onedock-tm", &TM),
        family("datastore/onedock", "onedock-datastore", &DATASTORE),
    ]
}

fn shim(binary: &str, action: &str) -> String {
    format!(
        "#!/bin/sh\n# ONEDock: {action} is done by {binary}, built for this machine's processor.\n\
         exec \"${{0%/*}}/../../onedock/$(uname -m)/{binary}\" {action} \"$@\"\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn names_are_unique_and_complete() {
        for (list, count) in [(&VMM[..], 23), (&TM[..], 25), (&DATASTORE[..], 15)] {
            assert_eq!(list.iter().collect::<BTreeSet<_>>().len(), count);
        }
    }
}
