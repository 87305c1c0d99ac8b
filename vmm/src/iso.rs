//! The files of an ISO image, read by an ordinary user, as the kernel would show them
//! (`fs/isofs`): with the names of Rock Ridge, else of Joliet, else the plain ones in lower case.
//!
//! An image is a tenant's: what is written, and where, follows [`onedock_common::unpack`], with no
//! more bytes than the image has.

mod record;
mod rock;
mod unpack;
mod volume;

use std::collections::HashSet;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use onedock_common::state::extracted::{self, fresh, stamp};
use onedock_common::unpack::Modes;
use thiserror::Error;
use unpack::{Unpack, Written};
use volume::{Bad, Volume};

/// Why the files of an image could not be had.
#[derive(Debug, Error)]
pub(crate) enum IsoError {
    /// The image cannot be read, or its files not be written.
    #[error("the files of the ISO image {image} cannot be written to {target}", image = image.display(), target = target.display())]
    Io {
        image: PathBuf,
        target: PathBuf,
        source: io::Error,
    },
    /// Not one, or a damaged one.
    #[error("{image} is not an ISO image that can be read: {problem}", image = image.display())]
    Unreadable { image: PathBuf, problem: String },
    /// It ends before its files do.
    #[error(
        "the ISO image {image} is cut off: {what} ends at byte {end} of it, and it has {length}; bring it here again, or import it anew",
        image = image.display()
    )]
    Cut {
        image: PathBuf,
        what: String,
        end: u64,
        length: u64,
    },
    /// What no honest image has, or what only the kernel can show.
    #[error("the ISO image {image} is refused: {problem}", image = image.display())]
    Refused { image: PathBuf, problem: String },
}

/// Brings the files of a context's `image` into the folder `target`, which keeps its identity:
/// who has it mounted sees the new files, each one whole. What is no longer in the image goes.
pub(crate) fn replace(image: &Path, target: &Path) -> Result<usize, IsoError> {
    bring(image, target, Modes::Open)
}

/// Brings the files of a CD into the folder `target`, with the modes and times that they have on
/// it. A folder that was made of this very image is left as it is. Answers how many of the files
/// that were written are not root's on the CD: an ordinary user cannot give them to anybody.
pub(crate) fn once(image: &Path, target: &Path) -> Result<usize, IsoError> {
    let stamp = stamp(target);
    let now = identity(image).map_err(|source| failed(image, target, source))?;
    if target.is_dir() && fs::read_to_string(&stamp).is_ok_and(|then| then == now) {
        return Ok(0);
    }
    let of_others = bring(image, target, Modes::Own)?;
    fs::write(&stamp, now).map_err(|source| failed(image, target, source))?;
    Ok(of_others)
}

fn bring(image: &Path, target: &Path, modes: Modes) -> Result<usize, IsoError> {
    let fresh = fresh(target);
    let done = extract(image, &fresh, modes).and_then(|written| {
        (|| {
            fs::create_dir_all(target)?;
            extracted::open_folders(target)?;
            fs::set_permissions(target, fs::Permissions::from_mode(0o755))?;
            move_in(&fresh, target)?;
            written.folders.close(target)?;
            Ok(written.of_others)
        })()
        .map_err(|source| failed(image, target, source))
    });
    let _ = fs::remove_dir_all(&fresh);
    done
}

fn identity(image: &Path) -> io::Result<String> {
    let meta = fs::metadata(image)?;
    let (dev, ino, size) = (meta.dev(), meta.ino(), meta.len());
    let (seconds, nanos) = (meta.mtime(), meta.mtime_nsec());
    Ok(format!("{dev} {ino} {size} {seconds}.{nanos}"))
}

fn failed(image: &Path, target: &Path, source: io::Error) -> IsoError {
    IsoError::Io {
        image: image.to_owned(),
        target: target.to_owned(),
        source,
    }
}

/// Writes the files of `image` to the folder `target`, which is made anew.
fn extract(image: &Path, target: &Path, modes: Modes) -> Result<Written, IsoError> {
    let io = |source| failed(image, target, source);
    let file = File::open(image).map_err(io)?;
    let length = file.metadata().map_err(io)?.len();
    match fs::remove_dir_all(target) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(io(e)),
        _ => {}
    }
    fs::create_dir_all(target).map_err(io)?;
    let volume = Volume::open(&file);
    let written = volume.and_then(|volume| Unpack::new(&volume, target, modes, length).all());
    written.map_err(|bad| {
        let image = image.to_owned();
        match bad {
            Bad::Io(source) => failed(&image, target, source),
            Bad::Damaged(problem) => IsoError::Unreadable { image, problem },
            Bad::Refused(problem) => IsoError::Refused { image, problem },
            Bad::Cut { what, end } => IsoError::Cut {
                image,
                what,
                end,
                length,
            },
        }
    })
}

