//! The least speed of an answer. A registry that sends a byte now and then would hold one of the few
//! threads of a driver for as long as the whole call may take.

use std::time::Duration;

/// What must come in a second, in bytes: as much as ISDN had on two channels.
const LEAST: u64 = 16 * 1024;

/// How fast an answer comes.
#[derive(Debug)]
pub(crate) struct Pace {
    window: Duration,
    waited: Duration,
    bytes: u64,
}

impl Pace {
    /// Of an answer that may be slow for as long as `window`, as time in which it was waited for.
    pub(crate) fn new(window: Duration) -> Self {
        Self {
            window,
            waited: Duration::ZERO,
            bytes: 0,
        }
    }

    /// Counts a chunk that was waited for. `false` when less than the least has come in a whole
    /// window. Time in which nobody asked for a chunk does not count.
    pub(crate) fn keeps(&mut self, bytes: usize, waited: Duration) -> bool {
        self.waited += waited;
        self.bytes += bytes as u64;
        if self.waited < self.window {
            return true;
        }
        let enough = self.bytes >= LEAST * self.window.as_secs();
        *self = Self::new(self.window);
        enough
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_minute_with_less_than_sixteen_kib_a_second_is_too_slow() {
        let second = Duration::from_secs(1);
        let mut pace = Pace::new(60 * second);
        let slow: Vec<bool> = (0..60).map(|_| pace.keeps(16 * 1024 - 1, second)).collect();
        assert_eq!(slow.iter().filter(|keeps| !**keeps).count(), 1);
        assert!(!slow[59]);
        // The next window begins anew, and a quick one is never too slow.
        assert!((0..600).all(|_| pace.keeps(16 * 1024, second)));
        assert!(pace.keeps(0, 30 * second) && pace.keeps(16 * 1024 * 60, 30 * second));
    }
}
