//! Trying a connection again that the host's sshd has refused.
//!
//! With its default `MaxStartups 10:30:100` an sshd closes connections at random as soon as ten are
//! not logged in yet, which a burst of VMs makes. Such a call has had no effect, so it is repeated;
//! one that the host may have begun to serve is not.

use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::location::HostName;

/// Between the first two tries, and the most between any two.
const FIRST: Duration = Duration::from_millis(200);
const MOST: Duration = Duration::from_secs(5);
/// For how long one call is tried again. A burst of a hundred logins is over by then, and of a
/// host that refuses everybody the user is told.
const PATIENCE: Duration = Duration::from_secs(120);

/// What ssh says when the connection ended before anybody was logged in. Everything else that ssh
/// complains about (no route, wrong key, unknown name) does not go away by itself.
const REFUSED: &[&str] = &[
    "kex_exchange_identification:",
    "ssh_exchange_identification:",
    "banner exchange",
    "Connection closed by",
    "Connection reset by",
];

/// Whether ssh's complaint may be about a connection that the host has closed before the log-in. With
/// `LogLevel ERROR` in its configuration OpenSSH 10 says nothing of one. Silence alone proves nothing
/// (a command that was killed makes ssh end as silently): who asks has seen that nothing of the
/// request was read.
pub(super) fn is_refused(complaint: &str) -> bool {
    complaint.trim().is_empty()
        || complaint
            .lines()
            .any(|line| REFUSED.iter().any(|words| line.contains(words)))
}

/// The pauses between the tries of one call.
#[derive(Debug)]
pub(super) struct Pauses {
    next: Duration,
    until: Instant,
}

impl Pauses {
    pub(super) fn new() -> Self {
        Self {
            next: FIRST,
            until: Instant::now() + PATIENCE,
        }
    }

    /// Waits before the next try. False when `host` was tried for long enough.
    pub(super) async fn pause(&mut self, host: &HostName) -> bool {
        let Some(pause) = self.next() else {
            return false;
        };
        let (host, ms) = (host.as_str(), pause.as_millis());
        tracing::info!(host, ms, "the connection was refused; trying again");
        sleep(pause).await;
        true
    }

    fn next(&mut self) -> Option<Duration> {
        let pause = jittered(self.next, random());
        self.next = (self.next * 2).min(MOST);
        (Instant::now() + pause < self.until).then_some(pause)
    }
}

/// From half of `pause` to one and a half of it: calls that were refused together must not come
/// back together.
fn jittered(pause: Duration, random: u32) -> Duration {
    pause / 2 + pause.mul_f64(f64::from(random) / f64::from(u32::MAX))
}

/// The standard library seeds its hash tables at random.
fn random() -> u32 {
    let [a, b, c, d, ..] = RandomState::new().build_hasher().finish().to_ne_bytes();
    u32::from_ne_bytes([a, b, c, d])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_ends_before_the_log_in_is_a_refusal() {
        for refused in [
            "kex_exchange_identification: Connection closed by remote host\r\nConnection closed by 10.0.0.2 port 22\r\n",
            "kex_exchange_identification: read: Connection reset by peer",
            "ssh_exchange_identification: Connection closed by remote host",
            "Connection timed out during banner exchange\r\nConnection to 10.0.0.2 port 22 timed out",
            "Connection reset by 10.0.0.2 port 22",
            "Warning: something\nConnection closed by 10.0.0.2 port 22",
            "",
            "\r\n",
        ] {
            assert!(is_refused(refused), "{refused}");
        }
        for other in [
            "ssh: Could not resolve hostname node7: Name or service not known",
            "ssh: connect to host node7 port 22: No route to host",
            "ssh: connect to host node7 port 22: Connection refused",
            "oneadmin@node7: Permission denied (publickey).",
            "Host key verification failed.",
            "Connection to node7 closed by remote host.",
            "client_loop: send disconnect: Broken pipe",
            "Timeout, server node7 not responding.",
        ] {
            assert!(!is_refused(other), "{other}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn pauses_grow_differ_and_end() {
        let mut pauses = Pauses::new();
        let (mut all, mut expected) = (Vec::new(), FIRST);
        while let Some(pause) = pauses.next() {
            assert!(
                pause >= expected / 2 && pause <= expected * 3 / 2,
                "{pause:?}"
            );
            expected = (expected * 2).min(MOST);
            all.push(pause);
            tokio::time::advance(pause).await;
        }
        assert!(all.len() > 20 && all.iter().sum::<Duration>() <= PATIENCE);
        let last = &all[all.len() - 8..];
        assert!(last.iter().any(|pause| *pause != last[0]), "{last:?}");
        assert_eq!(jittered(MOST, 0), MOST / 2);
        assert_eq!(jittered(MOST, u32::MAX), MOST * 3 / 2);
    }
}
