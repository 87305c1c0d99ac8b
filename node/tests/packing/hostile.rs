//! What somebody in the container, or with the helper's one line in sudoers, may try; and what
//! happens when the container goes on while its layer is read.

use std::fs::{self, File};
use std::io::Read as _;
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Result, ensure};
use onedock_node::layers::pack::pack;
use onedock_node::layers::rootfs::Root;
use onedock_node::request::Request;
use rustix::fs::{XattrFlags, setxattr};
use tempfile::TempDir;

use crate::image;

/// A folder like the engine's, with the `diff` of one layer.
fn made() -> Result<(TempDir, PathBuf, PathBuf)> {
    let dir = tempfile::tempdir()?;
    let layer = dir.path().join("overlay2").join("ab".repeat(32));
    let diff = layer.join("diff");
    fs::create_dir_all(&diff)?;
    Ok((dir, layer, diff))
}

fn names(layer: &Path) -> Result<Vec<String>> {
    let mut bytes = Vec::new();
    pack(layer, false, &mut bytes)?;
    let mut archive = tar::Archive::new(&bytes[..]);
    let names = archive
        .entries()?
        .map(|entry| Ok(String::from_utf8_lossy(&entry?.path_bytes()).into_owned()));
    names.collect()
}

fn refused(layer: &Path) -> Result<String> {
    let request = Request::PackLayer {
        layer: layer.to_owned(),
        whole: false,
    };
    let error = image::call(&request, Stdio::null())?;
    ensure!(!error.is_empty(), "{} was packed", layer.display());
    ensure!(error.lines().count() == 1, "{error}");
    Ok(error)
}

#[test]
fn attack_49_only_the_engines_own_folder_of_a_layer_is_packed() -> Result<()> {
    let (dir, layer, diff) = made()?;
    let all = layer.parent().unwrap();
    for path in [
        PathBuf::from("/etc"),
        all.to_owned(),
        diff.clone(),
        layer.strip_prefix("/")?.to_owned(),
        all.join("..").join("overlay2").join("ab".repeat(32)),
        all.join("AB".repeat(32)),
        PathBuf::from(format!("{}/", layer.display())),
    ] {
        ensure!(refused(&path)?.contains("is not the folder of a container's layer"));
    }
    // A link in place of any part.
    let link = all.join("cd".repeat(32));
    symlink(&layer, &link)?;
    ensure!(refused(&link)?.contains("Not a directory"));
    let other = dir.path().join("other");
    fs::create_dir(&other)?;
    symlink(all, other.join("overlay2"))?;
    let name = "ab".repeat(32);
    ensure!(refused(&other.join("overlay2").join(&name))?.contains("Not a directory"));
    symlink(dir.path(), other.join("further"))?;
    ensure!(refused(&other.join("further/overlay2").join(&name))?.contains("ELOOP"));
    fs::rename(&diff, layer.join("real"))?;
    symlink("real", &diff)?;
    ensure!(refused(&layer)?.contains("Not a directory"));
    fs::remove_file(&diff)?;
    fs::rename(layer.join("real"), &diff)?;
    // A tree of one's own.
    fs::set_permissions(all, fs::Permissions::from_mode(0o777))?;
    ensure!(refused(&layer)?.contains("does not belong to the engine alone"));
    fs::set_permissions(all, fs::Permissions::from_mode(0o710))?;
    chown(&layer, Some(1000), None)?;
    ensure!(refused(&layer)?.contains("does not belong to the engine alone"));
    chown(&layer, Some(0), None)?;
    ensure!(names(&layer)?.is_empty());
    Ok(())
}

#[test]
fn attack_49_the_layers_below_are_layers() -> Result<()> {
    let (_dir, layer, _) = made()?;
    let all = layer.parent().unwrap();
    fs::create_dir(all.join("l"))?;
    for (link, target) in [
        ("AAA", "/etc"),
        ("BBB", "../../etc/diff"),
        ("CCC", "../diff"),
        ("DDD", "../../../diff"),
    ] {
        symlink(target, all.join("l").join(link))?;
        fs::write(layer.join("lower"), format!("l/{link}"))?;
        ensure!(refused(&layer)?.contains("which is no layer"));
    }
    for text in ["/etc", "l/../l/AAA", "AAA", "l/"] {
        fs::write(layer.join("lower"), text)?;
        ensure!(refused(&layer)?.contains("names no layer"));
    }
    Ok(())
}

