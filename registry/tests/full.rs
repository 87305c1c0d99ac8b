//! A registry whose storage is full, and a disk that does not fit onto this machine. A program of
//! its own: it mounts, in a namespace that nobody shares.

#![allow(
    clippy::unwrap_used,
    reason = "helpers of tests stand outside of #[test]"
)]

#[path = "it/images.rs"]
#[allow(dead_code, reason = "the other tests use the rest of it")]
mod images;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use onedock_common::state::disk_image::{DiskFormat, DiskMeta};
use onedock_common::types::reference::{Source, Tag};
use onedock_registry::{Client, Error, Options};
use onedock_tests::registry_server::{RegistryServer, Setup};

use images::{TestImage, noise, oci_layout, tar_of, write};

fn tmpfs(path: &Path, size: &str) {
    fs::create_dir_all(path).unwrap();
    mount(
        Some("tmpfs"),
        path,
        Some("tmpfs"),
        MsFlags::empty(),
        Some(size),
    )
    .unwrap();
}

/// Needs root. Works on a thread of its own, in a mount namespace of its own, with one registry whose storage
/// has `size`.
fn with_full_registry(
    size: &'static str,
    work: impl FnOnce(&RegistryServer, &Client) + Send + 'static,
) {
    let thread = std::thread::spawn(move || {
        unshare(CloneFlags::CLONE_NEWNS).unwrap();
        let flags = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
        mount(None::<&str>, "/", None::<&str>, flags, None::<&str>).unwrap();
        let mut server = RegistryServer::start(&Setup::default()).unwrap();
        server.stop();
        let storage: PathBuf = server.storage();
        // <folder>/storage/docker/registry/v2
        tmpfs(storage.ancestors().nth(3).unwrap(), size);
        server.resume().unwrap();
        let client = Client::new(Options {
            certs_dir: "/nonexistent".into(),
            ..Options::default()
        })
        .unwrap();
        work(&server, &client);
        server.stop();
        nix::mount::umount(storage.ancestors().nth(3).unwrap()).unwrap();
    });
    thread.join().unwrap();
}

fn run<T>(work: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(work)
}

#[test]
fn fault_29_a_registry_that_is_full_is_a_clear_error_and_loses_nothing() {
    with_full_registry("size=12m", |server, client| {
        let dir = tempfile::tempdir().unwrap();
        let path = write(
            dir.path(),
            "a.tar",
            &oci_layout(&[&TestImage::new(1).unwrap()]),
        );
        let repository = server.repository("onedock/img-1").unwrap();
        let latest = Tag::latest();
        let digest = run(client.push_archive(&path, &repository, &latest, &[])).unwrap();
        let base = Source::new(repository.clone(), digest);
        let file = dir.path().join("disk");
        fs::write(&file, noise(2, 32 << 20)).unwrap();
        let meta = DiskMeta {
            format: DiskFormat::Raw,
            size: 32 << 20,
            fs: None,
            blank: false,
        };
        let tag: Tag = "t".parse().unwrap();
        let layer = tar_of("big", &noise(3, 32 << 20), 0o600);
        let begin = Instant::now();
        let appended = run(client.append_layer(&base, &repository, &tag, &layer[..], false, ""));
        let put = run(client.put_disk(&file, &repository, &tag, &meta));
        for error in [appended.unwrap_err(), put.unwrap_err()] {
            let error = error.to_string();
            assert!(error.contains(&server.address()), "{error}");
            assert!(error.starts_with("registry "), "{error}");
        }
        assert!(begin.elapsed() < Duration::from_secs(60));
        assert_eq!(run(client.tags(&repository)).unwrap(), [latest]);
        assert!(run(client.resolve(&base.reference())).is_ok());
        // An upload that a full registry broke off stays there until the registry purges it
        // ("upload resumed at wrong offset"); with more room the same calls work at once.
        let storage = server.storage();
        let storage = storage.ancestors().nth(3).unwrap();
        let flags = MsFlags::MS_REMOUNT;
        mount(
            None::<&str>,
            storage,
            None::<&str>,
            flags,
            Some("size=128m"),
        )
        .unwrap();
        let made = run(client.append_layer(&base, &repository, &tag, &layer[..], false, ""));
        assert!(made.unwrap().is_some());
        let disk = run(client.put_disk(&file, &repository, &tag, &meta)).unwrap();
        let back = dir.path().join("back");
        run(client.get_disk(&Source::new(repository, disk), &back)).unwrap();
        assert!(fs::read(back).unwrap() == fs::read(file).unwrap());
    });
}

#[test]
fn fault_29_a_disk_that_does_not_fit_here_leaves_no_file() {
    let server = RegistryServer::start(&Setup::default()).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let client = Client::new(Options::default()).unwrap();
    let repository = server.repository("onedock/img-1").unwrap();
    let file = dir.path().join("disk");
    fs::write(&file, noise(2, 8 << 20)).unwrap();
    let meta = DiskMeta {
        format: DiskFormat::Raw,
        size: 8 << 20,
        fs: None,
        blank: false,
    };
    let digest = run(client.put_disk(&file, &repository, &Tag::latest(), &meta)).unwrap();
    let source = Source::new(repository, digest);
    let thread = std::thread::spawn(move || {
        unshare(CloneFlags::CLONE_NEWNS).unwrap();
        let flags = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
        mount(None::<&str>, "/", None::<&str>, flags, None::<&str>).unwrap();
        let small = dir.path().join("small");
        tmpfs(&small, "size=2m");
        let path = small.join("disk");
        // The pieces are written by threads of the runtime; those must see this namespace.
        let error = run(client.get_disk(&source, &path)).unwrap_err();
        assert!(matches!(error, Error::Write { .. }), "{error}");
        let cause = std::error::Error::source(&error).unwrap().to_string();
        assert!(cause.contains("No space left"), "{cause}");
        assert!(!path.exists());
        nix::mount::umount(&small).unwrap();
    });
    thread.join().unwrap();
}
