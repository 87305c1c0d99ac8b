//! Writing what an archive holds beneath one folder, and nothing elsewhere: one rule for every
//! archive whose content somebody else has chosen, whatever its format.
//!
//! Every name is made of plain parts. Every folder on the way to a file was made here, so that
//! nothing is written through a link that the archive brought. There are no devices and no pipes,
//! links only where the [`Rule`] keeps them, no set-id bits, and no more bytes, files and nested
//! folders than allowed. Of two files with one name the later one stays.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::{self, File, FileTimes, OpenOptions, Permissions};
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _, symlink};
use std::path::{Component, Path, PathBuf};
use std::time::SystemTime;

use thiserror::Error;

use crate::state::files;

/// How deep folders may be nested.
const DEPTH: usize = 32;

/// Why an archive was not unpacked.
#[derive(Debug, Error)]
pub enum UnpackError {
    /// A file could not be written, or the archive not be read.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// What no honest archive has.
    #[error("{0}")]
    Refused(String),
}

/// What an archive may hold, and what becomes of it.
#[derive(Debug, Clone, Copy)]
pub struct Rule {
    /// The most bytes of all files together.
    pub bytes: u64,
    /// The most files, folders and links.
    pub entries: usize,
    /// Symbolic links.
    pub links: Links,
    /// Modes of files and folders.
    pub modes: Modes,
}

/// What becomes of symbolic links.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Links {
    /// An archive that has one is refused.
    Refuse,
    /// They are made. Nobody follows them here.
    Keep,
}

/// Which modes files and folders get.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Modes {
    /// Those of the archive without set-id bits.
    Own,
    /// Readable for everybody: a container's users may be others than those who read it here.
    Open,
}

impl Modes {
    fn of_file(self, mode: u32) -> u32 {
        match self {
            Self::Own => mode & 0o777,
            Self::Open if mode & 0o111 == 0 => 0o644,
            Self::Open => 0o755,
        }
    }

    fn of_folder(self, mode: u32) -> u32 {
        match self {
            Self::Own => mode & 0o777,
            Self::Open => 0o755,
        }
    }
}

/// Mode and time of a file or folder in the archive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Attributes {
    /// Permission bits; others are ignored.
    pub mode: u32,
    /// When it was changed, where that is a time of the system.
    pub modified: Option<SystemTime>,
}

/// The folders that were made, with what they are to have in the end. Until then their owner can
/// write there.
#[derive(Debug, Default)]
pub struct Folders(BTreeMap<PathBuf, Option<Attributes>>);

impl Folders {
    /// Gives each folder its mode and time. `root` is where the unpacked files lie now.
    pub fn close(&self, root: &Path) -> io::Result<()> {
        // Inner ones first: an outer one may close the way to them.
        for (path, attributes) in self.0.iter().rev() {
            if let Some(Attributes { mode, modified }) = attributes {
                let folder = File::open(root.join(path))?;
                set_time(&folder, *modified)?;
                folder.set_permissions(Permissions::from_mode(*mode))?;
            }
        }
        Ok(())
    }
}

/// Writes an archive's files beneath one folder.
#[derive(Debug)]
pub struct Unpack<'a> {
    target: &'a Path,
    rule: Rule,
    bytes_left: u64,
    entries: usize,
    folders: Folders,
}

impl<'a> Unpack<'a> {
    /// `target` is a new folder, to which nobody else writes.
    pub fn new(target: &'a Path, rule: Rule) -> Self {
        Self {
            target,
            rule,
            bytes_left: rule.bytes,
            entries: 0,
            folders: Folders([(PathBuf::new(), None)].into()),
        }
    }

    /// Makes a folder. The empty path is the target, which is there.
    pub fn folder(&mut self, path: &Path, attributes: Attributes) -> Result<(), UnpackError> {
        self.count()?;
        let path = plain(path)?;
        self.make_folder(&path)?;
        let mode = self.rule.modes.of_folder(attributes.mode);
        let attributes = Attributes { mode, ..attributes };
        self.folders.0.insert(path, Some(attributes));
        Ok(())
    }