/// Puts every file of `fresh` in the place of its predecessor, then removes what has no successor.
fn move_in(fresh: &Path, target: &Path) -> io::Result<()> {
    let mut names = HashSet::new();
    for entry in fs::read_dir(fresh)? {
        let entry = entry?;
        let (from, to) = (entry.path(), target.join(entry.file_name()));
        let was_folder = fs::symlink_metadata(&to).ok().map(|meta| meta.is_dir());
        if entry.file_type()?.is_dir() {
            if was_folder == Some(false) {
                fs::remove_file(&to)?;
            }
            if was_folder != Some(true) {
                fs::create_dir(&to)?;
                fs::set_permissions(&to, fs::Permissions::from_mode(0o755))?;
            }
            move_in(&from, &to)?;
        } else {
            if was_folder == Some(true) {
                fs::remove_dir_all(&to)?;
            }
            fs::rename(&from, &to)?;
        }
        names.insert(entry.file_name());
    }
    for entry in fs::read_dir(target)? {
        let entry = entry?;
        if names.contains(&entry.file_name()) {
            continue;
        }
        if entry.file_type()?.is_dir() {
            fs::remove_dir_all(entry.path())?;
        } else {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod listing_tests;

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    /// An image of what lies in `from`.
    fn image(from: &Path, to: &Path) {
        let made = Command::new("genisoimage")
            .args(["-quiet", "-J", "-R", "-o"])
            .args([to, from])
            .status()
            .unwrap();
        assert!(made.success());
    }

    fn an_iso() -> (tempfile::TempDir, PathBuf, PathBuf, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let (files, iso, target) = (
            dir.path().join("files"),
            dir.path().join("c.iso"),
            dir.path().join("5"),
        );
        fs::create_dir_all(files.join("sub")).unwrap();
        fs::write(files.join("context.sh"), "A='1'\n").unwrap();
        fs::write(files.join("sub/a file"), "two").unwrap();
        fs::write(files.join("big"), vec![7; 300_000]).unwrap();
        (dir, files, iso, target)
    }

    #[test]
    fn the_files_are_replaced_in_place_and_what_is_gone_goes() {
        let (_dir, files, iso, target) = an_iso();
        image(&files, &iso);
        replace(&iso, &target).unwrap();
        assert_eq!(fs::read(target.join("sub/a file")).unwrap(), b"two");
        assert_eq!(fs::read(target.join("big")).unwrap(), vec![7; 300_000]);
        let folder = fs::metadata(&target).unwrap().ino();
        fs::remove_file(files.join("big")).unwrap();
        fs::remove_dir_all(files.join("sub")).unwrap();
        fs::write(files.join("sub"), "now a file").unwrap();
        fs::write(files.join("context.sh"), "A='2'\n").unwrap();
        image(&files, &iso);
        replace(&iso, &target).unwrap();
        assert_eq!(fs::metadata(&target).unwrap().ino(), folder);
        assert_eq!(fs::read(target.join("context.sh")).unwrap(), b"A='2'\n");
        assert_eq!(fs::read(target.join("sub")).unwrap(), b"now a file");
        assert!(!target.join("big").exists());
        let beside = fs::read_dir(target.parent().unwrap()).unwrap().count();
        assert_eq!(beside, 3, "files, image, target");
    }

    #[test]
    fn the_same_image_is_read_once() {
        let (_dir, files, iso, target) = an_iso();
        image(&files, &iso);
        once(&iso, &target).unwrap();
        fs::write(target.join("mark"), "").unwrap();
        once(&iso, &target).unwrap();
        assert!(target.join("mark").exists());
        fs::write(files.join("more"), "").unwrap();
        image(&files, &iso);
        once(&iso, &target).unwrap();
        assert!(!target.join("mark").exists() && target.join("more").exists());
    }

    #[test]
    fn what_is_no_iso_image_is_refused_in_one_line_whatever_its_beginning_says() {
        let (_dir, files, iso, target) = an_iso();
        // A format that names files of the host: harmless where its beginning is not handed on.
        let mut text = format!(
            "#mtree\n./x type=file contents={}\n",
            files.join("big").display()
        );
        text.push_str(&" ".repeat(100_000));
        fs::write(&iso, &text).unwrap();
        let error = replace(&iso, &target).unwrap_err().to_string();
        assert!(error.contains("is not an ISO image"), "{error}");
        assert!(!target.exists());
        image(&files, &iso);
        let bytes = fs::read(&iso).unwrap();
        let mut hybrid = bytes;
        hybrid[..text.len().min(32768)].copy_from_slice(&text.as_bytes()[..32768]);
        fs::write(&iso, &hybrid).unwrap();
        replace(&iso, &target).unwrap();
        assert!(target.join("context.sh").exists() && !target.join("x").exists());
    }
}
