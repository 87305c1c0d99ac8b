//! Disks in a registry whose answers cannot be trusted.

use std::collections::BTreeMap;

use onedock_common::Digest;
use onedock_common::state::disk_image::DiskMeta;
use onedock_common::types::reference::{Repository, Source};
use onedock_registry::{Client, Error, Options};
use serde_json::{Value, json};

use crate::fake_registry::{FakeRegistry, reply};
use crate::images::gzip;
use crate::{client, options};

use super::*;

/// A client for which `evil.test` is the fake registry.
fn client_of(fake: &FakeRegistry) -> Client {
    client(Options {
        endpoints: BTreeMap::from([("evil.test".parse().unwrap(), fake.url.clone())]),
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
    let fake = FakeRegistry::start(move |request| {
        if request.path.contains("/manifests/") {
            return Some(reply(200, &[], named.as_bytes()));
        }
        let blob = blobs
            .iter()
            .find(|b| request.path.contains(Digest::of(b).hex()))?;
        Some(reply(200, &[], blob))
    })
    .await;
    let repository: Repository = "evil.test/onedock/img-1".parse().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("disk");
    let got = client_of(&fake)
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
