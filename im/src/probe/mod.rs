//! The probes: each gives records as OpenNebula's probes print them.

pub mod host;
pub mod monitor;
pub mod numa;
pub mod system;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// `/proc`, or a tree like it.
#[derive(Debug, Clone)]
pub struct Proc(PathBuf);

impl Proc {
    /// The kernel's own.
    pub fn system() -> Self {
        Self::at("/proc")
    }

    /// A tree elsewhere.
    pub fn at(root: impl AsRef<Path>) -> Self {
        Self(root.as_ref().to_owned())
    }

    /// Reads one of its files.
    pub fn read(&self, file: impl AsRef<Path>) -> io::Result<String> {
        fs::read_to_string(self.0.join(file))
    }
}
