//! What a container can do to its files: of every kind, in two rounds.

use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions};
use std::io::{Seek, SeekFrom, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, lchown, symlink};
use std::path::Path;
use std::time::{Duration, UNIX_EPOCH};

use anyhow::Result;
use nix::sys::stat::{Mode, SFlag, makedev, mknod};
use nix::unistd::mkfifo;
use rustix::fs::{XattrFlags, lsetxattr, setxattr};

/// A plain capability, `cap_net_raw+ep`.
pub(crate) const CAPABILITY: [u8; 20] = [
    1, 0, 0, 2, 0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
];

/// An access list that names user 33 and group 44.
fn access_list() -> Vec<u8> {
    let none = u32::MAX;
    let mut value = vec![2, 0, 0, 0];
    for (tag, rights, id) in [
        (1_u16, 6_u16, none),
        (2, 4, 33),
        (4, 4, none),
        (8, 6, 44),
        (0x10, 6, none),
        (0x20, 0, none),
    ] {
        value.extend(tag.to_le_bytes());
        value.extend(rights.to_le_bytes());
        value.extend(id.to_le_bytes());
    }
    value
}

/// The image's own files.
pub(crate) fn base(root: &Path) -> Result<()> {
    for folder in [
        "data/keep",
        "data/drop/deep",
        "data/swap",
        "data/hide/old",
        "file",
    ] {
        fs::create_dir_all(root.join(folder))?;
        fs::write(root.join(folder).join("a"), folder)?;
    }
    fs::write(root.join("gone"), "gone")?;
    fs::write(root.join("turns"), "into a folder")?;
    fs::hard_link(root.join("gone"), root.join("data/gone-too"))?;
    fs::write(root.join("meta"), "only its owner changes")?;
    Ok(())
}

/// Everything that can be made; `shift` is the host's id of the container's root.
pub(crate) fn first(root: &Path, shift: u32) -> Result<()> {
    let at = |name: &str| root.join(name);
    let own =
        |path: &Path, user: u32, group: u32| lchown(path, Some(shift + user), Some(shift + group));
    fs::create_dir(at("new"))?;
    own(&at("new"), 33, 44)?;
    fs::set_permissions(at("new"), fs::Permissions::from_mode(0o1777))?;
    let plain = at("new/plain");
    fs::write(&plain, vec![7; 1000])?;
    own(&plain, 65_534, 3)?;
    fs::set_permissions(&plain, fs::Permissions::from_mode(0o6755))?;
    let when = UNIX_EPOCH + Duration::new(1_000_000_000, 123_456_789);
    File::options()
        .write(true)
        .open(&plain)?
        .set_modified(when)?;
    // Not before 1970, which the engine takes for 1970.
    let early = at("new/early");
    File::create(&early)?.set_modified(UNIX_EPOCH)?;
    fs::write(at("new/empty"), "")?;

    // Long, odd and hostile names.
    let long = at("new").join("n".repeat(200)).join("m".repeat(200));
    fs::create_dir_all(&long)?;
    fs::write(long.join("x".repeat(255)), "deep")?;
    for name in [
        &b"\xff\xfe raw"[..],
        b"line\nfeed",
        b"-rf",
        b" ",
        b"\\",
        "ü".as_bytes(),
    ] {
        fs::write(at("new").join(OsStr::from_bytes(name)), name)?;
    }
    symlink("../../../../etc/passwd", at("new/up"))?;
    symlink("t".repeat(300), at("new/long-link"))?;
    symlink(OsStr::from_bytes(b"\xff"), at("new/raw-link"))?;
    own(&at("new/up"), 5, 6)?;

    // Several names, also of what is no regular file, and one with a capability.
    fs::write(at("new/one"), "several names")?;
    own(&at("new/one"), 7, 8)?;
    fs::set_permissions(at("new/one"), fs::Permissions::from_mode(0o755))?;
    setxattr(
        at("new/one"),
        "security.capability",
        &CAPABILITY,
        XattrFlags::empty(),
    )?;
    fs::hard_link(at("new/one"), at("new/two"))?;
    fs::hard_link(at("new/one"), at("data/three"))?;
    fs::hard_link(at("new/up"), at("new/up-too"))?;

    // Devices and pipes.
    let mode = Mode::from_bits_truncate(0o640);
    mknod(&at("new/null"), SFlag::S_IFCHR, mode, makedev(1, 3))?;
    mknod(&at("new/disk"), SFlag::S_IFBLK, mode, makedev(259, 70_000))?;
    mkfifo(&at("new/pipe"), mode)?;
    own(&at("new/null"), 1, 2)?;
    fs::hard_link(at("new/pipe"), at("new/pipe-too"))?;

    // Extended attributes; those in user.overlay are the container's own.
    fs::write(at("new/marked"), "")?;
    for (name, value) in [
        ("user.text", &b"value\nwith a line feed"[..]),
        ("user.raw", &[0, 255, b'=', 0]),
        ("user.big", &[1; 2000]),
    ] {
        setxattr(at("new/marked"), name, value, XattrFlags::empty())?;
    }
    fs::create_dir(at("new/lists"))?;
    // The archive has the container's ids in access lists too; a remapped engine unpacks them as
    // the host's.
    if shift == 0 {
        for name in ["system.posix_acl_access", "system.posix_acl_default"] {
            setxattr(at("new/lists"), name, &access_list(), XattrFlags::empty())?;
        }
    }
    for name in [
        "user.overlay.opaque",
        "user.overlay.redirect",
        "user.overlay.whiteout",
    ] {
        lsetxattr(at("data/keep"), name, b"y", XattrFlags::empty())?;
    }

    // A hole.
    let mut sparse = File::create(at("new/sparse"))?;
    sparse.write_all(b"begin")?;
    sparse.seek(SeekFrom::Start(20_000_000))?;
    sparse.write_all(b"end")?;
    chown(at("meta"), Some(shift + 1000), Some(shift + 1000))?;
    deletions(root)?;
    give(root, shift)
}

