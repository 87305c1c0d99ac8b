//! The line that the engine shows to the user: it reads the last `error` of the `--log` file
//! (else it says only "unable to retrieve OCI runtime error").

use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::time::{SystemTime, UNIX_EPOCH};

use crate::runtime::args::Call;

/// Writes one line of `level` to the call's log, where there is one. A log that cannot be
/// written must not stop the call.
pub fn write(call: &Call, level: &str, message: &str) {
    let Some(path) = call.log() else { return };
    let seconds = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |d| d.as_secs());
    let mut line = if call.log_is_json() {
        serde_json::json!({ "level": level, "msg": message, "time": rfc3339(seconds) }).to_string()
    } else {
        format!(
            "time=\"{}\" level={level} msg={message:?}",
            rfc3339(seconds)
        )
    };
    line.push('\n');
    let file = OpenOptions::new()
        .append(true)
        .create(true)
        .mode(0o644)
        .custom_flags(nix::libc::O_CLOEXEC | nix::libc::O_NOCTTY)
        .open(path);
    if let Ok(mut file) = file {
        let _ = file.write_all(line.as_bytes());
    }
}

/// Writes a detail, when the engine asks for details.
pub(crate) fn debug(call: &Call, message: &str) {
    if call.debug() {
        write(call, "debug", message);
    }
}

/// Seconds since 1970 as RFC 3339 in UTC (civil-from-days of the proleptic Gregorian calendar).
fn rfc3339(seconds: u64) -> String {
    let (days, rest) = (seconds / 86_400, seconds % 86_400);
    let z = days + 719_468;
    let era = z / 146_097;
    let day_of_era = z % 146_097;
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 {
        shifted + 3
    } else {
        shifted - 9
    };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    let (hour, minute, second) = (rest / 3600, rest / 60 % 60, rest % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_rfc_3339() {
        for (seconds, text) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (1_795_257_599, "2026-11-21T10:39:59Z"),
            (4_107_542_399, "2100-02-28T23:59:59Z"),
        ] {
            assert_eq!(rfc3339(seconds), text);
        }
    }

    #[test]
    fn an_error_is_one_json_line_whatever_is_in_it() {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("log.json");
        let call = Call::new(
            [
                "--log",
                log.to_str().unwrap(),
                "--log-format",
                "json",
                "start",
                "x",
            ]
            .map(Into::into),
        );
        write(&call, "error", "bridge \"x\"\nis gone");
        debug(&call, "not asked for");
        let text = std::fs::read_to_string(&log).unwrap();
        assert_eq!(text.lines().count(), 1);
        let value: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(value["level"], "error");
        assert_eq!(value["msg"], "bridge \"x\"\nis gone");
    }
}
