//! The kinds of system datastore that VMs of onedock can lie in, by TM_MAD: ours, and those of
//! OpenNebula's own transfer managers (TM_MAD_SYSTEM), in which the VM's folder is theirs.

use std::str::FromStr;

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// TM_MAD of a system datastore that VMs of onedock cannot lie in.
#[derive(Debug, Error, PartialEq, Eq)]
#[error(
    "images of onedock cannot be used in a system datastore with TM_MAD={0}; use one with TM_MAD=onedock, ssh, local or shared"
)]
pub struct UnknownSystemDatastore(String);

/// The transfer manager of a system datastore.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SystemDatastore {
    /// Ours: each host has its own folder, and all in it is ours.
    Onedock,
    /// Each host has its own folder; the stock `mv` carries it.
    Ssh,
    /// As `ssh`.
    Local,
    /// The hosts see one folder.
    Shared,
}

impl SystemDatastore {
    fn name(self) -> &'static str {
        match self {
            Self::Onedock => "onedock",
            Self::Ssh => "ssh",
            Self::Local => "local",
            Self::Shared => "shared",
        }
    }

    /// Whether the VM's folder is another driver's.
    pub fn is_stock(self) -> bool {
        self != Self::Onedock
    }

    /// What marks the datastore as one that is measured on each host. Hosts that share a datastore
    /// leave no mark.
    pub fn mark(self) -> Option<&'static str> {
        (self != Self::Shared).then(|| self.name())
    }
}

impl FromStr for SystemDatastore {
    type Err = UnknownSystemDatastore;
    fn from_str(text: &str) -> Result<Self, UnknownSystemDatastore> {
        [Self::Onedock, Self::Ssh, Self::Local, Self::Shared]
            .into_iter()
            .find(|kind| kind.name() == text)
            .ok_or_else(|| UnknownSystemDatastore(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kinds_are_read_by_their_names_and_an_unknown_one_is_refused() {
        for (text, kind) in [
            ("onedock", SystemDatastore::Onedock),
            ("ssh", SystemDatastore::Ssh),
            ("local", SystemDatastore::Local),
            ("shared", SystemDatastore::Shared),
        ] {
            assert_eq!(text.parse(), Ok(kind));
            assert_eq!(kind.is_stock(), text != "onedock");
            assert_eq!(kind.mark(), Some(text).filter(|text| *text != "shared"));
        }
        let refused = "ceph".parse::<SystemDatastore>().unwrap_err().to_string();
        assert!(refused.contains("TM_MAD=ceph"), "{refused}");
    }
}
