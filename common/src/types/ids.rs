//! Identifiers of OpenNebula and of the engine. A value of one of these types has been
//! checked; only such values ever become part of an engine path, a file name or a label.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::types::decimal::{NotANumber, parse_u32};

macro_rules! number_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(u32);

        impl $name {
            /// The id as a number.
            pub const fn get(self) -> u32 {
                self.0
            }
            /// An id from a number that is already known to be one.
            pub const fn new(id: u32) -> Self {
                Self(id)
            }
        }

        impl FromStr for $name {
            type Err = NotANumber;
            fn from_str(text: &str) -> Result<Self, NotANumber> {
                parse_u32(text).map(Self)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

number_id!(
    /// A VM's id (`VM/ID`).
    VmId
);
number_id!(
    /// A disk's id within its VM (`DISK/DISK_ID`).
    DiskId
);
number_id!(
    /// A disk snapshot's id within its disk (`SNAPSHOT/ID`).
    SnapshotId
);
number_id!(
    /// A NIC's id within its VM (`NIC/NIC_ID`).
    NicId
);
number_id!(
    /// A host's id (`HOST/ID`).
    HostId
);
number_id!(
    /// An image's id (`IMAGE/ID`).
    ImageId
);
number_id!(
    /// A datastore's id (`DATASTORE/ID`).
    DatastoreId
);

/// Why a container id or name was refused.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum BadContainer {
    /// Not the engine's 64 lower-case hexadecimal digits.
    #[error("\"{0}\" is not a container id (64 hexadecimal digits)")]
    Id(String),
    /// Not `one-<vm id>`.
    #[error("\"{0}\" is not a deploy id of this driver (one-<vm id>)")]
    Name(String),
}

/// A container's full id. The engine client splices ids into its URLs unescaped, so nothing
/// but 64 hexadecimal digits may become one.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ContainerId(String);

impl ContainerId {
    /// The 64 digits.
    pub fn as_str(&self) -> &str {
        &self.0
    }
    /// An id of this number, for engines that give numbers (the one in memory).
    pub fn numbered(number: u64) -> Self {
        Self(format!("{number:064x}"))
    }
    /// The first twelve digits, as the engine shows them to people.
    pub fn short(&self) -> &str {
        self.0.get(..12).unwrap_or(&self.0)
    }
}

impl FromStr for ContainerId {
    type Err = BadContainer;
    fn from_str(text: &str) -> Result<Self, BadContainer> {
        let hex = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
        if text.len() == 64 && text.bytes().all(hex) {
            Ok(Self(text.to_owned()))
        } else {
            Err(BadContainer::Id(text.chars().take(80).collect()))
        }
    }
}

impl TryFrom<String> for ContainerId {
    type Error = BadContainer;
    fn try_from(text: String) -> Result<Self, BadContainer> {
        text.parse()
    }
}

impl From<ContainerId> for String {
    fn from(id: ContainerId) -> Self {
        id.0
    }
}

impl fmt::Display for ContainerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The container's name and the VM's DEPLOY_ID: `one-<vm id>`, the form that OpenNebula's
/// own code takes for a VM of its own (`src/vnm_mad/remotes/lib/nic.rb`, wild VM detection).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ContainerName {
    vm: VmId,
    tree: Option<DiskId>,
}

impl ContainerName {
    /// The name of this VM's container.
    pub const fn of(vm: VmId) -> Self {
        Self { vm, tree: None }
    }
    /// The name of a container that is never started: the tree of an image that is a further disk
    /// of the VM, `one-<vm id>-disk-<disk id>`. No text is read as such a name.
    pub const fn of_tree(vm: VmId, disk: DiskId) -> Self {
        Self {
            vm,
            tree: Some(disk),
        }
    }
    /// The VM whose container it names.
    pub const fn vm(self) -> VmId {
        self.vm
    }
}

impl FromStr for ContainerName {
    type Err = BadContainer;
    fn from_str(text: &str) -> Result<Self, BadContainer> {
        let bad = || BadContainer::Name(text.chars().take(80).collect());
        let digits = text.strip_prefix("one-").ok_or_else(bad)?;
        if digits.len() > 1 && digits.starts_with('0') {
            return Err(bad());
        }
        digits.parse().map(Self::of).map_err(|_| bad())
    }
}

impl fmt::Display for ContainerName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.tree {
            None => write!(f, "one-{}", self.vm),
            Some(disk) => write!(f, "one-{}-disk-{disk}", self.vm),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attack_10_a_deploy_id_is_one_and_digits_and_nothing_else() {
        assert_eq!(
            "one-5".parse::<ContainerName>().map(|n| n.vm().get()),
            Ok(5)
        );
        for good in ["one-0", "one-10", "one-4294967295"] {
            let name: ContainerName = good.parse().unwrap();
            assert_eq!(name.to_string(), good);
        }
        for bad in [
            "one-",
            "one-00",
            "one-05",
            "one-1/../../x",
            "one-1?force=1",
            "one-+1",
            "ONE-1",
            "two-1",
            "-",
            "",
        ] {
            assert!(bad.parse::<ContainerName>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_container_id_is_64_lower_case_hexadecimal_digits() {
        let id = "0123456789abcdef".repeat(4);
        let read: ContainerId = id.parse().unwrap();
        assert_eq!((read.as_str(), read.short()), (&id[..], "0123456789ab"));
        assert_eq!(read.to_string(), id);
        assert_eq!(String::from(read), id);
        assert!(id.to_uppercase().parse::<ContainerId>().is_err());
        assert!("../images/x".parse::<ContainerId>().is_err());
        assert!(id[..63].parse::<ContainerId>().is_err());
    }
}
