//! Exact copies of disks and images.

use onedock_common::types::reference::{Source, Tag};
use onedock_tests::registry_server::{RegistryServer, Setup};

use crate::images::{TestImage, noise, oci_layout, write};
use crate::{at, client, image_config, options};

use super::*;

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
    assert!(
        image_config(&other, &client, &copy, "linux/arm64")
            .await
            .is_some()
    );
    assert!(client.unpacked_size(&copy, &arm).await.unwrap().bytes > 1_000_000);
}
