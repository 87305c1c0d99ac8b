//! Disks in the real registry, and disks as a bad registry would have them.

use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use onedock_common::Digest;
use onedock_common::state::disk_image::{DiskFormat, DiskMeta, FileSystem};
use onedock_common::types::reference::{Repository, Source, Tag};
use onedock_registry::{Client, Error, Kind, Options};
use onedock_tests::registry_server::{RegistryServer, Setup};
use serde_json::{Value, json};

use crate::images::{TestImage, gzip, noise, oci_layout, write};
use crate::lying::{Lying, reply};
use crate::{at, client, options, told};

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
    assert!(matches!(error, Error::Write { .. }), "{}", told(&error));
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
async fn images_and_disks_are_duplicated_within_and_between_registries() {
    let (server, other) = (
        RegistryServer::start(&Setup::default()).unwrap(),
        RegistryServer::start(&Setup::default()).unwrap(),
    );
    let dir = tempfile::tempdir().unwrap();
    let client = client(options());
    let (image, disks) = (at(&server, "onedock/img-1"), at(&server, "onedock/img-2"));
    let (a, b) = (
        TestImage::new(1).unwrap(),
        TestImage::new(2).unwrap().on("arm64"),
    );
    let path = write(dir.path(), "a.tar", &oci_layout(&[&a, &b]));
    let digest = client
        .push_archive(&path, &image, &Tag::latest(), &[])
        .await
        .unwrap();
    // An archive's index may name what it does not hold; the datastore's copies do not.
    let copied = at(&server, "onedock/img-3");
    let platforms = [
        "linux/amd64".parse().unwrap(),
        "linux/arm64".parse().unwrap(),
    ];
    let digest = client
        .copy(&image.pinned(&digest), &copied, &Tag::latest(), &platforms)
        .await
        .unwrap();
    let multi = Source::new(copied, digest);
    let file = disk(
        dir.path(),
        "disk",
        PIECE + MIB,
        &[(PIECE, &noise(1, 100_000))],
    );
    let digest = client
        .put_disk(&file, &disks, &Tag::latest(), &raw(PIECE + MIB))
        .await
        .unwrap();
    let disk = Source::new(disks.clone(), digest);
    let digest = client.put_reserved(&disks, &tag("r"), "x").await.unwrap();
    let reserved = Source::new(disks, digest);
    let before = server.blob_bytes();
    for (n, source) in [&multi, &disk, &reserved].into_iter().enumerate() {
        for registry in [&server, &other] {
            let target = at(registry, &format!("onedock/img-{}", n + 10));
            for _ in 0..2 {
                let digest = client
                    .duplicate(source, &target, &Tag::latest())
                    .await
                    .unwrap();
                assert_eq!(digest, *source.digest());
            }
        }
    }
    assert_eq!(server.blob_bytes(), before);
    // The copies stand alone.
    client.delete_repository(disk.repository()).await.unwrap();
    let copy = Source::new(at(&server, "onedock/img-11"), disk.digest().clone());
    let back = dir.path().join("back");
    client.get_disk(&copy, &back).await.unwrap();
    assert!(same(&file, &back));
    let arm = "linux/arm64".parse().unwrap();
    let copy = at(&other, "onedock/img-10").pinned(multi.digest());
    assert!(client.image_config(&copy, &arm).await.is_ok());
    assert!(client.unpacked_size(&copy, &arm).await.unwrap().bytes > 1_000_000);
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
            told(&error).starts_with(&path.display().to_string()),
            "{error}"
        );
    }
    assert!(client.tags(&repository).await.unwrap().is_empty());
}

/// A client for which `evil.test` is the lying registry.
fn knowing(evil: &Lying) -> Client {
    client(Options {
        endpoints: BTreeMap::from([("evil.test".parse().unwrap(), evil.url.clone())]),
        ..options()
    })
}

