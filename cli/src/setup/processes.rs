//! The processes of this machine, as `/proc` shows them: those of this pid namespace, because
//! within containers the same number of a user is somebody else.

use std::fs;
use std::path::{Path, PathBuf};

/// One process.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Process {
    pub(super) pid: i32,
    /// Its short name (`comm`).
    pub(super) name: String,
    /// The text of `status`.
    pub(super) status: String,
    /// Its command line, words ended by NUL.
    pub(super) command_line: String,
    /// Its environment as it was at the start, words ended by NUL.
    pub(super) environment: String,
    /// What `/proc/<pid>/exe` points at.
    pub(super) program: Option<PathBuf>,
}

impl Process {
    fn read(folder: &Path, pid: i32) -> Option<Self> {
        let text = |name: &str| {
            let bytes = fs::read(folder.join(name)).unwrap_or_default();
            String::from_utf8_lossy(&bytes).into_owned()
        };
        Some(Self {
            pid,
            name: text("comm").trim().to_owned(),
            status: fs::read_to_string(folder.join("status")).ok()?,
            command_line: text("cmdline"),
            environment: text("environ"),
            program: fs::read_link(folder.join("exe")).ok(),
        })
    }

    /// Whether it is of this user, and was started before the user was in this group.
    pub(super) fn lacks_group(&self, uid: u32, gid: u32) -> bool {
        let numbers = |key: &str| -> Vec<u32> {
            self.status
                .lines()
                .find_map(|line| line.strip_prefix(key))
                .into_iter()
                .flat_map(str::split_whitespace)
                .filter_map(|n| n.parse().ok())
                .collect()
        };
        numbers("Uid:").first() == Some(&uid) && !numbers("Groups:").contains(&gid)
    }

    /// The value of a variable of its environment.
    pub(super) fn variable(&self, name: &str) -> Option<&str> {
        self.environment
            .split('\0')
            .find_map(|word| word.strip_prefix(name)?.strip_prefix('='))
    }
}

/// Every process of this machine, without those in containers.
pub(super) fn all() -> Vec<Process> {
    let own = fs::read_link("/proc/self/ns/pid").ok();
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|n| n.parse().ok()) else {
            continue;
        };
        if fs::read_link(entry.path().join("ns/pid")).ok() != own {
            continue;
        }
        found.extend(Process::read(&entry.path(), pid));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_processes_of_the_user_without_the_group_lack_it() {
        let process = Process {
            status: "Name:\tsshd\nUid:\t999\t999\t999\t999\nGroups:\t995 110 \n".into(),
            ..Process::default()
        };
        assert!(!process.lacks_group(999, 110));
        assert!(process.lacks_group(999, 111));
        assert!(!process.lacks_group(0, 111));
    }

    #[test]
    fn this_process_is_among_all_with_what_is_known_of_it() {
        let own = i32::try_from(std::process::id()).unwrap();
        let found = all().into_iter().find(|p| p.pid == own).unwrap();
        assert_eq!(found.program, std::env::current_exe().ok());
        assert!(!found.command_line.is_empty());
        assert_eq!(
            found.variable("PATH").map(str::to_owned),
            std::env::var("PATH").ok()
        );
        assert_eq!(found.variable("ONEDOCK_THERE_IS_NONE"), None);
    }
}
