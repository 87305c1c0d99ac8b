//! Files and folders as steps: put one there, edit one. An edit keeps what it does not touch
//! byte for byte, keeps owner and mode, and leaves a time-stamped copy of what was there.

use std::fs::{self, File, Permissions};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt as _, PermissionsExt, chown, fchown};
use std::path::{Path, PathBuf};

use nix::fcntl::OFlag;
use nix::unistd::geteuid;
use onedock_common::state::files;

use crate::error::{Error, Result};
use crate::owner::Owner;
use crate::stamp;
use crate::step::{State, Step};

/// Where the bytes of a file come from; asked when they are needed.
pub type Source = Box<dyn Fn() -> Result<Vec<u8>>>;

/// A file with this content, mode and owner.
pub struct PutFile {
    pub path: PathBuf,
    pub source: Source,
    /// Its permission bits.
    pub mode: u32,
    pub owner: Owner,
}

impl std::fmt::Debug for PutFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PutFile")
            .field("path", &self.path)
            .finish_non_exhaustive()
    }
}

impl PutFile {
    /// A file of known content.
    pub fn new(path: PathBuf, bytes: impl Into<Vec<u8>>, mode: u32, owner: Owner) -> Box<Self> {
        let bytes = bytes.into();
        Self::from(path, move || Ok(bytes.clone()), mode, owner)
    }

    /// A file whose content is found out when it is needed.
    pub fn from(
        path: PathBuf,
        source: impl Fn() -> Result<Vec<u8>> + 'static,
        mode: u32,
        owner: Owner,
    ) -> Box<Self> {
        Box::new(Self {
            path,
            source: Box::new(source),
            mode,
            owner,
        })
    }
}

impl Step for PutFile {
    fn subject(&self) -> String {
        self.path.display().to_string()
    }

    fn check(&self) -> Result<State> {
        let wanted = (self.source)()?;
        let found = match fs::read(&self.path) {
            Ok(bytes) => bytes,
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                return Ok(State::Needed("write it".into()));
            }
            Err(e) => return Err(Error::file("read", &self.path)(e)),
        };
        if found != wanted {
            return Ok(State::Needed("write its new content".into()));
        }
        rights(&self.path, self.mode, &self.owner)
    }

    fn apply(&self) -> Result<()> {
        put(&self.path, &(self.source)()?, self.mode, &self.owner)
    }
}

/// A folder with this mode and owner. Folders above it that are missing are made 0755 root.
#[derive(Debug)]
pub struct Folder {
    pub path: PathBuf,
    /// Its permission bits.
    pub mode: u32,
    pub owner: Owner,
}

impl Folder {
    /// A folder step.
    pub fn new(path: PathBuf, mode: u32, owner: Owner) -> Box<Self> {
        Box::new(Self { path, mode, owner })
    }
}

impl Step for Folder {
    fn subject(&self) -> String {
        self.path.display().to_string()
    }

    fn check(&self) -> Result<State> {
        if !self.path.is_dir() {
            return Ok(State::Needed("make it".into()));
        }
        rights(&self.path, self.mode, &self.owner)
    }

    fn apply(&self) -> Result<()> {
        fs::create_dir_all(&self.path).map_err(Error::file("make", &self.path))?;
        give_folder(&self.path, self.mode, &self.owner)
    }
}

/// Gives the folder itself, not one that a link of somebody else's leads to: the folder above may
/// be writable by the owner-to-be, who could exchange it meanwhile.
fn give_folder(path: &Path, mode: u32, owner: &Owner) -> Result<()> {
    let (uid, gid) = owner.resolve()?;
    let meta = fs::symlink_metadata(path).map_err(Error::file("read", path))?;
    let mut flags = OFlag::O_DIRECTORY;
    if !(meta.is_symlink() && meta.uid() == geteuid().as_raw()) {
        flags |= OFlag::O_NOFOLLOW;
    }
    let folder = File::options()
        .read(true)
        .custom_flags(flags.bits())
        .open(path)
        .map_err(Error::file("open", path))?;
    fchown(&folder, Some(uid.as_raw()), Some(gid.as_raw()))
        .map_err(Error::file("give away", path))?;
    folder
        .set_permissions(Permissions::from_mode(mode))
        .map_err(Error::file("protect", path))
}

fn rights(path: &Path, mode: u32, owner: &Owner) -> Result<State> {
    let meta = fs::metadata(path).map_err(Error::file("examine", path))?;
    let owned = owner
        .resolve()
        .is_ok_and(|(uid, gid)| (uid.as_raw(), gid.as_raw()) == (meta.uid(), meta.gid()));
    Ok(State::needed_if(
        !owned || meta.permissions().mode() & 0o7777 != mode,
        format!("owner {owner}, mode {mode:04o}"),
    ))
}

fn give(path: &Path, mode: u32, owner: &Owner) -> Result<()> {
    let (uid, gid) = owner.resolve()?;
    chown(path, Some(uid.as_raw()), Some(gid.as_raw())).map_err(Error::file("give away", path))?;
    fs::set_permissions(path, Permissions::from_mode(mode)).map_err(Error::file("protect", path))
}

/// Puts a file in place at once with its content, owner and mode: it is made beside its place,
/// readable by root alone, given its rights, and renamed.
pub fn put(path: &Path, bytes: &[u8], mode: u32, owner: &Owner) -> Result<()> {
    let folder = path.parent().unwrap_or(Path::new("/"));
    fs::create_dir_all(folder).map_err(Error::file("make", folder))?;
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let staged = folder.join(format!(".{name}.onedock"));
    let placed = files::replace(&staged, bytes, 0o600)
        .map_err(Error::file("write", &staged))
        .and_then(|()| give(&staged, mode, owner))
        .and_then(|()| fs::rename(&staged, path).map_err(Error::file("write", path)));
    if placed.is_err() {
        let _ = files::remove(&staged);
    }
    placed
}

