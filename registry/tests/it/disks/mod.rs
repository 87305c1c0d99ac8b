//! Disks in a registry.

use std::fs::File;
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use onedock_common::Digest;
use onedock_common::state::disk_image::{DiskFormat, DiskMeta, FileSystem};
use onedock_common::types::reference::{Source, Tag};
use onedock_registry::{Error, Kind};
use onedock_tests::registry_server::{RegistryServer, Setup};
use serde_json::Value;

use crate::images::noise;
use crate::{at, client, options, with_causes};

mod duplicates;
mod untrusted;

const MIB: u64 = 1 << 20;

const PIECE: u64 = 64 * MIB;

fn tag(name: &str) -> Tag {
    name.parse().unwrap()
}

fn raw(size: u64) -> DiskMeta {
    DiskMeta {
        format: DiskFormat::Raw,
        size,
        fs: None,
        blank: false,
    }
}

/// A file of `size` bytes with `content` here and there.
fn disk(dir: &Path, name: &str, size: u64, content: &[(u64, &[u8])]) -> PathBuf {
    let path = dir.join(name);
    let file = File::create(&path).unwrap();
    file.set_len(size).unwrap();
    for (at, bytes) in content {
        file.write_all_at(bytes, *at).unwrap();
    }
    path
}

fn same(a: &Path, b: &Path) -> bool {
    let status = std::process::Command::new("cmp")
        .arg("-s")
        .arg(a)
        .arg(b)
        .status();
    status.unwrap().success()
}

fn pieces(bytes: &[u8]) -> usize {
    let manifest: Value = serde_json::from_slice(bytes).unwrap();
    manifest["layers"].as_array().unwrap().len()
}

#[tokio::test]
async fn a_disk_comes_back_as_it_was_with_its_holes() {
    let server = RegistryServer::start(&Setup::default()).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let client = client(options());
    let (text, noise) = (b"text".repeat(100_000), noise(1, 3_000_000));
    let size = 5 * PIECE + 4097;
    // A piece of text, one of written zeros, and the last bytes of the file.
    let file = disk(
        dir.path(),
        "disk",
        size,
        &[
            (PIECE + 7, &text),
            (2 * PIECE - 1_000_000, &noise[..1_000_000]),
            (3 * PIECE + 5, &[0; 9000]),
            (size - 3, b"end"),
        ],
    );
    let repository = at(&server, "onedock/img-1");
    let digest = client
        .put_disk(&file, &repository, &tag("state"), &raw(size))
        .await
        .unwrap();
    let source = Source::new(repository.clone(), digest.clone());
    assert_eq!(client.kind(&source).await.unwrap(), Kind::Disk(raw(size)));
    let resolved = client.resolve(&source.reference()).await.unwrap();
    assert_eq!(pieces(&resolved.bytes), 2);

    let back = dir.path().join("back");
    assert_eq!(client.get_disk(&source, &back).await.unwrap(), raw(size));
    assert!(same(&file, &back));
    let meta = std::fs::metadata(&back).unwrap();
    assert_eq!(meta.len(), size);
    assert!(meta.blocks() * 512 < 8 * MIB, "{}", meta.blocks());
    // A file that is there is never written over, and stays.
    let error = client.get_disk(&source, &back).await.unwrap_err();
    assert!(
        matches!(error, Error::Write { .. }),
        "{}",
        with_causes(&error)
    );
    assert!(same(&file, &back));

    // Repeated, nothing is sent and the digest is the same, also for another repository.
    let bytes = server.blob_bytes();
    for path in ["onedock/img-1", "onedock/img-2"] {
        let again = client
            .put_disk(&file, &at(&server, path), &tag("x"), &raw(size))
            .await
            .unwrap();
        assert_eq!(again, digest);
    }
    assert_eq!(server.blob_bytes(), bytes);
}

