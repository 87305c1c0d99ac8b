//! Asking a registry whether it answers over verified TLS with an account: by openssl's client,
//! so that nothing more is needed on a machine than what made the certificate.

use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

use onedock_common::types::reference::RegistryName;

use crate::secret::{Secret, basic};
use onedock_common::process::Command;

/// The status code of `GET /v2/` at `endpoint`, whose certificate must be of `ca` and for the
/// registry's name; or why there is none.
pub(crate) fn status(
    endpoint: &str,
    registry: &RegistryName,
    ca: &Path,
    user: &str,
    password: &Secret,
) -> std::result::Result<u16, String> {
    let host = registry.host();
    let check = match host.parse::<IpAddr>() {
        Ok(_) => "-verify_ip",
        Err(_) => "-verify_hostname",
    };
    // The password goes through the pipe: arguments can be read by everyone.
    let request = format!(
        "GET /v2/ HTTP/1.0\r\nHost: {registry}\r\nAuthorization: Basic {}\r\n\r\n",
        basic(user, password).reveal()
    );
    let answer = Command::local("openssl")
        .args([
            "s_client",
            "-quiet",
            "-verify_return_error",
            "-connect",
            endpoint,
        ])
        .args([check, host, "-CAfile"])
        .args([ca])
        .input(request)
        .within(Duration::from_secs(10))
        .run()
        .map_err(|e| e.to_string())?;
    answer
        .stdout
        .split_whitespace()
        .nth(1)
        .and_then(|code| code.parse().ok())
        .ok_or_else(|| answer.last_line().to_owned())
}
