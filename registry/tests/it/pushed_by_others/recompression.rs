//! Layers that not every engine reads.

use std::collections::BTreeMap;

use onedock_common::Digest;
use onedock_registry::Options;
use onedock_tests::registry_server::{RegistryServer, Setup};
use serde_json::{Value, json};

use crate::images::{TestImage, gzip, noise};
use crate::{amd64, at, client, options, with_causes};

use super::*;

pub(super) fn zstd(bytes: &[u8]) -> Vec<u8> {
    ruzstd::encoding::compress_to_vec(bytes, ruzstd::encoding::CompressionLevel::Fastest)
}

#[tokio::test]
async fn layers_that_old_engines_do_not_read_are_packed_anew_and_verified() {
    let (a, b) = two();
    let kind = "application/vnd.oci.image.layer.v1.tar+zstd";
    let mut content = Content::default();
    let single = content.packed(&a, kind, zstd);
    content.manifest(&single);
    let manifest = copied(content, &[amd64()]).await.unwrap();
    for layer in manifest["layers"].as_array().unwrap() {
        assert_eq!(
            layer["mediaType"],
            "application/vnd.oci.image.layer.v1.tar+gzip"
        );
    }
    let mut content = Content::default();
    let first = content.packed(&a, kind, zstd);
    let second = content.image(&b);
    let entries = [
        on(content.manifest(&first), "amd64"),
        on(content.manifest(&second), "arm64"),
    ];
    content.index(&entries);
    let index = copied(content, &[amd64()]).await.unwrap();
    assert_eq!(platforms_of(&index), ["linux/amd64"]);
    assert_ne!(index["manifests"][0]["digest"], entries[0]["digest"]);
    // A layer with another content than its image says.
    let mut content = Content::default();
    let mut wrong = content.packed(&a, kind, zstd);
    let config: Value = serde_json::from_slice(&a.config()).unwrap();
    let mut config = config.clone();
    config["rootfs"]["diff_ids"][1] = json!(Digest::of(b"another"));
    wrong["config"] = content.blob(
        "application/vnd.oci.image.config.v1+json",
        config.to_string().as_bytes(),
    );
    content.manifest(&wrong);
    let error = copied(content, &[amd64()]).await.unwrap_err();
    assert!(error.contains(Digest::of(b"another").as_str()), "{error}");
    // One that is none.
    let mut content = Content::default();
    let cut = content.packed(&a, kind, |bytes| zstd(bytes)[..5000].to_vec());
    content.manifest(&cut);
    let error = copied(content, &[amd64()]).await.unwrap_err();
    assert!(error.contains("cannot be unpacked"), "{error}");
}

#[tokio::test]
async fn a_layer_whose_type_is_not_said_is_what_its_first_bytes_are() {
    let (a, _) = two();
    let plain: Pack = |bytes| bytes.to_vec();
    for ranges in [true, false] {
        for (pack, is) in [
            (gzip as Pack, "tar+gzip"),
            (zstd, "tar+gzip"),
            (plain, "layer.v1.tar"),
        ] {
            let mut content = Content::default();
            let mut manifest = content.packed(&a, "", pack);
            manifest["config"]["mediaType"] = json!("application/json");
            content.manifest(&manifest);
            let hub = content.serve(ranges).await;
            let kept = copied_from(&hub, &[amd64()]).await.unwrap();
            for layer in kept["layers"].as_array().unwrap() {
                let kind = layer["mediaType"].as_str().unwrap();
                assert!(kind.ends_with(is), "{kind}");
            }
            assert_eq!(
                kept["config"]["mediaType"],
                "application/vnd.oci.image.config.v1+json"
            );
        }
    }
}

#[tokio::test]
async fn what_is_wrong_with_a_download_is_told_and_not_that_its_layer_cannot_be_unpacked() {
    let mut image = TestImage::new(1).unwrap();
    image.layers = vec![noise(1, 300_000)];
    let kind = "application/vnd.oci.image.layer.v1.tar+zstd";
    let mut content = Content::default();
    let manifest = content.packed(&image, kind, zstd);
    content.manifest(&manifest);
    // The same length, and still a stream that can be unpacked.
    let digest = manifest["layers"][0]["digest"].as_str().unwrap().to_owned();
    let mut wrong = content.blobs[&digest].clone();
    let middle = wrong.len() / 2;
    wrong[middle] ^= 1;
    content.blobs.insert(digest.clone(), wrong.clone());
    let error = copied(content, &[amd64()]).await.unwrap_err();
    let found = Digest::of(&wrong);
    assert!(
        error.contains(&digest) && error.contains(found.as_str()),
        "{error}"
    );
}

#[tokio::test]
async fn attack_17_a_layer_that_is_packed_anew_has_a_limit_unpacked() {
    let mut image = TestImage::new(1).unwrap();
    image.layers = vec![vec![0; 4 << 20]];
    let kind = "application/vnd.oci.image.layer.v1.tar+zstd";
    let mut content = Content::default();
    let manifest = content.packed(&image, kind, zstd);
    content.manifest(&manifest);
    let hub = content.serve(true).await;
    let own = RegistryServer::start(&Setup::default()).unwrap();
    let target = at(&own, "onedock/img-1");
    let copy = async |image_limit: u64| {
        let client = client(Options {
            endpoints: BTreeMap::from([("hub.test".parse().unwrap(), hub.url.clone())]),
            image_limit,
            ..options()
        });
        let tag = "v1".parse().unwrap();
        client.copy(&source(), &target, &tag, &[amd64()]).await
    };
    let error = with_causes(&copy((4 << 20) - 1).await.unwrap_err());
    assert!(
        error.contains("cannot be unpacked: file too large"),
        "{error}"
    );
    copy(4 << 20).await.unwrap();
}
