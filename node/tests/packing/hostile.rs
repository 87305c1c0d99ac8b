//! What somebody in the container, or with the helper's one line in sudoers, may try; and what
//! happens when the container goes on while its layer is read.

use std::fs::{self, File};
use std::io::Read as _;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::UNIX_EPOCH;

use anyhow::{Result, bail, ensure};
use onedock_common::ContainerId;
use onedock_common::state::paths::Paths;
use onedock_node::layers::PackError;
use onedock_node::layers::pack::pack;
use onedock_node::layers::rootfs::Root;
use rustix::fs::{XattrFlags, setxattr};
use serde_json::json;
use tempfile::TempDir;

use crate::image;

/// A container's layer that is recorded, in a folder of the test's own.
struct Recorded {
    dir: TempDir,
    paths: Paths,
    container: ContainerId,
    /// The folder with its changes.
    upper: PathBuf,
}

impl Recorded {
    fn new() -> Result<Self> {
        let dir = tempfile::tempdir()?;
        let all = fs::canonicalize(dir.path())?;
        for name in ["upper", "work", "lower"] {
            fs::create_dir(all.join(name))?;
        }
        let layer = Self {
            paths: Paths::at(all.join("state")),
            container: "ab".repeat(32).parse()?,
            upper: all.join("upper"),
            dir,
        };
        layer.record()?;
        Ok(layer)
    }

    /// Writes what the runtime would.
    fn record(&self) -> Result<()> {
        let meta = fs::metadata(&self.upper)?;
        let born = meta.created()?.duration_since(UNIX_EPOCH)?.as_nanos();
        let all = self.upper.parent().unwrap();
        let record = json!({
            "upper": self.upper, "work": all.join("work"), "engine": null,
            "lower": [all.join("lower")],
            "identity": {"inode": meta.ino(), "born": born},
            "ids": {"users": [], "groups": []},
        });
        fs::create_dir_all(self.paths.layers_dir())?;
        let path = self.paths.layer_record(&self.container);
        Ok(fs::write(path, record.to_string())?)
    }

    fn pack(&self, whole: bool) -> Result<Vec<u8>, PackError> {
        let mut bytes = Vec::new();
        pack(&self.paths, &self.container, whole, &mut bytes)?;
        Ok(bytes)
    }

    fn names(&self) -> Result<Vec<String>> {
        let bytes = self.pack(false)?;
        let mut archive = tar::Archive::new(&bytes[..]);
        let names = archive
            .entries()?
            .map(|entry| Ok(String::from_utf8_lossy(&entry?.path_bytes()).into_owned()));
        names.collect()
    }

    fn refused(&self) -> Result<String> {
        let Err(error) = self.pack(false) else {
            bail!("{} was packed", self.upper.display());
        };
        Ok(error.to_string())
    }
}

#[test]
fn attack_49_only_what_the_runtime_has_recorded_is_packed() -> Result<()> {
    let layer = Recorded::new()?;
    ensure!(layer.names()?.is_empty());
    // A link in place of any part.
    let other = layer.dir.path().join("other");
    fs::rename(&layer.upper, &other)?;
    symlink(&other, &layer.upper)?;
    ensure!(layer.refused()?.contains("Not a directory"));
    // Another folder at the place.
    fs::remove_file(&layer.upper)?;
    fs::create_dir(&layer.upper)?;
    ensure!(layer.refused()?.contains("is not the folder any more"));
    fs::remove_dir(&layer.upper)?;
    fs::rename(&other, &layer.upper)?;
    ensure!(layer.names()?.is_empty());
    let lower = layer.dir.path().join("lower");
    fs::remove_dir(&lower)?;
    symlink("/etc", &lower)?;
    ensure!(layer.refused()?.contains("Not a directory"));
    fs::remove_file(layer.paths.layer_record(&layer.container))?;
    ensure!(
        layer
            .refused()?
            .contains("it is not known where the layers")
    );

    // The program has no other way in.
    for request in [
        r#"{"action":"pack_layer","layer":"/etc","whole":false}"#,
        r#"{"action":"pack_layer","container":"../../etc","whole":false}"#,
    ] {
        let error = image::send(request, Stdio::null())?;
        ensure!(error.contains("not one of this version"), "{error}");
    }
    Ok(())
}

#[test]
fn attack_16_links_are_carried_and_never_followed() -> Result<()> {
    let layer = Recorded::new()?;
    let (dir, diff) = (&layer.dir, &layer.upper);
    fs::write(dir.path().join("secret"), "the host's own words")?;
    symlink(dir.path(), diff.join("folder"))?;
    symlink(dir.path().join("secret"), diff.join("file"))?;
    symlink("..", diff.join("up"))?;
    let bytes = layer.pack(false)?;
    let text = String::from_utf8_lossy(&bytes);
    ensure!(layer.names()? == ["file", "folder", "up"]);
    ensure!(!text.contains("own words"));
    Ok(())
}

