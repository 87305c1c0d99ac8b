//! The table of mounts as `/proc/<pid>/mountinfo` shows it (proc(5)).

use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

/// One mount.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    /// The kernel's id.
    pub(crate) id: u64,
    /// `major:minor` of the file system.
    pub(crate) device: String,
    /// Where it is, as seen from the root of the process.
    pub(crate) place: PathBuf,
    /// The kind of its file system.
    pub(crate) kind: String,
    /// The options of the file system itself, as it writes them; each is to be [`decoded`].
    pub(crate) options: Vec<u8>,
}

/// The mounts that a process sees; `pid` may be `thread-self`.
pub(crate) fn of(pid: &str) -> io::Result<Vec<Entry>> {
    let bytes = fs::read(format!("/proc/{pid}/mountinfo"))?;
    Ok(bytes.split(|b| *b == b'\n').filter_map(entry).collect())
}

fn entry(line: &[u8]) -> Option<Entry> {
    let mut fields = line.split(|b| *b == b' ');
    let text = |field: &[u8]| std::str::from_utf8(field).map(str::to_owned).ok();
    let id = text(fields.next()?)?.parse().ok()?;
    let device = text(fields.nth(1)?)?;
    let place = OsString::from_vec(decoded(fields.nth(1)?)).into();
    // Behind the mount's own options stand any number of others, and a dash.
    let mut fields = fields.skip_while(|field| *field != b"-").skip(1);
    let kind = text(fields.next()?)?;
    let options = fields.nth(1)?.to_vec();
    Some(Entry {
        id,
        device,
        place,
        kind,
        options,
    })
}

/// Blanks, tabs, line ends and backslashes are written as a backslash and three octal digits.
pub(crate) fn decoded(field: &[u8]) -> Vec<u8> {
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
        assert_eq!(
            (entry.kind.as_str(), &entry.options[..]),
            ("ext3", &b"rw"[..])
        );
        let plain = br"36 35 98:0 / / rw - overlay overlay rw,lowerdir=/a\040b:/c";
        let plain = super::entry(plain).unwrap();
        assert_eq!(plain.kind, "overlay");
        assert_eq!(plain.options, br"rw,lowerdir=/a\040b:/c");
        assert!(super::entry(b"").is_none());
        assert!(!of("thread-self").unwrap().is_empty());
    }
}
