//! Capabilities of processes (capabilities(7)).

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// A text that is no capability's name.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("\"{0}\" is not the name of a capability (NET_ADMIN)")]
pub struct BadCapability(String);

/// A capability by its name, without `CAP_`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Capability(String);

impl Capability {
    /// Whether a runtime's configuration means this one (`CAP_NET_ADMIN`).
    pub fn is_called(&self, name: &str) -> bool {
        name.strip_prefix("CAP_") == Some(&self.0)
    }
}

impl FromStr for Capability {
    type Err = BadCapability;
    fn from_str(text: &str) -> Result<Self, BadCapability> {
        let upper = text.to_ascii_uppercase();
        let name = upper.strip_prefix("CAP_").unwrap_or(&upper);
        let is_plain = name.bytes().all(|b| b.is_ascii_uppercase() || b == b'_');
        if is_plain && (1..=32).contains(&name.len()) && name != "ALL" {
            Ok(Self(name.to_owned()))
        } else {
            Err(BadCapability(text.chars().take(40).collect()))
        }
    }
}

impl TryFrom<String> for Capability {
    type Error = BadCapability;
    fn try_from(text: String) -> Result<Self, BadCapability> {
        text.parse()
    }
}

impl From<Capability> for String {
    fn from(capability: Capability) -> Self {
        capability.0
    }
}

impl fmt::Display for Capability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_capability_has_one_name_whatever_its_spelling() {
        for text in ["NET_ADMIN", "net_admin", "CAP_NET_ADMIN", "cap_net_admin"] {
            let capability: Capability = text.parse().unwrap();
            assert_eq!(capability.to_string(), "NET_ADMIN");
            assert!(capability.is_called("CAP_NET_ADMIN") && !capability.is_called("NET_ADMIN"));
        }
        for bad in [
            "",
            "ALL",
            "cap_all",
            "NET ADMIN",
            "NET-ADMIN",
            &"A".repeat(33),
        ] {
            assert!(bad.parse::<Capability>().is_err(), "{bad}");
        }
    }
}
