//! The files that OpenNebula calls. Each is three lines of `sh` that start one binary with the
//! name of the action: `onehost sync` follows links and would copy a linked binary dozens of
//! times (`rsync -L`, `src/mad/ruby/HostSyncManager.rb`).

use super::oned::OTHER_SYSTEMS;

/// The VMM's actions: every one that `one_vmm_exec` can call, because a missing file makes it
/// copy all remotes to the node before it fails; and `set_qos`, which the network drivers call by our
/// class of NICs.
const VMM: [&str; 24] = [
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
    "set_qos",
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

/// What `oned` calls with the TM_MAD of the system datastore behind a dot (`clone.ssh`) where an
/// image of ours lies in a datastore of another kind (`src/tm/TransferManager.cc`). `one_tm` calls
/// the plain script when there is none with the suffix, under its plain name, so that only a
/// file for each suffix tells the transfer manager whose folder it works in.
const SUFFIXED: [&str; 11] = [
    "clone",
    "cpds",
    "delete",
    "ln",
    "mv",
    "mvds",
    "resize",
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
type Files = Vec<(String, String)>;

/// Every folder beneath the remotes with the shims in it.
pub(super) fn all() -> Vec<(String, Files)> {
    let family = |folder: &str, binary: &str, actions: Vec<String>| {
        let text = |a: String| (a.clone(), shim(binary, &a));
        (folder.to_owned(), actions.into_iter().map(text).collect())
    };
    let plain = |actions: &[&str]| actions.iter().map(|a| (*a).to_owned()).collect();
    vec![
        family("vmm/onedock", "onedock-vmm", plain(&VMM)),
        family("tm/onedock", "onedock-tm", transfer_scripts()),
        family("datastore/onedock", "onedock-datastore", plain(&DATASTORE)),
    ]
}

/// The plain scripts, and those for each other kind of system datastore.
fn transfer_scripts() -> Vec<String> {
    let plain = TM.iter().map(|a| (*a).to_owned());
    let suffixed = OTHER_SYSTEMS
        .iter()
        .flat_map(|system| SUFFIXED.iter().map(move |a| format!("{a}.{system}")));
    plain.chain(suffixed).collect()
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
        let counts: Vec<usize> = all()
            .iter()
            .map(|(_, files)| files.iter().map(|(n, _)| n).collect::<BTreeSet<_>>().len())
            .collect();
        assert_eq!(counts, [24, 25 + 3 * 11, 15]);
    }

    #[test]
    fn a_suffixed_script_tells_its_binary_the_suffix_and_only_where_the_plain_one_exists() {
        let scripts = transfer_scripts();
        assert!(scripts.contains(&"snap_create_live.local".to_owned()));
        assert!(shim("onedock-tm", "mv.ssh").contains("/onedock-tm\" mv.ssh \"$@\""));
        assert!(SUFFIXED.iter().all(|a| TM.contains(a)));
        // Volatile disks and the context there are the stock transfer manager's.
        assert!(
            !scripts
                .iter()
                .any(|s| s.starts_with("mkimage.") || s.starts_with("context."))
        );
    }
}
