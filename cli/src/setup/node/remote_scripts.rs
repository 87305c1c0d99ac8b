//! The folder in which OpenNebula puts its drivers on a node, as oneadmin (SCRIPTS_REMOTE_DIR).
//! Where oneadmin cannot write there, the front-end only says "Error monitoring Host".
//!
//! A folder of somebody else's is moved aside, never given away: what lies in it was put there by
//! another, and oneadmin would run it (docs/decisions/0023-folder-of-the-drivers.md).

use std::fs::{self, File, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use nix::fcntl::OFlag;

use crate::error::{Error, Result};
use crate::file_step::{Folder, backup_path};
use crate::owner::Owner;
use crate::step::{State, Step, action};

/// What is done about the folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Remedy {
    /// oneadmin can use it, or make it.
    Nothing,
    /// It is not there, and lies where only root can make it.
    Make,
    /// It is oneadmin's, with a mode that keeps oneadmin out or lets everybody in.
    SetMode(u32),
    /// It is somebody else's.
    MoveAside,
}

/// The folder is there for oneadmin and for nobody else to write.
pub(super) fn step(folder: PathBuf, oneadmin: Owner) -> Box<dyn Step> {
    let (a, b, owner) = (folder.clone(), folder.clone(), oneadmin.clone());
    action(
        folder.display().to_string(),
        move || {
            Ok(match remedy(&a, &oneadmin)? {
                Remedy::Nothing => State::Unchanged,
                Remedy::Make => State::Needed("make it".into()),
                Remedy::SetMode(mode) => State::Needed(format!("mode {mode:04o}")),
                Remedy::MoveAside => State::Needed(format!(
                    "it is not {oneadmin}'s, and OpenNebula could not put its drivers there: move \
                     it aside and make it anew"
                )),
            })
        },
        move || {
            let make = || Folder::new(b.clone(), 0o755, owner.clone()).apply();
            match remedy(&b, &owner)? {
                Remedy::Nothing => Ok(()),
                Remedy::Make => make(),
                Remedy::SetMode(mode) => open(&b)
                    .and_then(|folder| folder.set_permissions(Permissions::from_mode(mode)))
                    .map_err(Error::file("protect", &b)),
                Remedy::MoveAside => {
                    let aside = backup_path(&b);
                    fs::rename(&b, &aside).map_err(Error::file("move aside", &b))?;
                    make()
                }
            }
        },
    )
}

/// The folder itself: in a folder that everybody may write, a link could lead elsewhere.
fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .read(true)
        .custom_flags((OFlag::O_NOFOLLOW | OFlag::O_DIRECTORY).bits())
        .open(path)
}

fn remedy(path: &Path, oneadmin: &Owner) -> Result<Remedy> {
    let meta = match fs::symlink_metadata(path) {
        Ok(meta) => meta,
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            return Ok(if anybody_can_make(path) {
                Remedy::Nothing
            } else {
                Remedy::Make
            });
        }
        Err(e) => return Err(Error::file("examine", path)(e)),
    };
    // Before the step that makes the user, in a dry run, the folder is nobody's yet.
    let Ok((uid, gid)) = oneadmin.resolve() else {
        return Ok(Remedy::Nothing);
    };
    if meta.is_dir() {
        let of = (meta.uid(), meta.gid());
        let remedy = decide(meta.mode() & 0o7777, of, (uid.as_raw(), gid.as_raw()));
        return match remedy {
            Remedy::MoveAside if !holds_drivers(path)? => Err(unusable(path, oneadmin)),
            remedy => Ok(remedy),
        };
    }
    // An administrator's link to a folder that oneadmin can use is as good.
    let target = fs::metadata(path).ok().filter(fs::Metadata::is_dir);
    let usable = target.is_some_and(|meta| {
        let of = (meta.uid(), meta.gid());
        decide(meta.mode() & 0o7777, of, (uid.as_raw(), gid.as_raw())) == Remedy::Nothing
    });
    if usable {
        return Ok(Remedy::Nothing);
    }
    Err(unusable(path, oneadmin))
}

/// Whether the folder is in one like `/var/tmp`, where OpenNebula makes it itself.
fn anybody_can_make(path: &Path) -> bool {
    let parent = path.parent().and_then(|parent| fs::metadata(parent).ok());
    parent.is_some_and(|meta| meta.is_dir() && meta.mode() & 0o003 == 0o003)
}

fn unusable(path: &Path, oneadmin: &Owner) -> Error {
    Error::refused(format!(
        "OpenNebula puts its drivers into {} as {oneadmin}, and cannot: it must be a folder of \
         {oneadmin}'s; move away what is there and call this again",
        path.display()
    ))
}

/// From the mode and the owner of the folder, and oneadmin's numbers.
fn decide(mode: u32, of: (u32, u32), (uid, gid): (u32, u32)) -> Remedy {
    let open_to_all = mode & 0o002 != 0;
    if of.0 == uid {
        return if mode & 0o700 == 0o700 && !open_to_all {
            Remedy::Nothing
        } else {
            Remedy::SetMode((mode | 0o700) & !0o002)
        };
    }
    let by_group = of.1 == gid && mode & 0o070 == 0o070;
    if by_group && !open_to_all {
        Remedy::Nothing
    } else {
        Remedy::MoveAside
    }
}

