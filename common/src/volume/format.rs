//! How a disk in a file is written.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// The format of a disk image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// The bytes of the disk, one after the other, with holes.
    Raw,
    /// QEMU's format, version 2 or 3.
    Qcow2,
    /// ISO 9660, a CD-ROM.
    Iso,
}

/// Not a format of a disk.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("disk format \"{0}\" is not known; raw, qcow2 and iso are")]
pub struct BadFormat(String);

impl Format {
    /// The name, as DISK/FORMAT and `qemu-img` write it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Raw => "raw",
            Self::Qcow2 => "qcow2",
            Self::Iso => "iso",
        }
    }
}

impl FromStr for Format {
    type Err = BadFormat;
    fn from_str(text: &str) -> Result<Self, BadFormat> {
        [Self::Raw, Self::Qcow2, Self::Iso]
            .into_iter()
            .find(|format| format.as_str().eq_ignore_ascii_case(text))
            .ok_or_else(|| BadFormat(text.chars().take(40).collect()))
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_format_is_one_of_three_words() {
        assert_eq!("qcow2".parse(), Ok(Format::Qcow2));
        assert_eq!("RAW".parse(), Ok(Format::Raw));
        for bad in ["", "vmdk", "raw,file=/etc/passwd", "json:{}"] {
            assert!(bad.parse::<Format>().is_err(), "{bad}");
        }
    }
}
