//! The line that the engine shows to the user: it reads the last `error` of the `--log` file
//! (else it says only "unable to retrieve OCI runtime error").

use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::time::{SystemTime, UNIX_EPOCH};

use onedock_common::types::date::rfc3339;

use crate::runtime::args::Call;

/// Writes one line of `level` to the call's log, where there is one. A log that cannot be
/// written must not stop the call.
pub fn write(call: &Call, level: &str, message: &str) {
    let Some(path) = call.log() else { return };
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let time = rfc3339(now.unwrap_or_default());
    let mut line = if call.log_is_json() {
        serde_json::json!({ "level": level, "msg": message, "time": time }).to_string()
    } else {
        format!("time=\"{time}\" level={level} msg={message:?}")
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

#[cfg(test)]
mod tests {
    use super::*;

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