    /// Makes a file of `size` bytes, which `write` writes.
    pub fn file(
        &mut self,
        path: &Path,
        attributes: Attributes,
        size: u64,
        write: impl FnOnce(&mut File) -> io::Result<()>,
    ) -> Result<(), UnpackError> {
        let place = self.place(path)?;
        self.bytes_left = self.bytes_left.checked_sub(size).ok_or_else(|| {
            let bytes = self.rule.bytes;
            UnpackError::Refused(format!("its files have more than {bytes} bytes"))
        })?;
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&place)?;
        let mode = self.rule.modes.of_file(attributes.mode);
        file.set_permissions(Permissions::from_mode(mode))?;
        write(&mut file)?;
        Ok(set_time(&file, attributes.modified)?)
    }

    /// Makes a symbolic link.
    pub fn symbolic_link(&mut self, path: &Path, to: &OsStr) -> Result<(), UnpackError> {
        if self.rule.links == Links::Refuse {
            let path = path.display();
            return Err(UnpackError::Refused(format!("\"{path}\" is a link")));
        }
        let place = self.place(path)?;
        Ok(symlink(to, place)?)
    }

    /// Gives a file that was written before a second name.
    pub fn hard_link(&mut self, path: &Path, file: &Path) -> Result<(), UnpackError> {
        let place = self.place(path)?;
        Ok(fs::hard_link(self.target.join(file), place)?)
    }

    /// Everything is there.
    pub fn finish(self) -> Folders {
        self.folders
    }

    /// A free name for a file or link.
    fn place(&mut self, path: &Path) -> Result<PathBuf, UnpackError> {
        self.count()?;
        let path = plain(path)?;
        if let Some(parent) = path.parent() {
            self.make_folder(parent)?;
        }
        let place = self.target.join(path);
        files::remove(&place)?;
        Ok(place)
    }

    /// Counts an entry that is not unpacked.
    pub fn skip(&mut self) -> Result<(), UnpackError> {
        self.count()
    }

    fn count(&mut self) -> Result<(), UnpackError> {
        self.entries += 1;
        if self.entries <= self.rule.entries {
            return Ok(());
        }
        let most = self.rule.entries;
        Err(UnpackError::Refused(format!(
            "it has more than {most} files"
        )))
    }

    fn make_folder(&mut self, path: &Path) -> Result<(), UnpackError> {
        if self.folders.0.contains_key(path) {
            return Ok(());
        }
        if path.components().count() > DEPTH {
            return Err(UnpackError::Refused(format!(
                "its folders are nested more than {DEPTH} deep"
            )));
        }
        if let Some(parent) = path.parent() {
            self.make_folder(parent)?;
        }
        // It fails where the archive has brought something else of that name.
        fs::create_dir(self.target.join(path))?;
        self.folders.0.insert(path.to_owned(), None);
        Ok(())
    }
}

/// A name of one plain part.
pub fn plain_name(name: &[u8]) -> Result<&OsStr, UnpackError> {
    let is_plain = !matches!(name, b"" | b"." | b"..")
        && name.len() <= 255
        && !name.iter().any(|b| matches!(b, b'/' | 0));
    if is_plain {
        return Ok(OsStr::from_bytes(name));
    }
    Err(bad_name(&String::from_utf8_lossy(name)))
}

/// The path in one form, which tells equal paths.
fn plain(path: &Path) -> Result<PathBuf, UnpackError> {
    path.components()
        .map(|part| match part {
            Component::Normal(name) => plain_name(name.as_bytes()),
            _ => Err(bad_name(&path.to_string_lossy())),
        })
        .collect()
}

fn bad_name(name: &str) -> UnpackError {
    UnpackError::Refused(format!("it has a file of the name \"{name}\""))
}

