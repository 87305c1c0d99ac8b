//! What `oneadmin` may ask of `onedock-node`: one JSON object on its standard input.

use onedock_common::{IfName, VmId};
use serde::{Deserialize, Serialize};

/// The largest request, in bytes.
pub const LIMIT: u64 = 64 * 1024;

/// A request. Unknown actions and unknown fields are refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "action", rename_all = "snake_case", deny_unknown_fields)]
pub enum Request {
    /// Remove host ends that are this VM's. Those of others, and names that nothing has, are
    /// left as they are.
    Unplug {
        /// The VM.
        vm: VmId,
        /// NIC/TARGET of each.
        host_ends: Vec<IfName>,
    },
}

/// The answer on standard output: one JSON object on one line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Answer {
    /// Always true; what failed is one line on standard error and exit code 1.
    pub done: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attack_49_nothing_but_a_known_request_is_read() {
        let good = r#"{"action":"unplug","vm":5,"host_ends":["one-5-0"]}"#;
        assert!(serde_json::from_str::<Request>(good).is_ok());
        for bad in [
            r#"{"action":"unplug","vm":5,"host_ends":["one-5-0"],"force":true}"#,
            r#"{"action":"exec","vm":5}"#,
            r#"{"action":"unplug","vm":-5,"host_ends":[]}"#,
            r#"{"action":"unplug","vm":5,"host_ends":["../x"]}"#,
            r#"{"action":"unplug","vm":5}"#,
            r#"{}"#,
            "",
        ] {
            assert!(serde_json::from_str::<Request>(bad).is_err(), "{bad}");
        }
    }
}
