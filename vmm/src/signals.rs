//! Whether a container's first process ignores its stop signal. A shell at a terminal ignores TERM;
//! waiting for it to end changes nothing.

use std::fs;
use std::str::FromStr as _;

use nix::sys::signal::Signal;

/// The first real-time signal as the C library numbers it (the engine does the same).
const RTMIN: u32 = 34;
const RTMAX: u32 = 64;

/// Whether the process `pid` of this host may hear the signal that the image names as STOPSIGNAL.
/// Yes, unless it ignores it expressly.
///
/// One that neither catches nor blocks it is given its time all the same, although the kernel drops
/// such a signal to the first process of a PID namespace: it may be about to install its handler,
/// and while a process waits in `sigwait` the kernel shows what it waits for as not blocked.
pub(crate) fn hears(pid: u32, stop_signal: Option<&str>) -> bool {
    let Some(number) = number(stop_signal.unwrap_or("TERM")) else {
        return true;
    };
    match fs::read_to_string(format!("/proc/{pid}/status")) {
        Ok(status) => heard(&status, number),
        Err(_) => true,
    }
}

/// The same of what `/proc/<pid>/status` says. A signal that is ignored and blocked can be fetched
/// (`signalfd`, `sigwait`). KILL and STOP cannot be ignored.
fn heard(status: &str, number: u32) -> bool {
    let has = |key: &str| {
        let mask = status.lines().find_map(|line| line.strip_prefix(key))?;
        let mask = u64::from_str_radix(mask.trim(), 16).ok()?;
        Some(mask >> (number - 1) & 1 == 1)
    };
    match (has("SigIgn:"), has("SigBlk:")) {
        (Some(ignored), Some(blocked)) => !ignored || blocked,
        _ => true,
    }
}

/// A signal by its number or its name, with or without `SIG`: `15`, `TERM`, `SIGRTMIN+3`.
fn number(name: &str) -> Option<u32> {
    if let Ok(number) = name.parse::<u32>() {
        return (1..=RTMAX).contains(&number).then_some(number);
    }
    let upper = name.to_ascii_uppercase();
    let short = upper.strip_prefix("SIG").unwrap_or(&upper);
    let offset = |text: &str, sign: char| {
        if text.is_empty() {
            return Some(0);
        }
        let digits = text.strip_prefix(sign)?;
        digits.parse::<u32>().ok().filter(|n| *n <= RTMAX - RTMIN)
    };
    if let Some(more) = short.strip_prefix("RTMIN") {
        return offset(more, '+').map(|n| RTMIN + n);
    }
    if let Some(less) = short.strip_prefix("RTMAX") {
        return offset(less, '-').map(|n| RTMAX - n);
    }
    let signal = Signal::from_str(&format!("SIG{short}")).ok()?;
    u32::try_from(signal as i32).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read as _;
    use std::process::{Command, Stdio};

    #[test]
    fn every_way_to_write_a_signal_is_read_and_nothing_else() {
        for (name, expected) in [
            ("TERM", Some(15)),
            ("SIGQUIT", Some(3)),
            ("sigint", Some(2)),
            ("9", Some(9)),
            ("RTMIN", Some(34)),
            ("SIGRTMIN+3", Some(37)),
            ("SIGRTMAX-1", Some(63)),
            ("0", None),
            ("65", None),
            ("RTMIN+30", Some(64)),
            ("RTMIN+31", None),
            ("RTMAX-30", Some(34)),
            ("RTMAX-31", None),
            ("RTMIN-3", None),
            ("RTMAX+1", None),
            ("64", Some(64)),
            ("NONSENSE", None),
            ("", None),
        ] {
            assert_eq!(number(name), expected, "{name}");
        }
    }

    #[test]
    fn only_a_signal_that_is_ignored_and_not_fetched_is_not_heard() {
        // Masks of an interactive bash, of nginx, of a program that fetches its signals, and of one
        // that waits in `sigtimedwait` (tini), whose mask is shown without what it waits for.
        let status = |blocked: &str, ignored: &str, caught: &str| {
            format!("Name:\tx\nSigBlk:\t{blocked}\nSigIgn:\t{ignored}\nSigCgt:\t{caught}\n")
        };
        let bash = status("0000000000010000", "0000000000384004", "000000004b813efb");
        let nginx = status("0000000000000000", "0000000040001000", "0000000198016a07");
        let fetches = status("fffffffe7ffbfeff", "0000000000004000", "0000000000000000");
        let waits = status("0000000000000000", "0000000000300000", "0000000000000000");
        assert!(!heard(&bash, 15));
        assert!(heard(&bash, 1) && heard(&bash, 9));
        assert!(heard(&nginx, 15) && heard(&nginx, 3));
        assert!(heard(&fetches, 15));
        assert!(heard(&waits, 15));
        assert!(heard("garbage", 15) && heard("SigIgn:\tx\n", 15));
    }

    #[test]
    fn a_running_process_is_examined_and_one_that_is_gone_is_not_called_deaf() {
        let script = "trap '' TERM; echo ready; exec sleep 100";
        let mut child = Command::new("sh")
            .args(["-c", script])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut ready = [0; 6];
        child.stdout.take().unwrap().read_exact(&mut ready).unwrap();
        assert!(!hears(child.id(), None));
        assert!(hears(child.id(), Some("SIGQUIT")));
        assert!(hears(child.id(), Some("NONSENSE")));
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(hears(child.id(), None));
    }
}