#[tokio::test]
async fn a_piece_that_has_not_changed_is_not_sent_again() {
    let server = RegistryServer::start(&Setup::default()).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let client = client(options());
    let size = 4 * PIECE + MIB;
    let (a, b) = (noise(1, 2_000_000), noise(2, 1_000_000));
    let repository = at(&server, "onedock/img-1");
    let file = disk(dir.path(), "disk", size, &[(0, &a), (4 * PIECE, &b)]);
    let first = client
        .put_disk(&file, &repository, &tag("snap-0"), &raw(size))
        .await
        .unwrap();
    // Its blobs' files get another time when they are sent.
    let sent = |manifest: &[u8]| -> Vec<(String, i64, u64)> {
        let manifest: Value = serde_json::from_slice(manifest).unwrap();
        let layers = manifest["layers"].as_array().unwrap().clone();
        let facts = layers.into_iter().map(|layer| {
            let digest: Digest = layer["digest"].as_str().unwrap().parse().unwrap();
            let hex = digest.hex();
            let path = format!("blobs/sha256/{}/{hex}/data", &hex[..2]);
            let meta = std::fs::metadata(server.storage().join(path)).unwrap();
            (hex.to_owned(), meta.mtime_nsec(), meta.ino())
        });
        facts.collect()
    };
    let resolved = client.resolve(&repository.pinned(&first)).await.unwrap();
    let before = sent(&resolved.bytes);
    File::options()
        .write(true)
        .open(&file)
        .unwrap()
        .write_all_at(b"changed", 4 * PIECE + 5)
        .unwrap();
    let second = client
        .put_disk(&file, &repository, &tag("state"), &raw(size))
        .await
        .unwrap();
    assert_ne!(first, second);
    let resolved = client.resolve(&repository.pinned(&second)).await.unwrap();
    let after = sent(&resolved.bytes);
    assert_eq!(before[0], after[0]);
    assert_ne!(before[1], after[1]);
    let back = dir.path().join("back");
    let source = Source::new(repository, second);
    client.get_disk(&source, &back).await.unwrap();
    assert!(same(&file, &back));
}

#[tokio::test]
async fn blank_disks_and_reserved_places_are_what_they_are_called() {
    let server = RegistryServer::start(&Setup::default()).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let client = client(options());
    let repository = at(&server, "onedock/img-1");
    let blank = DiskMeta {
        format: DiskFormat::Qcow2,
        size: 10 * MIB,
        fs: Some(FileSystem::Xfs),
        blank: true,
    };
    let put = |meta: DiskMeta| {
        let (client, repository) = (&client, &repository);
        async move {
            client
                .put_blank_disk(repository, &Tag::latest(), &meta)
                .await
        }
    };
    let digest = put(blank).await.unwrap();
    assert_eq!(put(blank).await.unwrap(), digest);
    let source = Source::new(repository.clone(), digest);
    assert_eq!(client.kind(&source).await.unwrap(), Kind::Disk(blank));
    let path = dir.path().join("disk");
    assert_eq!(client.get_disk(&source, &path).await.unwrap(), blank);
    assert!(!path.exists());
    for bad in [
        raw(10 * MIB),
        DiskMeta { size: 0, ..blank },
        DiskMeta {
            format: DiskFormat::Iso,
            ..blank
        },
    ] {
        assert!(put(bad).await.is_err());
    }

    let reserve = |label: &'static str| {
        let (client, repository) = (&client, &repository);
        async move {
            client
                .put_reserved(repository, &Tag::latest(), label)
                .await
                .unwrap()
        }
    };
    let (one, two) = (reserve("img-1").await, reserve("img-2").await);
    assert_ne!(one, two);
    assert_eq!(reserve("img-1").await, one);
    let source = Source::new(repository.clone(), one);
    assert_eq!(client.kind(&source).await.unwrap(), Kind::Reserved);
    assert!(client.get_disk(&source, &path).await.is_err());

    let other = client
        .put_artifact(&repository, &tag("attributes"), "application/x", b"{}")
        .await
        .unwrap();
    let error = client
        .kind(&Source::new(repository, other))
        .await
        .unwrap_err();
    assert!(error.to_string().contains("application/x"), "{error}");
}

#[tokio::test]
async fn a_file_that_is_not_the_disk_it_is_said_to_be_is_refused() {
    let server = RegistryServer::start(&Setup::default()).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let client = client(options());
    let repository = at(&server, "onedock/img-1");
    let file = disk(dir.path(), "disk", 2 * MIB, &[(0, b"x")]);
    let blank = DiskMeta {
        blank: true,
        ..raw(2 * MIB)
    };
    for (path, meta) in [
        (file.as_path(), raw(MIB)),
        (&file, blank),
        (dir.path(), raw(2 * MIB)),
        (Path::new("/nonexistent"), raw(2 * MIB)),
    ] {
        let put = client.put_disk(path, &repository, &tag("t"), &meta).await;
        let error = put.unwrap_err();
        assert!(
            with_causes(&error).starts_with(&path.display().to_string()),
            "{error}"
        );
    }
    assert!(client.tags(&repository).await.unwrap().is_empty());
}