/// Whether nothing but drivers of OpenNebula can be in it. Another folder, named by mistake, is
/// not ours to move.
fn holds_drivers(path: &Path) -> Result<bool> {
    let mut entries = fs::read_dir(path).map_err(Error::file("read", path))?;
    Ok(entries.next().is_none() || path.join("vmm").is_dir() || path.join("im").is_dir())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::step::{Mode, run};
    use nix::unistd::{Gid, Uid};

    #[test]
    fn only_a_folder_that_oneadmin_alone_can_write_is_left_as_it_is() {
        let oneadmin = (9869, 9869);
        for (mode, of, expected) in [
            (0o755, (9869, 9869), Remedy::Nothing),
            (0o700, (9869, 0), Remedy::Nothing),
            (0o2775, (0, 9869), Remedy::Nothing),
            (0o777, (9869, 9869), Remedy::SetMode(0o775)),
            (0o555, (9869, 9869), Remedy::SetMode(0o755)),
            (0o755, (0, 0), Remedy::MoveAside),
            (0o755, (0, 9869), Remedy::MoveAside),
            (0o777, (0, 9869), Remedy::MoveAside),
            (0o1777, (0, 0), Remedy::MoveAside),
        ] {
            assert_eq!(decide(mode, of, oneadmin), expected, "{mode:o} {of:?}");
        }
    }

    fn owner(path: &Path) -> Owner {
        Owner::of(path).unwrap()
    }

    fn done(folder: &Path, oneadmin: Owner) -> Result<usize> {
        let steps = vec![step(folder.to_path_buf(), oneadmin)];
        run(&steps, Mode::Apply, &mut Vec::new()).map(|summary| summary.changed())
    }

    #[test]
    fn a_missing_folder_is_made_and_a_mode_is_mended_once() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("one");
        assert_eq!(done(&folder, owner(dir.path())).unwrap(), 1);
        assert_eq!(done(&folder, owner(dir.path())).unwrap(), 0);
        fs::set_permissions(&folder, Permissions::from_mode(0o777)).unwrap();
        assert_eq!(done(&folder, owner(dir.path())).unwrap(), 1);
        assert_eq!(fs::metadata(&folder).unwrap().mode() & 0o7777, 0o775);
    }

    #[test]
    fn a_missing_folder_in_one_like_var_tmp_is_left_to_opennebula() {
        let dir = tempfile::tempdir().unwrap();
        fs::set_permissions(dir.path(), Permissions::from_mode(0o1777)).unwrap();
        let folder = dir.path().join("one");
        assert_eq!(done(&folder, owner(dir.path())).unwrap(), 0);
        assert!(!folder.exists());
    }

    /// The owner of the folder is who runs the test; oneadmin is somebody else.
    #[test]
    fn a_folder_of_somebody_else_is_moved_aside_with_what_is_in_it() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("one");
        fs::create_dir_all(folder.join("vmm")).unwrap();
        let (uid, gid) = (Uid::from_raw(64_999), Gid::from_raw(64_999));
        let state = step(folder.clone(), Owner::Ids(uid, gid)).check().unwrap();
        assert!(matches!(state, State::Needed(what) if what.contains("move it aside")));
        // Without root nothing can be given away, so the new one belongs to nobody else.
        let made = done(&folder, Owner::Ids(uid, gid));
        let names: Vec<_> = fs::read_dir(dir.path())
            .unwrap()
            .map(|e| e.unwrap().file_name().into_string().unwrap())
            .collect();
        let aside = names
            .iter()
            .find(|n| n.ends_with(".before-onedock"))
            .unwrap();
        assert!(dir.path().join(aside).join("vmm").is_dir());
        if made.is_ok() {
            assert_eq!(fs::metadata(&folder).unwrap().uid(), 64_999);
            assert!(!folder.join("vmm").exists());
        }
    }

    #[test]
    fn what_is_no_folder_of_drivers_is_refused_and_stays() {
        let dir = tempfile::tempdir().unwrap();
        let somebody = Owner::Ids(Uid::from_raw(64_999), Gid::from_raw(64_999));
        let folder = dir.path().join("one");
        fs::create_dir(&folder).unwrap();
        fs::write(folder.join("letter"), "x").unwrap();
        let file = dir.path().join("file");
        fs::write(&file, "x").unwrap();
        let link = dir.path().join("link");
        std::os::unix::fs::symlink(&folder, &link).unwrap();
        for path in [&folder, &file, &link] {
            let line = done(path, somebody.clone()).unwrap_err().line();
            assert!(line.contains("move away what is there"), "{line}");
        }
        assert!(folder.join("letter").exists());
        // A link to a folder that is oneadmin's will do, and stays a link.
        assert_eq!(done(&link, owner(&folder)).unwrap(), 0);
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
    }
}
