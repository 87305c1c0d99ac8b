//! Sessions of oneadmin that began before it was in the engine's group. OpenNebula keeps ssh
//! connections open for minutes, so the drivers would go on without the group.

use std::fs;
use std::path::PathBuf;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::account;
use crate::error::Result;
use crate::setup::processes::{self, Process};
use crate::step::{State, Step, action};

/// A step that ends them. New ones have the group.
pub(super) fn step() -> Box<dyn Step> {
    action(
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
    // Not the session through which this program was started.
    let ancestors = ancestors();
    Ok(processes::all()
        .iter()
        .filter(|process| !ancestors.contains(&process.pid))
        .filter(|process| is_session(process) && process.lacks_group(uid, gid))
        .map(|process| process.pid)
        .collect())
}

/// The server's side of a connection, or a client that holds one open for others.
fn is_session(process: &Process) -> bool {
    match process.name.as_str() {
        "sshd" | "sshd-session" => true,
        "ssh" => process.command_line.contains("[mux]"),
        _ => false,
    }
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
    fn a_session_is_the_server_s_side_or_a_client_that_holds_a_connection_open() {
        let process = |name: &str, command_line: &str| Process {
            name: name.into(),
            command_line: command_line.into(),
            ..Process::default()
        };
        assert!(is_session(&process("sshd", "sshd: oneadmin\0")));
        assert!(is_session(&process("sshd-session", "")));
        assert!(is_session(&process(
            "ssh",
            "ssh: /run/one/ssh-socks/ctl-M-0.sock [mux]\0"
        )));
        assert!(!is_session(&process("ssh", "ssh\0node\0")));
        assert!(!is_session(&process("oned", "")));
    }

    #[test]
    fn the_caller_of_this_program_is_among_the_ancestors() {
        assert!(ancestors().contains(&i32::try_from(std::os::unix::process::parent_id()).unwrap()));
    }
}
