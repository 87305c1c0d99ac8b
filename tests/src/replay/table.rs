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
    row(
        "setup",
        Passes,
        "the images of the root disks and monitoring; not the data block and the CD",
    ),
    row("create", Passes, "the root disk, the NICs and the context"),
    row("reboot", Passes, ""),
    row("reboot-hard", Passes, ""),
    row("disk-attach", NotYet, ""),
    row("disk-detach", NotYet, ""),
    row("nic-attach", NotYet, ""),
    row("nic-detach", NotYet, ""),
    row("nic-alias", NotYet, ""),
    row("snapshot-create", NotYet, ""),
    row("snapshot-revert", NotYet, ""),
    row("snapshot-delete", NotYet, ""),
    row("disk-saveas", NotYet, ""),
    row("disk-resize", NotYet, ""),
    row("resize-live", NotYet, ""),
    row("updateconf", NotYet, ""),
    Row {
        operation: "exec",
        states: [NotYet, NotRecorded],
        note: "",
    },
    row("suspend", NotYet, ""),
    row("resume", NotYet, ""),
    row("stop", NotYet, ""),
    row("resume-stopped", NotYet, ""),
    row("poweroff", Passes, ""),
    row("disk-snapshot-create-off", NotYet, ""),
    row("disk-snapshot-delete", NotYet, ""),
    row("migrate-off", NotYet, ""),
    row("resume-poff", Passes, "on the same host"),
    row("poweroff-hard", Passes, "on the same host"),
    row("resume-poff2", Passes, "on the same host"),
    row("undeploy", NotYet, ""),
    row("resume-undeploy", NotYet, ""),
    row("migrate-live", NotYet, ""),
    row("migrate-cold", NotYet, ""),
    row("terminate", Passes, "the root disk and the folder"),
    row("create-persistent", Passes, ""),
    row(
        "terminate-hard-persistent",
        Passes,
        "and created again, with what was written",
    ),
    row("image-clone", NotYet, ""),
    row(
        "image-delete",
        Passes,
        "of the images of the root disks in place of the clone",
    ),
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
