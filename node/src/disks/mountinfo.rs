//! The table of mounts as `/proc/<pid>/mountinfo` shows it (proc(5)).

use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

/// One mount.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Entry {
    /// The kernel's id.
    pub(super) id: u64,
    /// `major:minor` of the file system.
    pub(super) device: String,
    /// Where it is, as seen from the root of the process.
    pub(super) place: PathBuf,
}

/// The mounts that a process sees; `pid` may be `thread-self`.
pub(super) fn of(pid: &str) -> io::Result<Vec<Entry>> {
    let bytes = fs::read(format!("/proc/{pid}/mountinfo"))?;
    Ok(bytes.split(|b| *b == b'\n').filter_map(entry).collect())
}

fn entry(line: &[u8]) -> Option<Entry> {
    let mut fields = line.split(|b| *b == b' ');
    let mut text = || std::str::from_utf8(fields.next()?).ok();
    let id = text()?.parse().ok()?;
    text()?;
    let device = text()?.to_owned();
    fields.next()?;
    let place = OsString::from_vec(decoded(fields.next()?)).into();
    Some(Entry { id, device, place })
}

/// Blanks, tabs, line ends and backslashes are written as a backslash and three octal digits.
fn decoded(field: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field;
    while let [first, tail @ ..] = rest {
        let octal = match rest {
            [b'\\', a @ b'0'..=b'3', b @ b'0'..=b'7', c @ b'0'..=b'7', ..] => {
                Some((a - b'0') * 64 + (b - b'0') * 8 + (c - b'0'))
            }
            _ => None,
        };
        bytes.push(octal.unwrap_or(*first));
        rest = if octal.is_some() {
            rest.get(4..).unwrap_or_default()
        } else {
            tail
        };
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mount_is_read_with_blanks_in_its_place() {
        let line = br"36 35 98:0 /mnt1 /a\040b\134c rw,noatime master:1 - ext3 /dev/root rw";
        let entry = entry(line).unwrap();
        assert_eq!((entry.id, entry.device.as_str()), (36, "98:0"));
        assert_eq!(entry.place, PathBuf::from(r"/a b\c"));
        assert!(super::entry(b"").is_none());
        assert!(!of("thread-self").unwrap().is_empty());
    }
}
