//! The extended attributes of one file, and what they mean for an archive.

use std::ffi::{CStr, CString};
use std::os::fd::{AsRawFd, OwnedFd};

use nix::errno::Errno;
use rustix::fs::{getxattr, listxattr};

use crate::layers::entry::Attribute;
use crate::layers::ids::Ids;
use crate::layers::rootfs;

const OPAQUE: &[u8] = b"trusted.overlay.opaque";
const WHITEOUT: &[u8] = b"trusted.overlay.whiteout";
/// Set where the layer holds only the name or the metadata of something in a layer below.
const REDIRECTED: [&[u8]; 2] = [b"trusted.overlay.redirect", b"trusted.overlay.metacopy"];
const CAPABILITY: &[u8] = b"security.capability";
const ACLS: [&[u8]; 2] = [b"system.posix_acl_access", b"system.posix_acl_default"];

/// What was found.
#[derive(Debug, Default)]
pub(super) struct Attributes {
    /// What the archive carries, by name.
    pub(super) carried: Vec<Attribute>,
    /// A folder that hides the one below.
    pub(super) opaque: bool,
    /// A file that stands for a deleted one.
    pub(super) whiteout: bool,
    /// Not complete in this layer.
    pub(super) redirected: bool,
    /// A mount point of ours.
    pub(super) stub: bool,
}

impl Attributes {
    /// Reads those of an open file, which may have been opened by `O_PATH`.
    ///
    /// Overlay's own marks count only in `trusted.`, which no container can write: the engine's
    /// overlay never looks at those in `user.`, which every container can, so that these are
    /// attributes like others.
    pub(super) fn read(file: &OwnedFd, ids: &Ids) -> Result<Self, Errno> {
        let mut found = Self::default();
        // The kernel has no call for an O_PATH descriptor; the link in /proc leads to this very
        // file, also when it is a symbolic link.
        let Ok(path) = CString::new(format!("/proc/self/fd/{}", file.as_raw_fd())) else {
            return Ok(found);
        };
        let list = list(&path)?;
        for name in list.split_inclusive(|byte| *byte == 0) {
            let Ok(name) = CStr::from_bytes_with_nul(name) else {
                continue;
            };
            let bytes = name.to_bytes();
            match bytes {
                name if name == rootfs::MARK.as_bytes() => found.stub = true,
                WHITEOUT => found.whiteout = true,
                OPAQUE => found.opaque = value(&path, name)?.as_deref() == Some(b"y"),
                name if REDIRECTED.contains(&name) => found.redirected = true,
                CAPABILITY => {
                    let seen = value(&path, name)?.and_then(|v| capability(v, ids));
                    found.carried.extend(seen.map(|v| (bytes.to_vec(), v)));
                }
                acl if ACLS.contains(&acl) => {
                    let seen = value(&path, name)?.map(|v| access_list(v, ids));
                    found.carried.extend(seen.map(|v| (bytes.to_vec(), v)));
                }
                user if user.starts_with(b"user.") => {
                    let seen = value(&path, name)?;
                    found.carried.extend(seen.map(|v| (bytes.to_vec(), v)));
                }
                _ => {}
            }
        }
        found.carried.sort_unstable();
        Ok(found)
    }

    /// How much room the carried ones take in a header.
    pub(super) fn size(&self) -> usize {
        let each = |(name, value): &Attribute| name.len() + value.len() + 32;
        self.carried.iter().map(each).sum()
    }
}

/// A capability that a container's root has set names that root by the host's id (revision 3).
/// Inside it is a plain one (revision 2); one of a further user namespace keeps its root, in the
/// container's ids; one of a root that the container does not know has no meaning in it.
fn capability(value: Vec<u8>, ids: &Ids) -> Option<Vec<u8>> {
    const REVISION: u32 = 0xff00_0000;
    let (Some(magic), Some(root)) = (number(&value, 0), number(&value, 20)) else {
        return Some(value);
    };
    if magic & REVISION != 0x0300_0000 {
        return Some(value);
    }
    let magic = magic & !REVISION;
    match ids.known_user(root)? {
        0 => Some([&(magic | 0x0200_0000).to_le_bytes(), &value[4..20]].concat()),
        root => Some([&value[..20], &root.to_le_bytes()].concat()),
    }
}