#[test]
fn attack_16_names_that_would_delete_and_paths_that_nobody_can_unpack_are_refused() -> Result<()> {
    for name in [".wh.x", ".wh.", ".wh..wh..opq", ".wh..."] {
        let layer = Recorded::new()?;
        let diff = &layer.upper;
        fs::create_dir(diff.join("d"))?;
        fs::write(diff.join("d").join(name), "")?;
        let error = layer.refused()?;
        ensure!(
            error.contains("cannot be in an image") && error.contains("/d/.wh."),
            "{error}"
        );
    }
    let layer = Recorded::new()?;
    let diff = &layer.upper;
    // Deeper than a path reaches.
    let back = std::env::current_dir()?;
    let mut at = File::open(diff)?;
    for _ in 0..2100 {
        nix::sys::stat::mkdirat(&at, "d", nix::sys::stat::Mode::S_IRWXU)?;
        let flags = nix::fcntl::OFlag::O_DIRECTORY;
        at = nix::fcntl::openat(&at, "d", flags, nix::sys::stat::Mode::empty())?.into();
    }
    ensure!(back == std::env::current_dir()?);
    ensure!(layer.refused()?.contains("more than 4095 bytes"));
    Ok(())
}

#[test]
fn attack_16_marks_of_the_overlay_count_only_where_no_container_can_write_them() -> Result<()> {
    let layer = Recorded::new()?;
    let diff = &layer.upper;
    for name in ["a-opaque", "b-not"] {
        fs::create_dir(diff.join(name))?;
        fs::write(diff.join(name).join("x"), "")?;
    }
    let set = |path: &str, name: &str, value: &[u8]| {
        setxattr(diff.join(path), name, value, XattrFlags::empty())
    };
    set("a-opaque", "trusted.overlay.opaque", b"y")?;
    set("b-not", "trusted.overlay.opaque", b"x")?;
    set("b-not", "user.overlay.opaque", b"y")?;
    set("b-not", "user.overlay.redirect", b"/etc")?;
    set("b-not/x", "trusted.overlay.whiteout", b"y")?;
    ensure!(
        layer.names()?
            == [
                "a-opaque/",
                "a-opaque/.wh..wh..opq",
                "a-opaque/x",
                "b-not/",
                "b-not/.wh.x"
            ]
    );
    for mark in ["trusted.overlay.redirect", "trusted.overlay.metacopy"] {
        set("a-opaque", mark, b"/elsewhere")?;
        let error = layer.refused()?;
        ensure!(
            error.contains("/a-opaque") && error.contains("redirect_dir=N"),
            "{error}"
        );
        rustix::fs::removexattr(diff.join("a-opaque"), mark)?;
    }
    Ok(())
}

#[test]
fn attack_39_mount_points_of_ours_are_left_out_while_they_hold_nothing() -> Result<()> {
    let layer = Recorded::new()?;
    let diff = &layer.upper;
    let root = Root::open(diff, (0, 0))?;
    root.mount_point("context")?;
    root.mount_point("mnt")?;
    let inner = Root::open(&diff.join("mnt"), (0, 0))?;
    inner.mount_point("disk.1")?;
    ensure!(layer.names()?.is_empty());
    fs::write(diff.join("mnt/disk.1/left"), "by the container")?;
    ensure!(layer.names()? == ["mnt/", "mnt/disk.1/", "mnt/disk.1/left"]);
    Ok(())
}

#[test]
fn a_root_folder_of_its_own_kind_is_carried() -> Result<()> {
    let layer = Recorded::new()?;
    let diff = &layer.upper;
    fs::set_permissions(diff, fs::Permissions::from_mode(0o700))?;
    ensure!(layer.names()? == ["./"]);
    Ok(())
}

/// Files shrink, grow, vanish and turn into links to what the host keeps, folders turn into links,
/// all while they are read: the archive stays one, and nothing from outside is in it.
#[test]
fn a_tree_that_changes_while_it_is_read_gives_an_archive() -> Result<()> {
    let layer = Recorded::new()?;
    let (dir, diff) = (&layer.dir, &layer.upper);
    let secret = dir.path().join("outside");
    fs::create_dir(&secret)?;
    fs::write(secret.join("file"), "the host's own words")?;
    for n in 0..50 {
        fs::create_dir(diff.join(format!("d{n}")))?;
    }
    let end = AtomicBool::new(false);
    let mut seen = 0;
    std::thread::scope(|scope| -> Result<()> {
        scope.spawn(|| {
            let mut turn = 0_usize;
            while !end.load(Ordering::Relaxed) {
                turn += 1;
                let folder = diff.join(format!("d{}", turn % 50));
                let file = folder.join("file");
                let length = turn * 7919 % 300_000;
                let _ = match turn % 7 {
                    0 => fs::remove_file(&file),
                    1 => fs::remove_file(&file).and_then(|()| symlink(secret.join("file"), &file)),
                    2 => fs::remove_dir_all(&folder).and_then(|()| symlink(&secret, &folder)),
                    3 => fs::remove_file(&folder).and_then(|()| fs::create_dir(&folder)),
                    _ => fs::write(&file, vec![b'x'; length]),
                };
            }
        });
        let done = (0..200).try_for_each(|_| {
            let bytes = layer.pack(false)?;
            ensure!(bytes.len() % 512 == 0 && bytes.ends_with(&[0; 1024]));
            let mut archive = tar::Archive::new(&bytes[..]);
            for entry in archive.entries()? {
                let mut entry = entry?;
                let mut contents = Vec::new();
                entry.read_to_end(&mut contents)?;
                ensure!(contents.iter().all(|b| matches!(b, b'x' | 0)));
                seen += 1;
            }
            Ok(())
        });
        end.store(true, Ordering::Relaxed);
        done
    })?;
    ensure!(seen > 1000, "only {seen} entries were seen");
    Ok(())
}
