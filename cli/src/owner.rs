//! Who a file belongs to. Names are looked up when they are needed, because a step before may
//! be the one that makes the user.

use std::fmt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use nix::unistd::{Gid, Uid};

use crate::error::{Error, Result};
use crate::getent;

/// An owner by number or by name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Owner {
    /// Numbers taken from a file that is there.
    Ids(Uid, Gid),
    /// A user and a group.
    Names(String, String),
}

impl Owner {
    /// `root:root`.
    pub fn root() -> Self {
        Self::Ids(Uid::from_raw(0), Gid::from_raw(0))
    }

    /// By names.
    pub fn names(user: &str, group: &str) -> Self {
        Self::Names(user.to_owned(), group.to_owned())
    }

    /// The owner of what is at `path`.
    pub fn of(path: &Path) -> Result<Self> {
        let meta = std::fs::metadata(path).map_err(Error::file("examine", path))?;
        Ok(Self::Ids(
            Uid::from_raw(meta.uid()),
            Gid::from_raw(meta.gid()),
        ))
    }

    /// The numbers, or which name is unknown.
    pub fn resolve(&self) -> Result<(Uid, Gid)> {
        match self {
            Self::Ids(uid, gid) => Ok((*uid, *gid)),
            Self::Names(user, group) => Ok((uid_of(user)?, gid_of(group)?)),
        }
    }
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ids(uid, gid) => write!(f, "{uid}:{gid}"),
            Self::Names(user, group) => write!(f, "{user}:{group}"),
        }
    }
}

fn uid_of(name: &str) -> Result<Uid> {
    match getent::user(name)? {
        Some(user) => Ok(Uid::from_raw(user.uid)),
        None => Err(Error::refused(format!("there is no user {name} here"))),
    }
}

fn gid_of(name: &str) -> Result<Gid> {
    match getent::group(name)? {
        Some(group) => Ok(Gid::from_raw(group.gid)),
        None => Err(Error::refused(format!("there is no group {name} here"))),
    }
}
