//! When `onedock-init` can be told to stop. The kernel drops a signal to the first process of a
//! container that is neither caught nor blocked, so one that is sent between the end of `start`
//! and the first instruction of the program would be lost: `start` ends after that instruction.

use std::fs;
use std::time::Duration;

use onedock_common::ContainerId;
use onedock_common::state::boot::{BootSpec, FirstProcess};
use onedock_common::state::paths::Paths;
use onedock_common::wait;

use crate::namespace::Process;

/// The longest wait. It takes a millisecond; on a machine that is too busy for this a stop that
/// comes at once may take as long as the engine waits before it kills.
const LIMIT: Duration = Duration::from_secs(2);

/// All signals but KILL (9) and STOP (19), which cannot be blocked.
const ALL: u64 = !(1 << 8 | 1 << 18);

/// Waits until `onedock-init`, where it is the first process, has blocked all signals, has ended, or has
/// given way to an init system of the image. Other first processes are not waited for. Whether it came so
/// far.
pub(crate) fn wait(id: &ContainerId, process: &Process) -> bool {
    let spec = BootSpec::read(&Paths::system(), id);
    let has_init =
        |spec: &BootSpec| matches!(spec.first, FirstProcess::Init | FirstProcess::KeepAlive);
    if !matches!(spec, Ok(Some(spec)) if has_init(&spec)) {
        return true;
    }
    let ready = wait::until(LIMIT, || {
        let status = fs::read_to_string(format!("/proc/{}/status", process.id()));
        let ready = status.is_ok_and(|text| blocks_all(&text) || is_another(&text));
        (ready && !process.waits() || !process.lives()).then_some(())
    });
    ready.is_some()
}

/// Whether `/proc/<pid>/status` is not that of `onedock-init`.
fn is_another(status: &str) -> bool {
    let name = status.lines().find_map(|line| line.strip_prefix("Name:"));
    name.is_some_and(|name| name.trim() != "onedock-init")
}

/// Whether `/proc/<pid>/status` is that of `onedock-init` when it has blocked all signals. While it
/// waits for one, the kernel shows them as not blocked (`real_blocked`, kernel/signal.c); it sleeps
/// for nothing else. The runtime's own process blocks signals as well before it becomes the program.
fn blocks_all(status: &str) -> bool {
    let field = |key: &str| status.lines().find_map(|line| line.strip_prefix(key));
    let mask = field("SigBlk:").and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    let sleeps = field("State:").is_some_and(|state| state.trim().starts_with('S'));
    field("Name:").is_some_and(|name| name.trim() == "onedock-init")
        && (mask == Some(ALL) || sleeps)
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn the_program_itself_with_all_signals_blocked_is_ready_and_nothing_else() {
        let status = |name: &str, state: &str, mask: &str| {
            format!("Name:\t{name}\nState:\t{state}\nSigBlk:\t{mask}\n")
        };
        let (running, sleeping) = ("R (running)", "S (sleeping)");
        let (all, none) = ("fffffffffffbfeff", "0000000000000000");
        assert!(blocks_all(&status("onedock-init", running, all)));
        assert!(blocks_all(&status("onedock-init", sleeping, none)));
        assert!(!blocks_all(&status("onedock-init", running, none)));
        assert!(!blocks_all(&status("onedock-init", "D (disk sleep)", none)));
        assert!(!blocks_all(&status("runc:[2:INIT]", running, all)));
        assert!(!blocks_all(&status("runc:[2:INIT]", sleeping, all)));
        assert!(!blocks_all(""));
        assert!(is_another(&status("systemd", running, none)));
        assert!(!is_another(&status("onedock-init", running, none)) && !is_another(""));
    }

    #[test]
    fn the_real_program_becomes_ready() {
        let mut child = Command::new(onedock_init::PROGRAM)
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        let path = format!("/proc/{}/status", child.id());
        let status = || fs::read_to_string(&path).unwrap();
        let ready = wait::until(Duration::from_secs(20), || {
            blocks_all(&status()).then_some(())
        });
        assert!(ready.is_some(), "{}", status());
        nix::sys::signal::kill(
            nix::unistd::Pid::from_raw(child.id().cast_signed()),
            nix::sys::signal::Signal::SIGTERM,
        )
        .unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(0));
    }
}
