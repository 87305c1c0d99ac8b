//! Whose system datastore a script works in: ours, or a stock one, whose name is the suffix of the
//! script (`clone.ssh`, TM_MAD_SYSTEM). In a stock one the folder of the VM is the stock scripts'.

use anyhow::bail;
use serde::{Deserialize, Serialize};

/// The transfer manager of the system datastore.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum System {
    /// Ours: each host has its own folder, and all in it is ours.
    Onedock,
    /// `ssh`: each host has its own folder; the stock `mv` carries it.
    Ssh,
    /// `local`: as `ssh`.
    Local,
    /// `shared`: the hosts see one folder.
    Shared,
}

impl System {
    /// By the suffix of a script's name.
    pub(crate) fn of_suffix(suffix: Option<&str>) -> anyhow::Result<Self> {
        Ok(match suffix {
            None | Some("onedock") => Self::Onedock,
            Some("ssh") => Self::Ssh,
            Some("local") => Self::Local,
            Some("shared") => Self::Shared,
            Some(other) => bail!(
                "images of onedock cannot be used in a system datastore with TM_MAD={other}; use one with TM_MAD=onedock, ssh, local or shared"
            ),
        })
    }

    /// What the datastore's marker says; hosts that share a datastore have none.
    pub(crate) fn marker(self) -> Option<&'static str> {
        match self {
            Self::Onedock => Some("onedock"),
            Self::Ssh => Some("ssh"),
            Self::Local => Some("local"),
            Self::Shared => None,
        }
    }

    /// Whether the VM's folder is another driver's.
    pub(crate) fn is_stock(self) -> bool {
        self != Self::Onedock
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_suffix_tells_the_system_datastore_and_an_unknown_one_is_refused() {
        assert_eq!(System::of_suffix(None).unwrap(), System::Onedock);
        assert_eq!(System::of_suffix(Some("ssh")).unwrap(), System::Ssh);
        assert_eq!(System::of_suffix(Some("shared")).unwrap().marker(), None);
        assert!(System::of_suffix(Some("ceph")).is_err());
        assert!(!System::Onedock.is_stock() && System::Local.is_stock());
    }
}