fn set_time(file: &File, modified: Option<SystemTime>) -> io::Result<()> {
    match modified {
        Some(time) => file.set_times(FileTimes::new().set_modified(time)),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    const RULE: Rule = Rule {
        bytes: 10,
        entries: 4,
        links: Links::Keep,
        modes: Modes::Own,
    };
    const ATTRIBUTES: Attributes = Attributes {
        mode: 0o4755,
        modified: Some(SystemTime::UNIX_EPOCH),
    };

    fn write(unpack: &mut Unpack<'_>, path: &str, text: &str) -> Result<(), UnpackError> {
        unpack.file(path.as_ref(), ATTRIBUTES, text.len() as u64, |file| {
            file.write_all(text.as_bytes())
        })
    }

    fn refusal(result: Result<(), UnpackError>) -> String {
        match result {
            Err(UnpackError::Refused(why)) => why,
            other => format!("{other:?}"),
        }
    }

    #[test]
    fn files_have_modes_without_set_id_bits_and_times_and_the_later_of_two_stays() {
        let dir = tempfile::tempdir().unwrap();
        let mut unpack = Unpack::new(dir.path(), RULE);
        let folder = Attributes {
            mode: 0o500,
            ..ATTRIBUTES
        };
        unpack.folder("a".as_ref(), folder).unwrap();
        write(&mut unpack, "a/x", "1").unwrap();
        write(&mut unpack, "a/x", "22").unwrap();
        unpack.finish().close(dir.path()).unwrap();
        let meta = fs::metadata(dir.path().join("a/x")).unwrap();
        assert_eq!((meta.len(), meta.permissions().mode()), (2, 0o100_755));
        assert_eq!(meta.modified().unwrap(), SystemTime::UNIX_EPOCH);
        let folder = fs::metadata(dir.path().join("a")).unwrap();
        assert_eq!(folder.permissions().mode() & 0o7777, 0o500);
        for (mode, open) in [(0o600, 0o644), (0o700, 0o755)] {
            assert_eq!(Modes::Open.of_file(mode), open);
        }
    }

    #[test]
    fn attack_16_no_name_leads_out_of_the_folder() {
        let dir = tempfile::tempdir().unwrap();
        let target = dir.path().join("target");
        fs::create_dir(&target).unwrap();
        let mut unpack = Unpack::new(&target, RULE);
        for name in ["../x", "/etc/x", "a/../../x", &"y".repeat(300)] {
            let why = refusal(write(&mut unpack, name, "1"));
            assert!(why.contains("of the name"), "{name}: {why}");
            unpack.entries = 0;
        }
        for name in [&b""[..], b".", b"..", b"a/b", b"a\0"] {
            assert!(plain_name(name).is_err());
        }
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
        assert_eq!(fs::read_dir(&target).unwrap().count(), 0);
    }

    #[test]
    fn attack_16_nothing_is_written_through_a_link_of_the_archive() {
        let dir = tempfile::tempdir().unwrap();
        let (target, outside) = (dir.path().join("target"), dir.path().join("outside"));
        fs::create_dir(&target).unwrap();
        fs::create_dir(&outside).unwrap();
        let mut unpack = Unpack::new(&target, RULE);
        unpack
            .symbolic_link("a".as_ref(), outside.as_os_str())
            .unwrap();
        assert!(write(&mut unpack, "a/x", "1").is_err());
        // A file in place of the link is one in the folder.
        write(&mut unpack, "a", "1").unwrap();
        assert!(target.join("a").symlink_metadata().unwrap().is_file());
        assert_eq!(fs::read_dir(&outside).unwrap().count(), 0);
        let links = Links::Refuse;
        let mut unpack = Unpack::new(&target, Rule { links, ..RULE });
        let link = unpack.symbolic_link("b".as_ref(), "x".as_ref());
        assert!(refusal(link).contains("is a link"));
    }

    #[test]
    fn bytes_files_and_folders_have_a_bound() {
        let dir = tempfile::tempdir().unwrap();
        let mut unpack = Unpack::new(dir.path(), RULE);
        write(&mut unpack, "a", "123456").unwrap();
        let why = refusal(write(&mut unpack, "b", "123456"));
        assert!(why.contains("more than 10 bytes"), "{why}");
        let why = refusal(write(&mut unpack, &"d/".repeat(40), "1"));
        assert!(why.contains("nested"), "{why}");
        write(&mut unpack, "c", "").unwrap();
        let why = refusal(write(&mut unpack, "d", ""));
        assert!(why.contains("more than 4 files"), "{why}");
    }
}
