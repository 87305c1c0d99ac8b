//! What process 1 does.

use crate::system;

/// Signals that end it, whatever STOPSIGNAL the image has: all that are not about children,
/// terminals, job control or faults. Bit n - 1 is signal n.
const IGNORED: u64 = bits(&[
    17, // CHLD, answered by reaping
    18, // CONT
    20, 21, 22, // TSTP, TTIN, TTOU
    23, // URG
    28, // WINCH
    4, 5, 7, 8, 11, 31, // ILL, TRAP, BUS, FPE, SEGV, SYS: a fault is one
]);

const fn bits(signals: &[u32]) -> u64 {
    let mut all = 0;
    let mut at = 0;
    while at < signals.len() {
        all |= 1 << (signals[at] - 1);
        at += 1;
    }
    all
}

/// Whether this signal asks it to stop.
pub(crate) const fn stops(signal: u32) -> bool {
    signal >= 1 && signal <= 64 && IGNORED & (1 << (signal - 1)) == 0
}

/// Lives until it is told to stop. All signals are blocked, so that none is lost between two
/// waits, and are taken one by one.
pub(crate) fn run() -> ! {
    system::block_all_signals();
    // Children of an earlier program in this process may have ended before the signals were
    // blocked.
    reap();
    loop {
        match system::next_signal() {
            Some(signal) if stops(signal) => system::exit(0),
            _ => reap(),
        }
    }
}

fn reap() {
    while system::reap_one() {}
}

#[cfg(test)]
mod tests {
    use super::stops;

    #[test]
    fn every_signal_ends_it_but_those_of_children_terminals_job_control_and_faults() {
        let ignored = [4, 5, 7, 8, 11, 17, 18, 20, 21, 22, 23, 28, 31];
        for signal in 1..=64 {
            assert_eq!(stops(signal), !ignored.contains(&signal), "{signal}");
        }
    }

    #[test]
    fn every_usual_stop_signal_ends_it_and_no_other() {
        // HUP, INT, QUIT, USR1, USR2, TERM, PWR, RTMIN+3 of glibc (37).
        for signal in [1, 2, 3, 10, 12, 15, 30, 37, 64] {
            assert!(stops(signal), "{signal}");
        }
        for signal in [17, 18, 20, 28, 11, 0, 65] {
            assert!(!stops(signal), "{signal}");
        }
    }
}
