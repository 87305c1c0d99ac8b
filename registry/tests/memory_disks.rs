//! What disks and layers cost in memory. A program of its own, so that nothing else counts.

#![allow(
    clippy::unwrap_used,
    reason = "helpers of tests stand outside of #[test]"
)]

#[path = "it/images.rs"]
#[allow(dead_code, reason = "the other tests use the rest of it")]
mod images;

use std::fs::{self, File};
use std::io::Write as _;

use onedock_common::state::disk_image::{DiskFormat, DiskMeta};
use onedock_common::types::reference::{Source, Tag};
use onedock_registry::{Client, Options};
use onedock_tests::registry_server::{RegistryServer, Setup};
use tokio::io::AsyncReadExt as _;

/// The size of the disk, in bytes: four pieces at once, and a part of one.
const DISK: u64 = 300 << 20;
/// The most that this program may ever have used, in KiB (attack 43 allows a driver 64 MiB).
const MOST: u64 = 48 << 10;

fn peak() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|l| l.starts_with("VmHWM:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

#[tokio::test]
async fn attack_43_a_large_disk_comes_and_goes_in_little_memory() {
    let server = RegistryServer::start(&Setup::default()).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("disk");
    let mut file = File::create(&path).unwrap();
    let (mut state, mut step) = (0x9e37_79b9_7f4a_7c15_u64, vec![0; 1 << 20]);
    for _ in 0..DISK >> 20 {
        for bytes in step.chunks_exact_mut(8) {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            bytes.copy_from_slice(&state.to_le_bytes());
        }
        file.write_all(&step).unwrap();
    }
    let client = Client::new(Options {
        certs_dir: "/nonexistent".into(),
        ..Options::default()
    })
    .unwrap();
    let repository = server.repository("onedock/img-1").unwrap();
    let meta = DiskMeta {
        format: DiskFormat::Raw,
        size: DISK,
        fs: None,
        blank: false,
    };
    let digest = client
        .put_disk(&path, &repository, &Tag::latest(), &meta)
        .await
        .unwrap();
    let source = Source::new(repository.clone(), digest);
    let back = dir.path().join("back");
    client.get_disk(&source, &back).await.unwrap();
    assert_eq!(fs::metadata(&back).unwrap().len(), DISK);

    // The same as the one file of a layer.
    let archive = images::write(
        dir.path(),
        "a.tar",
        &images::TestImage::new(1).unwrap().saved(),
    );
    let base = client
        .push_archive(&archive, &repository, &Tag::latest(), &[])
        .await
        .unwrap();
    let base = Source::new(repository.clone(), base);
    let mut header = tar::Header::new_gnu();
    header.set_path("disk").unwrap();
    header.set_size(DISK);
    header.set_cksum();
    let content = tokio::fs::File::open(&path).await.unwrap();
    let layer = header.as_bytes().chain(content).chain(&[0; 1024][..]);
    let made = client
        .append_layer(&base, &repository, &Tag::latest(), layer, false, "")
        .await
        .unwrap()
        .unwrap();
    assert!(made.bytes > DISK / 2);
    assert!(peak() < MOST, "{} KiB", peak());
}