/// A text after an edit, and what the edit did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Edited {
    /// The whole text.
    pub text: String,
    /// One phrase for each change; empty when there was none.
    pub changes: Vec<String>,
}

/// Edits a text file that belongs to someone else.
pub struct EditFile<F> {
    pub path: PathBuf,
    /// From its text to the edited text.
    pub edit: F,
}

impl<F> std::fmt::Debug for EditFile<F> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EditFile")
            .field("path", &self.path)
            .finish_non_exhaustive()
    }
}

impl<F: Fn(&str) -> Result<Edited> + 'static> EditFile<F> {
    /// An edit step.
    pub fn new(path: PathBuf, edit: F) -> Box<Self> {
        Box::new(Self { path, edit })
    }

    fn edited(&self) -> Result<(String, Edited)> {
        let before = fs::read_to_string(&self.path).map_err(Error::file("read", &self.path))?;
        let edited = (self.edit)(&before)?;
        Ok((before, edited))
    }
}

impl<F: Fn(&str) -> Result<Edited> + 'static> Step for EditFile<F> {
    fn subject(&self) -> String {
        self.path.display().to_string()
    }

    fn check(&self) -> Result<State> {
        let (before, edited) = self.edited()?;
        Ok(State::needed_if(
            before != edited.text,
            edited.changes.join(", "),
        ))
    }

    fn apply(&self) -> Result<()> {
        let (before, edited) = self.edited()?;
        // A link stays a link: what it points to is edited.
        let path = fs::canonicalize(&self.path).map_err(Error::file("find", &self.path))?;
        let meta = fs::metadata(&path).map_err(Error::file("examine", &path))?;
        let (mode, owner) = (meta.permissions().mode() & 0o7777, Owner::of(&path)?);
        put(&backup_path(&path), before.as_bytes(), mode, &owner)?;
        put(&path, edited.text.as_bytes(), mode, &owner)
    }
}

/// Where the copy of what was there goes.
pub fn backup_path(path: &Path) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!("{name}.{}.before-onedock", stamp::now()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::step::{Mode, Steps, run};

    fn mine(dir: &Path) -> Owner {
        Owner::of(dir).unwrap()
    }

    #[test]
    fn a_folder_is_not_given_away_through_somebody_else_s_link() {
        let dir = tempfile::tempdir().unwrap();
        let (target, link) = (dir.path().join("target"), dir.path().join("link"));
        fs::create_dir(&target).unwrap();
        fs::set_permissions(&target, Permissions::from_mode(0o700)).unwrap();
        std::os::unix::fs::symlink(&target, &link).unwrap();
        let mode = || fs::metadata(&target).unwrap().permissions().mode() & 0o7777;
        let step = Folder::new(link.clone(), 0o755, mine(dir.path()));
        if geteuid().is_root() {
            std::os::unix::fs::lchown(&link, Some(9869), None).unwrap();
            assert!(step.apply().is_err());
            assert_eq!(mode(), 0o700);
            std::os::unix::fs::lchown(&link, Some(0), None).unwrap();
        }
        // An administrator's own link to another disk is followed.
        step.apply().unwrap();
        assert_eq!(mode(), 0o755);
    }

    #[test]
    fn a_put_file_has_its_mode_and_the_second_time_nothing_is_done() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a/b");
        let steps: Steps = vec![PutFile::new(path.clone(), "x", 0o640, mine(dir.path()))];
        assert_eq!(
            run(&steps, Mode::Apply, &mut Vec::new()).unwrap().changed(),
            1
        );
        assert_eq!(
            fs::metadata(&path).unwrap().permissions().mode() & 0o7777,
            0o640
        );
        assert_eq!(
            run(&steps, Mode::Apply, &mut Vec::new()).unwrap().changed(),
            0
        );
        fs::set_permissions(&path, Permissions::from_mode(0o777)).unwrap();
        assert_eq!(
            run(&steps, Mode::Apply, &mut Vec::new()).unwrap().changed(),
            1
        );
    }

    #[test]
    fn an_edit_backs_up_once_and_without_a_change_it_touches_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("oned.conf");
        fs::write(&path, "a\n").unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o640)).unwrap();
        let steps: Steps = vec![EditFile::new(path.clone(), |text: &str| {
            Ok(Edited {
                text: text.replace('a', "b"),
                changes: vec!["a becomes b".into()],
            })
        })];
        let count = || fs::read_dir(dir.path()).unwrap().count();
        run(&steps, Mode::DryRun, &mut Vec::new()).unwrap();
        assert_eq!(
            (count(), fs::read_to_string(&path).unwrap()),
            (1, "a\n".into())
        );
        run(&steps, Mode::Apply, &mut Vec::new()).unwrap();
        assert_eq!(
            (count(), fs::read_to_string(&path).unwrap()),
            (2, "b\n".into())
        );
        assert_eq!(
            fs::metadata(&path).unwrap().permissions().mode() & 0o7777,
            0o640
        );
        let inode = fs::metadata(&path).unwrap().ino();
        run(&steps, Mode::Apply, &mut Vec::new()).unwrap();
        assert_eq!((count(), fs::metadata(&path).unwrap().ino()), (2, inode));
    }
}
