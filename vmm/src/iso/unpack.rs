//! Writes the entries of an archive beneath one folder, and none elsewhere.

use std::collections::HashSet;
use std::ffi::OsStr;
use std::fs::{self, OpenOptions};
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Component, Path, PathBuf};

use tar::{Archive, EntryType};

/// How many files an image may have.
const ENTRIES: usize = 200_000;
/// How deep its folders may be nested.
const DEPTH: usize = 32;

/// Why an archive was not written out.
pub(super) enum Refused {
    /// The system refused.
    Io(io::Error),
    /// An entry that no honest image has.
    Hostile(String),
    /// Not an archive to its end.
    Damaged,
}

impl From<io::Error> for Refused {
    fn from(e: io::Error) -> Self {
        Self::Io(e)
    }
}

/// Writes an archive's entries beneath one folder.
pub(super) struct Unpack<'a> {
    target: &'a Path,
    /// How many bytes there may still be.
    left: u64,
    entries: usize,
    /// What was made here, so that nothing is written through anything else.
    folders: HashSet<PathBuf>,
    files: HashSet<PathBuf>,
}

impl<'a> Unpack<'a> {
    pub(super) fn new(target: &'a Path, bytes: u64) -> Self {
        Self {
            target,
            left: bytes,
            entries: 0,
            folders: HashSet::from([PathBuf::new()]),
            files: HashSet::new(),
        }
    }

    pub(super) fn all(&mut self, mut from: impl Read) -> Result<(), Refused> {
        let mut archive = Archive::new(&mut from);
        for entry in archive.entries().map_err(|_| Refused::Damaged)? {
            let mut entry = entry.map_err(|_| Refused::Damaged)?;
            self.entries += 1;
            if self.entries > ENTRIES {
                return Err(Refused::Hostile(format!(
                    "it has more than {ENTRIES} files"
                )));
            }
            let path = plain(&entry.path_bytes())?;
            if path.as_os_str().is_empty() {
                continue;
            }
            if let Some(parent) = path.parent() {
                self.folder(parent)?;
            }
            let kind = entry.header().entry_type();
            match kind {
                EntryType::Directory => self.folder(&path)?,
                EntryType::Symlink => {
                    if let Some(to) = entry.link_name_bytes() {
                        let to = OsStr::from_bytes(&to);
                        symlink(to, self.target.join(&path))?;
                    }
                }
                EntryType::Link => {
                    self.link(&path, &entry.link_name_bytes().unwrap_or_default())?
                }
                EntryType::Regular | EntryType::Continuous => {
                    let mode = entry.header().mode().unwrap_or(0);
                    self.file(path, mode, &mut entry)?;
                }
                // Devices and pipes have no place on a CD.
                _ => {}
            }
        }
        // What follows the end of the archive keeps the writer from ending.
        io::copy(&mut from, &mut io::sink())?;
        Ok(())
    }

    fn folder(&mut self, path: &Path) -> Result<(), Refused> {
        if self.folders.contains(path) {
            return Ok(());
        }
        if let Some(parent) = path.parent() {
            self.folder(parent)?;
        }
        let place = self.target.join(path);
        fs::create_dir(&place).map_err(|e| twice(e, path))?;
        fs::set_permissions(&place, fs::Permissions::from_mode(0o755))?;
        self.folders.insert(path.to_owned());
        Ok(())
    }

    fn file(&mut self, path: PathBuf, mode: u32, from: &mut impl Read) -> Result<(), Refused> {
        let place = self.target.join(&path);
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .open(&place)
            .map_err(|e| twice(e, &path))?;
        let copied = io::copy(&mut from.take(self.left.saturating_add(1)), &mut file)?;
        if copied > self.left {
            return Err(Refused::Hostile(
                "its files have more bytes than itself".to_owned(),
            ));
        }
        self.left -= copied;
        let mode = if mode & 0o111 == 0 { 0o644 } else { 0o755 };
        file.set_permissions(fs::Permissions::from_mode(mode))?;
        self.files.insert(path);
        Ok(())
    }