#[test]
fn attack_16_links_are_carried_and_never_followed() -> Result<()> {
    let (dir, layer, diff) = made()?;
    fs::write(dir.path().join("secret"), "the host's own words")?;
    symlink(dir.path(), diff.join("folder"))?;
    symlink(dir.path().join("secret"), diff.join("file"))?;
    symlink("..", diff.join("up"))?;
    let mut bytes = Vec::new();
    pack(&layer, false, &mut bytes)?;
    let text = String::from_utf8_lossy(&bytes);
    ensure!(names(&layer)? == ["file", "folder", "up"]);
    ensure!(!text.contains("own words"));
    Ok(())
}

#[test]
fn attack_16_names_that_would_delete_and_paths_that_nobody_can_unpack_are_refused() -> Result<()> {
    for name in [".wh.x", ".wh.", ".wh..wh..opq", ".wh..."] {
        let (_dir, layer, diff) = made()?;
        fs::create_dir(diff.join("d"))?;
        fs::write(diff.join("d").join(name), "")?;
        let error = refused(&layer)?;
        ensure!(
            error.contains("cannot be in an image") && error.contains("/d/.wh."),
            "{error}"
        );
    }
    let (_dir, layer, diff) = made()?;
    // Deeper than a path reaches.
    let back = std::env::current_dir()?;
    let mut at = File::open(&diff)?;
    for _ in 0..2100 {
        nix::sys::stat::mkdirat(&at, "d", nix::sys::stat::Mode::S_IRWXU)?;
        let flags = nix::fcntl::OFlag::O_DIRECTORY;
        at = nix::fcntl::openat(&at, "d", flags, nix::sys::stat::Mode::empty())?.into();
    }
    ensure!(back == std::env::current_dir()?);
    ensure!(refused(&layer)?.contains("more than 4095 bytes"));
    Ok(())
}

#[test]
fn attack_16_marks_of_the_overlay_count_only_where_no_container_can_write_them() -> Result<()> {
    let (_dir, layer, diff) = made()?;
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
        names(&layer)?
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
        let error = refused(&layer)?;
        ensure!(
            error.contains("/a-opaque") && error.contains("redirect_dir=N"),
            "{error}"
        );
        rustix::fs::removexattr(diff.join("a-opaque"), mark)?;
    }
    Ok(())
}

#[test]
fn mount_points_of_ours_are_left_out_while_they_hold_nothing() -> Result<()> {
    let (_dir, layer, diff) = made()?;
    let root = Root::open(&diff, (0, 0))?;
    root.mount_point("context")?;
    root.mount_point("mnt")?;
    let inner = Root::open(&diff.join("mnt"), (0, 0))?;
    inner.mount_point("disk.1")?;
    ensure!(names(&layer)?.is_empty());
    fs::write(diff.join("mnt/disk.1/left"), "by the container")?;
    ensure!(names(&layer)? == ["mnt/", "mnt/disk.1/", "mnt/disk.1/left"]);
    Ok(())
}

#[test]
fn a_root_folder_of_its_own_kind_is_carried() -> Result<()> {
    let (_dir, layer, diff) = made()?;
    fs::set_permissions(&diff, fs::Permissions::from_mode(0o700))?;
    ensure!(names(&layer)? == ["./"]);
    Ok(())
}

/// Files shrink, grow, vanish and turn into links to what the host keeps, folders turn into links,
/// all while they are read: the archive stays one, and nothing from outside is in it.
#[test]
fn a_tree_that_changes_while_it_is_read_gives_an_archive() -> Result<()> {
    let (dir, layer, diff) = made()?;
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
            let mut bytes = Vec::new();
            pack(&layer, false, &mut bytes)?;
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
