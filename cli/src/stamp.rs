//! Time stamps in the names of backups.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use onedock_common::types::date::rfc3339;

/// Now as `20261121T104033Z`: sorts by time, and holds nothing that a shell would treat.
pub fn now() -> String {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    stamp(since.map_or(0, |since| since.as_secs()))
}

fn stamp(seconds: u64) -> String {
    rfc3339(Duration::from_secs(seconds)).replace(['-', ':'], "")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_stamp_has_digits_and_two_letters() {
        assert_eq!(stamp(0), "19700101T000000Z");
        assert_eq!(stamp(1_795_257_633), "20261121T104033Z");
    }
}
