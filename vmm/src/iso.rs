//! The files of an ISO image, read by an ordinary user: `bsdtar` turns the image into an archive
//! on its standard output, and what becomes a file is decided here.
//!
//! An image is a tenant's. Its first 32 KiB, which ISO 9660 leaves to boot loaders, are not
//! handed on, so that `bsdtar` can take it for nothing else (one of the formats that it knows
//! names files of the host as its content). Names stay beneath the target, nothing is written
//! through a link, and neither bytes nor files are more than the image can hold.

mod unpack;

use std::collections::HashSet;
use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use thiserror::Error;
use unpack::{Refused, Unpack};

/// How long reading one image may take.
const DEADLINE: Duration = Duration::from_secs(600);
/// What ISO 9660 leaves free at the beginning.
const SYSTEM_AREA: u64 = 32 * 1024;

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
    /// No `bsdtar`.
    #[error(
        "bsdtar is not installed on this host, and the ISO image {image} cannot be read without it; install the package libarchive-tools",
        image = image.display()
    )]
    NoProgram { image: PathBuf, source: io::Error },
    /// `bsdtar` cannot read it.
    #[error("{image} is not an ISO image that can be read: {said}", image = image.display())]
    Unreadable { image: PathBuf, said: String },
    /// An entry that no honest image has.
    #[error("the ISO image {image} is refused: {problem}", image = image.display())]
    Hostile { image: PathBuf, problem: String },
    /// It takes too long.
    #[error("reading the ISO image {image} did not end within {} s", DEADLINE.as_secs(), image = image.display())]
    Late { image: PathBuf },
}

/// Brings the files of `image` into the folder `target`, which keeps its identity: who has it
/// mounted sees the new files, each one whole. What is no longer in the image goes.
pub(crate) fn replace(image: &Path, target: &Path) -> Result<(), IsoError> {
    let fresh = beside(target);
    let done = extract(image, &fresh).and_then(|()| {
        (|| {
            fs::create_dir_all(target)?;
            fs::set_permissions(target, fs::Permissions::from_mode(0o755))?;
            move_in(&fresh, target)
        })()
        .map_err(|source| failed(image, target, source))
    });
    let _ = fs::remove_dir_all(&fresh);
    done
}

/// The same once: a folder that was made of this very image is left as it is.
pub(crate) fn once(image: &Path, target: &Path) -> Result<(), IsoError> {
    let stamp = target.with_extension("of");
    let now = identity(image).map_err(|source| failed(image, target, source))?;
    if target.is_dir() && fs::read_to_string(&stamp).is_ok_and(|then| then == now) {
        return Ok(());
    }
    replace(image, target)?;
    fs::write(&stamp, now).map_err(|source| failed(image, target, source))
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

fn beside(target: &Path) -> PathBuf {
    // The VM's lock is held: nobody else writes there.
    target.with_extension("new")
}

/// Writes the files of `image` to the folder `target`, which is made anew.
fn extract(image: &Path, target: &Path) -> Result<(), IsoError> {
    let io = |source| failed(image, target, source);
    let mut file = File::open(image).map_err(io)?;
    let bytes = file.metadata().map_err(io)?.len();
    match fs::remove_dir_all(target) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(io(e)),
        _ => {}
    }
    fs::create_dir_all(target).map_err(io)?;
    file.seek(SeekFrom::Start(SYSTEM_AREA)).map_err(io)?;
    // Nothing but zeroes before it would be an empty archive to `bsdtar`.
    let mut first = [0; 6];
    let descriptor = file.read_exact(&mut first).is_ok() && first.ends_with(b"CD001");
    if !descriptor {
        return Err(IsoError::Unreadable {
            image: image.to_owned(),
            said: "it has no volume descriptor".to_owned(),
        });
    }
    file.seek(SeekFrom::Start(SYSTEM_AREA)).map_err(io)?;
    let mut child = Command::new("bsdtar")
        .args(["-c", "-f", "-", "--format=pax", "@-"])
        .env_clear()
        .env("PATH", "/usr/bin:/bin")
        .env("LC_ALL", "C.UTF-8")
        .current_dir("/")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|source| IsoError::NoProgram {
            image: image.to_owned(),
            source,
        })?;
    let (input, output, errors) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let (send, received) = mpsc::channel();
    let (unpacked, said, status) = thread::scope(|scope| {
        scope.spawn(move || input.map(|to| feed(file, to)));
        let said = scope.spawn(move || {
            let mut text = Vec::new();
            errors.map(|from| from.take(4096).read_to_end(&mut text));
            String::from_utf8_lossy(&text).trim().to_owned()
        });
        let unpacking = scope.spawn(move || {
            let mut unpack = Unpack::new(target, bytes);
            let done = output.map_or(Ok(()), |from| unpack.all(from));
            let _ = send.send(());
            done
        });
        let late = received.recv_timeout(DEADLINE).is_err();
        // One that wrote all ends by itself; its code tells whether that was all.
        if late || !ends_soon(&mut child) {
            let _ = child.kill();
        }
        let unpacked = unpacking.join();
        (
            if late { None } else { unpacked.ok() },
            said.join().unwrap_or_default(),
            child.wait(),
        )
    });
    let status = status.map_err(io)?;
    match unpacked {
        None => Err(IsoError::Late {
            image: image.to_owned(),
        }),
        Some(Err(Refused::Io(source))) => Err(io(source)),
        Some(Err(Refused::Hostile(problem))) => Err(IsoError::Hostile {
            image: image.to_owned(),
            problem,
        }),
        Some(Ok(())) if status.success() => Ok(()),
        Some(Ok(()) | Err(Refused::Damaged)) => Err(IsoError::Unreadable {
            image: image.to_owned(),
            said: if said.is_empty() {
                status.to_string()
            } else {
                said
            },
        }),
    }
}

fn ends_soon(child: &mut Child) -> bool {
    let deadline = Instant::now() + Duration::from_secs(5);
    while Instant::now() < deadline {
        match child.try_wait() {
            Ok(None) => thread::park_timeout(Duration::from_millis(1)),
            other => return other.is_ok(),
        }
    }
    false
}

/// Zeroes in the place of the system area, then the image. Who reads no further has enough.
fn feed(mut image: File, mut to: ChildStdin) {
    #[expect(clippy::cast_possible_truncation, reason = "32 KiB")]
    let nothing = [0; SYSTEM_AREA as usize];
    let _ = to
        .write_all(&nothing)
        .and_then(|()| io::copy(&mut image, &mut to));
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
mod tests {
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

    fn bed() -> (tempfile::TempDir, PathBuf, PathBuf, PathBuf) {
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
        let (_dir, files, iso, target) = bed();
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
        let (_dir, files, iso, target) = bed();
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
        let (_dir, files, iso, target) = bed();
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
        fs::write(&iso, &bytes[..bytes.len() / 2]).unwrap();
        assert!(replace(&iso, &target).is_err());
        let mut hybrid = bytes;
        hybrid[..text.len().min(32768)].copy_from_slice(&text.as_bytes()[..32768]);
        fs::write(&iso, &hybrid).unwrap();
        replace(&iso, &target).unwrap();
        assert!(target.join("context.sh").exists() && !target.join("x").exists());
    }
}
