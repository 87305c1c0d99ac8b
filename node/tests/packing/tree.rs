//! What is in a file system, in a form that two of them can be compared by.

use std::collections::{BTreeMap, HashMap};
use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

use anyhow::Result;
use onedock_common::Digest;

/// What the engine itself lays into every container.
const ENGINES: [&str; 9] = [
    ".dockerenv",
    "dev",
    "proc",
    "sys",
    "etc/hostname",
    "etc/hosts",
    "etc/mtab",
    "etc/resolv.conf",
    "etc",
];

/// Path to description.
pub(crate) type Tree = BTreeMap<String, String>;

/// Reads all of it, as the overlay shows it.
pub(crate) fn read(root: &Path) -> Result<Tree> {
    let mut tree = Tree::new();
    let mut names: HashMap<u64, Vec<String>> = HashMap::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder)? {
            let path = entry?.path();
            let relative = path.strip_prefix(root)?.as_os_str();
            let name = relative.as_bytes().escape_ascii().to_string();
            let meta = fs::symlink_metadata(&path)?;
            if meta.is_dir() && name != "dev" && name != "proc" && name != "sys" {
                folders.push(path.clone());
            }
            if ENGINES.contains(&name.as_str()) {
                continue;
            }
            if !meta.is_dir() && meta.nlink() > 1 {
                names.entry(meta.ino()).or_default().push(name.clone());
            }
            tree.insert(name, describe(&path, &meta)?);
        }
    }
    for mut same in names.into_values() {
        same.sort();
        for name in &same {
            if let Some(text) = tree.get_mut(name) {
                text.push_str(&format!(" = {same:?}"));
            }
        }
    }
    Ok(tree)
}

fn describe(path: &Path, meta: &fs::Metadata) -> Result<String> {
    let kind = meta.file_type();
    let what = if kind.is_file() {
        format!("file {} {}", meta.len(), Digest::of(&fs::read(path)?))
    } else if kind.is_symlink() {
        format!(
            "link to {}",
            fs::read_link(path)?.as_os_str().as_bytes().escape_ascii()
        )
    } else if kind.is_char_device() || kind.is_block_device() {
        format!("{kind:?} {}", meta.rdev())
    } else if kind.is_fifo() {
        "pipe".to_owned()
    } else if kind.is_dir() {
        "folder".to_owned()
    } else {
        format!("{kind:?}")
    };
    Ok(format!(
        "{what} {:o} {}:{} {}.{:09} {}",
        meta.mode() & 0o7777,
        meta.uid(),
        meta.gid(),
        meta.mtime(),
        meta.mtime_nsec(),
        attributes(path)?.join(" ")
    ))
}

fn attributes(path: &Path) -> Result<Vec<String>> {
    let mut buffer = vec![0; 65536];
    let length = rustix::fs::llistxattr(path, &mut buffer[..])?;
    let mut found = Vec::new();
    for name in buffer[..length]
        .split(|b| *b == 0)
        .filter(|n| !n.is_empty())
    {
        let name = OsString::from_vec(name.to_vec());
        let mut value = vec![0; 65536];
        let length = rustix::fs::lgetxattr(path, &name, &mut value[..])?;
        if !name.as_bytes().starts_with(b"trusted.") {
            found.push(format!("{name:?}={:?}", &value[..length]));
        }
    }
    found.sort();
    Ok(found)
}

/// What differs, one line each.
pub(crate) fn differences(expected: &Tree, found: &Tree) -> Vec<String> {
    let paths: std::collections::BTreeSet<_> = expected.keys().chain(found.keys()).collect();
    paths
        .into_iter()
        .filter(|path| expected.get(*path) != found.get(*path))
        .map(|path| {
            format!(
                "{path}\n  {:?}\n  {:?}",
                expected.get(path),
                found.get(path)
            )
        })
        .collect()
}