/// An access list (version 2: after 4 bytes, entries of a tag, a permission and an id) with the
/// container's ids.
fn access_list(mut value: Vec<u8>, ids: &Ids) -> Vec<u8> {
    for entry in value
        .get_mut(4..)
        .into_iter()
        .flat_map(|e| e.chunks_exact_mut(8))
    {
        let (Some(tag), Some(id)) = (number(entry, 0), number(entry, 4)) else {
            continue;
        };
        let inside = match tag & 0xffff {
            0x02 => ids.user(id),
            0x08 => ids.group(id),
            _ => continue,
        };
        entry[4..].copy_from_slice(&inside.to_le_bytes());
    }
    value
}

fn number(bytes: &[u8], at: usize) -> Option<u32> {
    let four = bytes.get(at..at.checked_add(4)?)?;
    Some(u32::from_le_bytes(four.try_into().ok()?))
}

/// All names, each with its NUL.
fn list(path: &CStr) -> Result<Vec<u8>, Errno> {
    match whole(|buffer| listxattr(path, buffer)) {
        Err(Errno::ENOTSUP) => Ok(Vec::new()),
        list => list,
    }
}

/// The value, if it is still there.
fn value(path: &CStr, name: &CStr) -> Result<Option<Vec<u8>>, Errno> {
    match whole(|buffer| getxattr(path, name, buffer)) {
        Err(Errno::ENODATA | Errno::ENOTSUP) => Ok(None),
        value => value.map(Some),
    }
}

/// Reads into a buffer that grows to the kernel's limit (64 KiB) where the first is too small.
fn whole(read: impl Fn(&mut [u8]) -> rustix::io::Result<usize>) -> Result<Vec<u8>, Errno> {
    let mut buffer = vec![0; 256];
    loop {
        match read(&mut buffer) {
            Ok(length) => {
                buffer.truncate(length);
                return Ok(buffer);
            }
            Err(rustix::io::Errno::RANGE) if buffer.len() < 64 * 1024 => {
                buffer.resize(64 * 1024, 0)
            }
            Err(error) => return Err(Errno::from_raw(error.raw_os_error())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn owners_in_access_lists_and_capabilities_are_the_containers() {
        let ids = Ids::of_bundle(&serde_json::json!({
            "uidMappings": [{"containerID": 0, "hostID": 4_000_000_000_u32, "size": 65_536}],
            "gidMappings": [{"containerID": 0, "hostID": 4_100_000_000_u32, "size": 65_536}],
        }))
        .unwrap();
        let entry =
            |tag: u16, id: u32| [&tag.to_le_bytes()[..], &[7, 0], &id.to_le_bytes()].concat();
        let list = |user, group| {
            let parts = [entry(1, u32::MAX), entry(2, user), entry(8, group)];
            [&[2, 0, 0, 0][..], &parts.concat()].concat()
        };
        let seen = access_list(list(4_000_000_033, 4_100_000_044), &ids);
        assert_eq!(seen, list(33, 44));

        let plain = [&[1, 0, 0, 2][..], &[9; 16]].concat();
        assert_eq!(capability(plain.clone(), &ids), Some(plain.clone()));
        let of = |root: u32| [&[1, 0, 0, 3][..], &[9; 16], &root.to_le_bytes()].concat();
        assert_eq!(capability(of(4_000_000_000), &ids), Some(plain));
        assert_eq!(capability(of(4_000_000_007), &ids), Some(of(7)));
        assert_eq!(capability(of(7), &ids), None);
        assert_eq!(capability(vec![1], &ids), Some(vec![1]));
    }
}