    /// A second name of a file that is there already.
    fn link(&mut self, path: &Path, to: &[u8]) -> Result<(), Refused> {
        let to = plain(to)?;
        if !self.files.contains(&to) {
            return Err(Refused::Hostile(format!(
                "{} is a link to what is not in it",
                path.display()
            )));
        }
        fs::hard_link(self.target.join(to), self.target.join(path)).map_err(|e| twice(e, path))
    }
}

fn twice(e: io::Error, path: &Path) -> Refused {
    if matches!(
        e.kind(),
        io::ErrorKind::AlreadyExists | io::ErrorKind::NotADirectory
    ) {
        Refused::Hostile(format!("{} is in it twice", path.display()))
    } else {
        Refused::Io(e)
    }
}

/// A name of plain parts only.
fn plain(name: &[u8]) -> Result<PathBuf, Refused> {
    let path = Path::new(OsStr::from_bytes(name));
    let hostile = || Refused::Hostile(format!("the name {}", path.display()));
    let mut parts = PathBuf::new();
    for part in path.components() {
        match part {
            Component::CurDir => {}
            Component::Normal(part) => parts.push(part),
            _ => return Err(hostile()),
        }
    }
    if parts.components().count() > DEPTH || name.contains(&0) {
        return Err(hostile());
    }
    Ok(parts)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unpack(build: impl FnOnce(&mut tar::Builder<Vec<u8>>), left: u64) -> Result<(), Refused> {
        let dir = tempfile::tempdir().unwrap();
        let mut builder = tar::Builder::new(Vec::new());
        build(&mut builder);
        let bytes = builder.into_inner().unwrap();
        Unpack::new(dir.path(), left).all(&bytes[..])
    }

    fn entry(
        builder: &mut tar::Builder<Vec<u8>>,
        kind: EntryType,
        name: &str,
        link: &str,
        size: usize,
    ) {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(kind);
        header.set_mode(0o644);
        header.set_size(size as u64);
        let field = &mut header.as_old_mut().name;
        field[..name.len()].copy_from_slice(name.as_bytes());
        if !link.is_empty() {
            header.set_link_name_literal(link).unwrap();
        }
        header.set_cksum();
        builder.append(&header, &vec![0u8; size][..]).unwrap();
    }

    /// What is said of an archive with these entries: kind, name, link, size.
    type Case<'a> = (&'a str, &'a [(EntryType, &'a str, &'a str, usize)]);

    #[test]
    fn attacks_16_and_17_names_links_and_sizes_of_a_hostile_image_are_refused() {
        use EntryType::{Directory, Link, Regular, Symlink};
        let cases: [Case<'_>; 7] = [
            ("the name", &[(Regular, "../x", "", 1)]),
            ("the name", &[(Regular, "/etc/x", "", 1)]),
            (
                "twice",
                &[(Symlink, "a", "/etc", 0), (Regular, "a/x", "", 1)],
            ),
            (
                "twice",
                &[(Symlink, "a", "/etc/passwd", 0), (Regular, "a", "", 1)],
            ),
            (
                "more bytes",
                &[(Regular, "a", "", 600), (Regular, "b", "", 600)],
            ),
            ("what is not in it", &[(Link, "a", "b", 0)]),
            ("twice", &[(Regular, "a", "", 1), (Directory, "a", "", 0)]),
        ];
        for (reason, entries) in cases {
            let result = unpack(
                |b| {
                    entries
                        .iter()
                        .for_each(|(k, n, l, s)| entry(b, *k, n, l, *s))
                },
                1000,
            );
            match result {
                Err(Refused::Hostile(problem)) => assert!(problem.contains(reason), "{problem}"),
                _ => panic!("{entries:?}"),
            }
        }
        assert!(unpack(|b| entry(b, Symlink, "a", "../../x", 0), 0).is_ok());
    }
}
