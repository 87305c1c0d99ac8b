//! What a copy costs in memory. A program of its own, so that nothing else counts.

#![allow(
    clippy::unwrap_used,
    reason = "helpers of tests stand outside of #[test]"
)]

use std::fs::{self, File};
use std::io::{Seek, SeekFrom, Write};

use onedock_common::Digest;
use onedock_registry::{Client, Options};
use onedock_tests::registry_server::{RegistryServer, Setup};
use serde_json::json;

/// The size of the layer, in bytes.
const LAYER: u64 = 96 << 20;
/// The most that this program may ever have used, in KiB (attack 43 allows a driver 64 MiB).
const MOST: u64 = 48 << 10;

fn member(builder: &mut tar::Builder<&mut File>, name: &str, content: &[u8]) {
    let mut header = tar::Header::new_gnu();
    header.set_mode(0o644);
    header.set_size(content.len() as u64);
    builder.append_data(&mut header, name, content).unwrap();
}

fn peak() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|l| l.starts_with("VmHWM:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

#[tokio::test]
async fn a_large_layer_is_pushed_and_copied_in_little_memory() {
    let (from, to) = (
        RegistryServer::start(&Setup::default()).unwrap(),
        RegistryServer::start(&Setup::default()).unwrap(),
    );
    let dir = tempfile::tempdir().unwrap();
    let layer = dir.path().join("layer");
    let mut file = File::create(&layer).unwrap();
    let (mut hasher, piece) = (<sha2::Sha256 as sha2::Digest>::new(), vec![7; 1 << 20]);
    for _ in 0..LAYER >> 20 {
        sha2::Digest::update(&mut hasher, &piece);
        file.write_all(&piece).unwrap();
    }
    let digest = Digest::from_hasher(hasher);
    let config = json!({"os": "linux", "rootfs": {"diff_ids": [digest]}}).to_string();
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": {"mediaType": "application/vnd.oci.image.config.v1+json",
            "size": config.len(), "digest": Digest::of(config.as_bytes())},
        "layers": [{"mediaType": "application/vnd.oci.image.layer.v1.tar",
            "size": LAYER, "digest": digest}],
    })
    .to_string();
    let index = json!({
        "schemaVersion": 2,
        "manifests": [{"mediaType": "application/vnd.oci.image.manifest.v1+json",
            "size": manifest.len(), "digest": Digest::of(manifest.as_bytes())}],
    })
    .to_string();
    let path = dir.path().join("large.tar");
    let mut archive = File::create_new(&path).unwrap();
    let mut builder = tar::Builder::new(&mut archive);
    for document in [&config, &manifest] {
        let name = format!("blobs/sha256/{}", Digest::of(document.as_bytes()).hex());
        member(&mut builder, &name, document.as_bytes());
    }
    member(&mut builder, "index.json", index.as_bytes());
    let mut file = File::open(&layer).unwrap();
    file.seek(SeekFrom::Start(0)).unwrap();
    builder
        .append_file(format!("blobs/sha256/{}", digest.hex()), &mut file)
        .unwrap();
    builder.finish().unwrap();

    let client = Client::new(Options::default()).unwrap();
    let tag = "v1".parse().unwrap();
    let (a, b) = (from.repository("a").unwrap(), to.repository("b").unwrap());
    let pushed = client.push_archive(&path, &a, &tag, &[]).await.unwrap();
    let copied = client.copy(&a.tagged(&tag), &b, &tag, &[]).await.unwrap();
    assert_eq!(copied, pushed);
    assert!(to.blob_bytes() > LAYER);
    let peak = peak();
    assert!(peak <= MOST, "{peak} KiB");
}