/// What a registry says of a disk whose second and last piece is `packed` and has a MiB.
async fn lie(packed: &[u8], change: impl Fn(&mut Value)) -> (Result<DiskMeta, Error>, bool) {
    let config =
        json!({"format": "raw", "size": PIECE + MIB, "fs": null, "blank": false}).to_string();
    let mut manifest = json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": {
            "mediaType": "application/vnd.opennebula.onedock.disk.config.v1+json",
            "size": config.len(), "digest": Digest::of(config.as_bytes()),
        },
        "layers": [{
            "mediaType": "application/vnd.opennebula.onedock.disk.piece.v1+gzip",
            "size": packed.len(), "digest": Digest::of(packed),
            "annotations": {
                "org.opennebula.onedock.offset": "67108864",
                "org.opennebula.onedock.content": Digest::of(b""),
            },
        }],
        "annotations": {"org.opennebula.onedock.length": (PIECE + MIB).to_string()},
    });
    change(&mut manifest);
    let manifest = manifest.to_string();
    let digest = Digest::of(manifest.as_bytes());
    let (blobs, named) = ([config.into_bytes(), packed.to_vec()], manifest.clone());
    let evil = Lying::start(move |seen| {
        if seen.path.contains("/manifests/") {
            return Some(reply(200, &[], named.as_bytes()));
        }
        let blob = blobs
            .iter()
            .find(|b| seen.path.contains(Digest::of(b).hex()))?;
        Some(reply(200, &[], blob))
    })
    .await;
    let repository: Repository = "evil.test/onedock/img-1".parse().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("disk");
    let got = knowing(&evil)
        .get_disk(&Source::new(repository, digest), &path)
        .await;
    (got, path.exists())
}

#[tokio::test]
async fn attack_19_a_piece_that_unpacks_to_more_or_less_or_nothing_is_refused() {
    let piece = 1 << 20;
    let good = gzip(&vec![7; piece]);
    let (got, there) = lie(&good, |_| {}).await;
    assert!(got.is_ok() && there, "{got:?}");
    let mut twice = good.clone();
    twice.extend_from_slice(&good);
    let mut wrong_sum = good.clone();
    let at = wrong_sum.len() - 6;
    wrong_sum[at] ^= 1;
    for bad in [
        gzip(&vec![7; piece + 1]),
        gzip(&vec![7; piece - 1]),
        // Sixteen times a piece.
        gzip(&vec![0; piece * 16]),
        twice,
        wrong_sum,
        good[..good.len() - 9].to_vec(),
        b"no gzip at all".to_vec(),
        Vec::new(),
    ] {
        let (got, there) = lie(&bad, |_| {}).await;
        let error = got.unwrap_err().to_string();
        assert!(error.contains("when unpacked"), "{error}");
        assert!(!there);
    }
}

#[tokio::test]
async fn attack_19_a_disks_manifest_is_refused_before_a_byte_of_it_is_asked_for() {
    let good = gzip(b"x");
    let place = |value: &str| {
        let value = value.to_owned();
        move |m: &mut Value| {
            m["layers"][0]["annotations"]["org.opennebula.onedock.offset"] = json!(value)
        }
    };
    type Lie = Box<dyn Fn(&mut Value)>;
    let lies: Vec<Lie> = vec![
        Box::new(place("1")),
        Box::new(place("-67108864")),
        Box::new(place("134217728")),
        Box::new(place("../../etc/passwd")),
        Box::new(|m| m["layers"][0]["size"] = json!(1u64 << 40)),
        Box::new(|m| m["layers"][0]["urls"] = json!(["http://169.254.169.254/"])),
        Box::new(|m| {
            m["annotations"]["org.opennebula.onedock.length"] = json!("9223372036854775807")
        }),
        Box::new(|m| m["layers"] = json!(vec![m["layers"][0].clone(); 2])),
        Box::new(|m| m["layers"] = json!(vec![m["layers"][0].clone(); 9000])),
        Box::new(|m| m["annotations"] = Value::Null),
        Box::new(|m| m["config"]["size"] = json!(1u64 << 30)),
    ];
    for lie_of in lies {
        let (got, there) = lie(&good, lie_of).await;
        let error = got.unwrap_err();
        assert!(
            matches!(error, Error::Image { .. } | Error::Length { .. }),
            "{error}"
        );
        assert!(!there);
    }
}
