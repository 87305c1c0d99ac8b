//! Sessions of oneadmin that began before it was in the engine's group. OpenNebula keeps ssh
//! connections open for minutes, so the drivers would go on without the group.

use std::fs;
use std::path::{Path, PathBuf};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::account;
use crate::error::Result;
use crate::step::{State, Step, act};

/// A step that ends them. New ones have the group.
pub(super) fn step() -> Box<dyn Step> {
    act(
        "oneadmin's ssh sessions",
        || {
            let old = old_sessions()?;
            let what = format!("close {} that lack group docker", old.len());
            Ok(State::needed_if(!old.is_empty(), what))
        },
        || {
            for pid in old_sessions()? {
                // One that has ended meanwhile is what is wanted.
                let _ = kill(Pid::from_raw(pid), Signal::SIGTERM);
            }
            Ok(())
        },
    )
}

fn old_sessions() -> Result<Vec<i32>> {
    let (Some(uid), Some(gid)) = (account::oneadmin_uid()?, account::docker_gid()?) else {
        return Ok(Vec::new());
    };
    let own = fs::read_link("/proc/self/ns/pid").ok();
    let ancestors = ancestors();
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|n| n.parse().ok()) else {
            continue;
        };
        // Not within containers, where the same number is somebody else; and not the session
        // through which this program was started.
        if fs::read_link(entry.path().join("ns/pid")).ok() != own || ancestors.contains(&pid) {
            continue;
        }
        let Ok(status) = fs::read_to_string(entry.path().join("status")) else {
            continue;
        };
        if is_session(&entry.path()) && lacks_group(&status, uid, gid) {
            found.push(pid);
        }
    }
    Ok(found)
}

/// The server's side of a connection, or a client that holds one open for others.
fn is_session(proc: &Path) -> bool {
    let read = |name: &str| fs::read(proc.join(name)).unwrap_or_default();
    let name = String::from_utf8_lossy(&read("comm")).trim().to_owned();
    match name.as_str() {
        "sshd" | "sshd-session" => true,
        "ssh" => String::from_utf8_lossy(&read("cmdline")).contains("[mux]"),
        _ => false,
    }
}

/// Whether the process is of this user and not of this group.
fn lacks_group(status: &str, uid: u32, gid: u32) -> bool {
    let numbers = |key: &str| -> Vec<u32> {
        status
            .lines()
            .find_map(|line| line.strip_prefix(key))
            .into_iter()
            .flat_map(str::split_whitespace)
            .filter_map(|n| n.parse().ok())
            .collect()
    };
    numbers("Uid:").first() == Some(&uid) && !numbers("Groups:").contains(&gid)
}

fn ancestors() -> Vec<i32> {
    let mut all = Vec::new();
    let mut pid = std::process::id().to_string();
    while let Ok(status) = fs::read_to_string(PathBuf::from("/proc").join(&pid).join("status")) {
        let parent = status
            .lines()
            .find_map(|l| l.strip_prefix("PPid:"))
            .map(str::trim);
        let Some(parent) = parent.filter(|p| *p != "0") else {
            break;
        };
        all.extend(parent.parse::<i32>());
        pid = parent.to_owned();
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_sessions_of_the_user_without_the_group_are_meant() {
        let status = "Name:\tsshd\nUid:\t999\t999\t999\t999\nGroups:\t995 110 \n";
        assert!(!lacks_group(status, 999, 110));
        assert!(lacks_group(status, 999, 111));
        assert!(!lacks_group(status, 0, 111));
    }

    #[test]
    fn the_caller_of_this_program_is_among_the_ancestors() {
        assert!(ancestors().contains(&i32::try_from(std::os::unix::process::parent_id()).unwrap()));
    }
}
