//! Which operation of which release passes. `tests/replay/table.md` is this table; a test keeps
//! the file true, and a replay fails that performs other operations than the table says.

use std::fmt::Write as _;

use State::{NotRecorded, NotYet, Passes};

/// The releases of the recordings.
pub const RELEASES: [&str; 2] = ["7.4.0", "6.10"];

/// Where an operation stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Its calls are replayed and what is there afterwards is right.
    Passes,
    /// Its calls are not replayed.
    NotYet,
    /// The release has no such operation, or it was not recorded.
    NotRecorded,
}

/// An operation as a user asks for it.
#[derive(Debug, Clone, Copy)]
pub struct Row {
    /// Its name in the recordings.
    pub operation: &'static str,
    /// In the order of [`RELEASES`].
    pub states: [State; 2],
    /// What is left out or replaced.
    pub note: &'static str,
}

const fn row(operation: &'static str, state: State, note: &'static str) -> Row {
    Row {
        operation,
        states: [state; 2],
        note,
    }
}

/// Every operation of the recordings, in their order.
pub const ROWS: &[Row] = &[
    row("setup", Passes, ""),
    row("create", Passes, ""),
    row("reboot", Passes, ""),
    row("reboot-hard", Passes, ""),
    row("disk-attach", Passes, ""),
    row("disk-detach", Passes, ""),
    row("nic-attach", Passes, ""),
    row("nic-detach", Passes, ""),
    row("nic-alias", Passes, ""),
    row("snapshot-create", NotYet, ""),
    row("snapshot-revert", NotYet, ""),
    row("snapshot-delete", NotYet, ""),
    row(
        "disk-saveas",
        Passes,
        "the new image is compared by the engine alone",
    ),
    row(
        "disk-resize",
        Passes,
        "xfs where root lacks CAP_SYS_RESOURCE",
    ),
    row("resize-live", Passes, ""),
    row("updateconf", Passes, ""),
    Row {
        operation: "exec",
        states: [NotYet, NotRecorded],
        note: "",
    },
    row("suspend", Passes, "frozen"),
    row("resume", Passes, ""),
    row("stop", Passes, ""),
    row("resume-stopped", Passes, ""),
    row("poweroff", Passes, ""),
    row("disk-snapshot-create-off", Passes, ""),
    row("disk-snapshot-delete", Passes, ""),
    row("migrate-off", Passes, ""),
    row("resume-poff", Passes, "on the other host"),
    row("poweroff-hard", Passes, ""),
    row("resume-poff2", Passes, ""),
    row("undeploy", Passes, ""),
    row(
        "resume-undeploy",
        Passes,
        "on the host to which `migrate-live` would have brought it",
    ),
    row("migrate-live", NotYet, ""),
    row("migrate-cold", Passes, ""),
    row("terminate", Passes, ""),
    row("create-persistent", Passes, ""),
    row(
        "terminate-hard-persistent",
        Passes,
        "and created again, with what was written",
    ),
    row("image-clone", Passes, ""),
    row("image-delete", Passes, "and of every other image"),
    row("setup-disks", Passes, ""),
    row("create-disks", Passes, ""),
    row("disk-snapshot-create-live", Passes, ""),
    row("disk-snapshot-create-live2", Passes, ""),
    row("disk-saveas-live", Passes, ""),
    row("disk-saveas-live-disk", Passes, ""),
    row("disk-saveas-live-snapshot", Passes, ""),
    row("disk-saveas-live-snapshot-disk", Passes, ""),
    row("poweroff-disks", Passes, ""),
    row("disk-snapshot-create-off2", Passes, ""),
    row("disk-snapshot-revert", Passes, ""),
    row("disk-saveas-off", Passes, ""),
    row("disk-saveas-off-disk", Passes, ""),
    row("disk-saveas-off-snapshot", Passes, ""),
    row("disk-saveas-off-snapshot-disk", Passes, ""),
    row("disk-snapshot-delete-off", Passes, ""),
    row("resume-disks", Passes, ""),
    row("disk-snapshot-delete-live", Passes, ""),
    row("resize-root", Passes, ""),
    row("suspend-disks", Passes, ""),
    row("resume-suspended", Passes, ""),
    row("detach-tree", Passes, ""),
    row("attach-tree", Passes, ""),
    row("attach-persistent", Passes, ""),
    row("detach-persistent", Passes, ""),
    row("undeploy-disks", Passes, ""),
    row("resume-undeploy-disks", Passes, ""),
    row("undeploy-hard", Passes, ""),
    row("terminate-undeployed", Passes, ""),
    row("create-persistent-disks", Passes, ""),
    row("persistent-snapshot-live", Passes, ""),
    row("persistent-snapshot-live2", Passes, ""),
    row("persistent-snapshot-live3", Passes, ""),
    row("terminate-persistent-disks", Passes, ""),
    row("image-snapshot-revert", Passes, ""),
    row("image-snapshot-delete", Passes, ""),
    row("create-persistent-again", Passes, ""),
    row("terminate-persistent-again", Passes, ""),
    row("image-snapshot-flatten", Passes, ""),
    row("image-clone-disk", Passes, ""),
    row("image-delete-disk", Passes, ""),
    row("market-export", Passes, ""),
    row("ssh-create", Passes, ""),
    row("ssh-snapshot-live", Passes, ""),
    row("ssh-saveas-live", Passes, ""),
    row("ssh-poweroff", Passes, ""),
    row("ssh-snapshot-off", Passes, ""),
    row("ssh-snapshot-revert", Passes, ""),
    row("ssh-migrate-off", Passes, ""),
    row("ssh-resume", Passes, ""),
    row("ssh-attach", Passes, ""),
    row("ssh-detach", Passes, ""),
    row("ssh-disk-resize", Passes, ""),
    row("ssh-undeploy", Passes, ""),
    row("ssh-resume-undeploy", Passes, ""),
    row("ssh-stop", Passes, ""),
    row("ssh-resume-stopped", Passes, ""),
    row("ssh-terminate", Passes, ""),
    row("ssh-create-persistent", Passes, ""),
    row("ssh-terminate-persistent", Passes, ""),
    row("backup-create", NotYet, ""),
    row("backup-live", NotYet, ""),
    row("backup-poweroff", NotYet, ""),
    row("vm-restore", NotYet, ""),
    row("image-restore", NotYet, ""),
    row("backup-terminate", NotYet, ""),
];

/// The operations of a release that pass.
pub fn passing(release: &str) -> Vec<&'static str> {
    let Some(column) = RELEASES.iter().position(|r| *r == release) else {
        return Vec::new();
    };
    ROWS.iter()
        .filter(|row| row.states[column] == Passes)
        .map(|row| row.operation)
        .collect()
}

/// The table as the file has it.
pub fn markdown() -> String {
    let mut text = String::from(
        "# Replay: what passes\n\n\
         Made from `tests/src/replay/table.rs`; a test keeps both alike.\n\n\
         | operation | 7.4.0 | 6.10 | remarks |\n| --- | --- | --- | --- |\n",
    );
    for row in ROWS {
        let [new, old] = row.states.map(|state| match state {
            Passes => "passes",
            NotYet => "not yet",
            NotRecorded => "–",
        });
        let _ = writeln!(
            text,
            "| `{}` | {new} | {old} | {} |",
            row.operation, row.note
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::replay::recording::folder;
    use std::fs;

    #[test]
    fn the_file_is_this_table() {
        let path = folder().join("table.md");
        let there = fs::read_to_string(&path).unwrap_or_default();
        assert!(
            there == markdown(),
            "{} must be:\n{}",
            path.display(),
            markdown()
        );
    }
}