/// Gives what the host's root has made here to the container's root.
pub(crate) fn give(folder: &Path, shift: u32) -> Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let meta = fs::symlink_metadata(&path)?;
        if meta.uid() < shift {
            lchown(&path, Some(shift), Some(shift))?;
        }
        if meta.is_dir() {
            give(&path, shift)?;
        }
    }
    Ok(())
}

/// What the base has and the container has not, or has in another form.
fn deletions(root: &Path) -> Result<()> {
    let at = |name: &str| root.join(name);
    fs::remove_file(at("gone"))?;
    fs::remove_dir_all(at("data/drop"))?;
    fs::remove_dir_all(at("data/swap"))?;
    fs::write(at("data/swap"), "a file now")?;
    fs::remove_file(at("turns"))?;
    fs::create_dir(at("turns"))?;
    fs::write(at("turns/inner"), "a folder now")?;
    fs::remove_dir_all(at("data/hide"))?;
    fs::create_dir(at("data/hide"))?;
    fs::write(at("data/hide/new"), "hides the old one")?;
    Ok(())
}

/// Changes upon those.
pub(crate) fn second(root: &Path, shift: u32) -> Result<()> {
    let at = |name: &str| root.join(name);
    fs::remove_file(at("new/two"))?;
    fs::remove_file(at("new/null"))?;
    fs::remove_file(at("data/gone-too"))?;
    OpenOptions::new()
        .append(true)
        .open(at("new/plain"))?
        .write_all(b"more")?;
    fs::remove_dir_all(at("turns"))?;
    symlink("data", at("turns"))?;
    fs::remove_dir_all(at("new/lists"))?;
    fs::create_dir(at("new/lists"))?;
    fs::write(at("data/swap"), "another")?;
    fs::write(at("gone"), "back again")?;
    give(root, shift)
}
