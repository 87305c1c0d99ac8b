//! The least speed of an answer. A registry that sends a byte now and then would hold one of the few
//! threads of a driver for as long as the whole call may take.

use std::time::Duration;

/// How long an answer may be slow, as time in which it was waited for.
const WINDOW: Duration = Duration::from_secs(60);
/// What must have come within it, in bytes: 16 KiB a second, which is less than an ISDN line of two
/// channels.
const LEAST: u64 = 16 * 1024 * 60;

/// How fast an answer comes.
#[derive(Debug, Default)]
pub(crate) struct Pace {
    waited: Duration,
    bytes: u64,
}

impl Pace {
    /// Counts a chunk that was waited for. `false` when less than the least has come in a whole
    /// window. Time in which nobody asked for a chunk does not count.
    pub(crate) fn keeps(&mut self, bytes: usize, waited: Duration) -> bool {
        self.waited += waited;
        self.bytes += bytes as u64;
        if self.waited < WINDOW {
            return true;
        }
        let enough = self.bytes >= LEAST;
        *self = Self::default();
        enough
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_minute_with_less_than_sixteen_kib_a_second_is_too_slow() {
        let second = Duration::from_secs(1);
        let mut pace = Pace::default();
        let slow: Vec<bool> = (0..60).map(|_| pace.keeps(16 * 1024 - 1, second)).collect();
        assert_eq!(slow.iter().filter(|keeps| !**keeps).count(), 1);
        assert!(!slow[59]);
        // The next window begins anew, and a quick one is never too slow.
        assert!((0..600).all(|_| pace.keeps(16 * 1024, second)));
        assert!(
            pace.keeps(0, WINDOW / 2) && pace.keeps(usize::try_from(LEAST).unwrap(), WINDOW / 2)
        );
    }
}
