//! Images in registries as other tools have pushed them.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use onedock_common::Digest;
use onedock_common::types::reference::Reference;
use onedock_registry::{Client, Error, Options, Platform, Size};
use onedock_tests::registry_server::{RegistryServer, Setup};
use serde_json::{Value, json};

use crate::images::{TestImage, gzip, noise};
use crate::lying::{Lying, Reply, Seen, ranged, reply};
use crate::{amd64, at, client, options, told};

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";

type Pack = fn(&[u8]) -> Vec<u8>;

/// What a registry holds: manifests by tag and digest, blobs by digest.
#[derive(Default)]
struct Content {
    manifests: HashMap<String, Vec<u8>>,
    blobs: HashMap<String, Vec<u8>>,
}

fn describe(media_type: &str, bytes: &[u8]) -> Value {
    json!({"mediaType": media_type, "size": bytes.len(), "digest": Digest::of(bytes)})
}

impl Content {
    fn blob(&mut self, media_type: &str, bytes: &[u8]) -> Value {
        let digest = Digest::of(bytes).to_string();
        self.blobs.insert(digest, bytes.to_vec());
        describe(media_type, bytes)
    }

    /// A manifest; its entry in an index.
    fn manifest(&mut self, manifest: &Value) -> Value {
        let bytes = manifest.to_string().into_bytes();
        let digest = Digest::of(&bytes).to_string();
        self.manifests.insert(digest, bytes.clone());
        self.manifests.insert("v1".to_owned(), bytes.clone());
        describe(manifest["mediaType"].as_str().unwrap_or(MANIFEST), &bytes)
    }

    /// An image with gzip layers; its manifest, which is not held yet.
    fn image(&mut self, image: &TestImage) -> Value {
        self.packed(image, "application/vnd.oci.image.layer.v1.tar+gzip", gzip)
    }

    fn packed(&mut self, image: &TestImage, kind: &str, pack: Pack) -> Value {
        let layers: Vec<Value> = image
            .layers
            .iter()
            .map(|layer| self.blob(kind, &pack(layer)))
            .collect();
        let config = "application/vnd.oci.image.config.v1+json";
        json!({
            "schemaVersion": 2, "mediaType": MANIFEST,
            "config": self.blob(config, &image.config()), "layers": layers,
        })
    }

    fn index(&mut self, entries: &[Value]) -> Value {
        self.manifest(&json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": entries}))
    }

    async fn serve(self, ranges: bool) -> Lying {
        Lying::start(self.answers(ranges)).await
    }

    fn answers(self, ranges: bool) -> impl Fn(&Seen) -> Option<Reply> {
        move |seen: &Seen| {
            let last = seen.path.rsplit('/').next().unwrap_or_default();
            if seen.path.contains("/manifests/") {
                return Some(match self.manifests.get(last) {
                    Some(bytes) => {
                        let json: Value = serde_json::from_slice(bytes).unwrap();
                        let kind = json["mediaType"].as_str().unwrap_or(MANIFEST).to_owned();
                        reply(200, &[("content-type", &kind)], bytes)
                    }
                    None => reply(404, &[], b""),
                });
            }
            let blob = self.blobs.get(last)?;
            Some(match ranges {
                true => ranged(seen, blob),
                false => reply(200, &[], blob),
            })
        }
    }
}

fn knowing(evil: &Lying) -> Client {
    client(Options {
        endpoints: BTreeMap::from([("hub.test".parse().unwrap(), evil.url.clone())]),
        ..options()
    })
}

fn source() -> Reference {
    "hub.test/a:v1".parse().unwrap()
}

/// Copies the image; what was kept of it, as the registry holds it.
async fn copied(content: Content, platforms: &[Platform]) -> Result<Value, String> {
    copied_from(&content.serve(true).await, platforms).await
}

async fn copied_from(hub: &Lying, platforms: &[Platform]) -> Result<Value, String> {
    let own = RegistryServer::start(&Setup::default()).unwrap();
    let (client, target) = (knowing(hub), at(&own, "onedock/img-1"));
    let tag = "v1".parse().unwrap();
    let copy = client.copy(&source(), &target, &tag, platforms).await;
    let digest = copy.map_err(|e| told(&e))?;
    let again = client.copy(&source(), &target, &tag, platforms).await;
    assert_eq!(again.unwrap(), digest, "repeated it is another image");
    let reference = target.pinned(&digest);
    for platform in platforms {
        let config = client.image_config(&reference, platform).await;
        config.map_err(|e| told(&e))?;
    }
    let resolved = client.resolve(&reference).await.unwrap();
    Ok(serde_json::from_slice(&resolved.bytes).unwrap())
}

fn platforms_of(index: &Value) -> Vec<String> {
    let entries = index["manifests"].as_array().unwrap();
    let name = |e: &Value| {
        let platform = &e["platform"];
        format!(
            "{}/{}",
            platform["os"].as_str().unwrap(),
            platform["architecture"].as_str().unwrap()
        )
    };
    entries.iter().map(name).collect()
}

fn on(mut entry: Value, architecture: &str) -> Value {
    entry["platform"] = json!({"os": "linux", "architecture": architecture});
    entry
}

fn two() -> (TestImage, TestImage) {
    (
        TestImage::new(1).unwrap(),
        TestImage::new(2).unwrap().on("arm64"),
    )
}

fn zstd(bytes: &[u8]) -> Vec<u8> {
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
async fn an_index_within_an_index_and_entries_without_a_platform_are_looked_into() {
    let (a, b) = two();
    // No platform is said: the configurations tell.
    let mut content = Content::default();
    let (first, second) = (content.image(&a), content.image(&b));
    let entries = [content.manifest(&first), content.manifest(&second)];
    content.index(&entries);
    let index = copied(content, &[amd64()]).await.unwrap();
    assert_eq!(platforms_of(&index), ["linux/amd64"]);
    assert_eq!(index["manifests"][0]["digest"], entries[0]["digest"]);
    // An index within; what the engine cannot walk into is laid open.
    let mut content = Content::default();
    let (first, second) = (content.image(&a), content.image(&b));
    let entries = [
        on(content.manifest(&first), "amd64"),
        on(content.manifest(&second), "arm64"),
    ];
    let inner = content.index(&entries);
    let mut attestation = describe(MANIFEST, b"not there");
    attestation["platform"] = json!({"os": "unknown", "architecture": "unknown"});
    content.index(&[attestation, inner]);
    let arm: Platform = "linux/arm64".parse().unwrap();
    let index = copied(content, &[amd64(), arm]).await.unwrap();
    assert_eq!(platforms_of(&index), ["linux/amd64", "linux/arm64"]);
    assert_eq!(index["manifests"][0], entries[0]);
}

#[tokio::test]
async fn an_image_for_no_host_names_what_there_is_and_one_that_is_no_image_what_it_is() {
    let (a, b) = two();
    let mut content = Content::default();
    let (first, second) = (content.image(&a), content.image(&b));
    let arm = on(content.manifest(&second), "arm64");
    let silent = content.manifest(&first);
    content.index(&[arm, silent]);
    let hub = content.serve(true).await;
    let client = knowing(&hub);
    let riscv: Platform = "linux/riscv64".parse().unwrap();
    let error = client.image_config(&source(), &riscv).await.unwrap_err();
    let Error::Platform { has, .. } = &error else {
        panic!("{error}");
    };
    assert_eq!(has, "linux/amd64, linux/arm64");
    assert!(client.image_config(&source(), &amd64()).await.is_ok());
    let mut content = Content::default();
    let mut chart = content.image(&a);
    chart["config"]["mediaType"] = json!("application/vnd.cncf.helm.config.v1+json");
    content.manifest(&chart);
    let error = copied(content, &[amd64()]).await.unwrap_err();
    assert!(
        error.contains("no container image but application/vnd.cncf.helm"),
        "{error}"
    );
}

#[tokio::test]
async fn of_several_variants_the_one_for_every_machine_is_taken() {
    let (a, _) = two();
    let mut newer = TestImage::new(3).unwrap();
    newer.layers.truncate(1);
    let mut content = Content::default();
    let (old, new) = (content.image(&a), content.image(&newer));
    let mut third = on(content.manifest(&new), "amd64");
    third["platform"]["variant"] = json!("v3");
    let first = on(content.manifest(&old), "amd64");
    content.index(&[third, first]);
    let hub = content.serve(true).await;
    let size = knowing(&hub).unpacked_size(&source(), &amd64()).await;
    assert_eq!(size.unwrap().bytes, a.unpacked());
}

#[tokio::test]
async fn every_member_of_a_large_gzip_layer_counts() {
    // The last member alone would do for the whole layer by its length.
    let small_first: Pack = |bytes| {
        let (a, b) = bytes.split_at(512);
        [gzip(a), gzip(b)].concat()
    };
    let small_last: Pack = |bytes| {
        let (a, b) = bytes.split_at(200 << 10);
        [gzip(a), gzip(b)].concat()
    };
    for (pack, content) in [
        (small_first, noise(1, 256 << 10)),
        (
            small_last,
            [noise(2, 200 << 10), vec![0; 300 << 10]].concat(),
        ),
    ] {
        let mut image = TestImage::new(1).unwrap();
        let whole = Size {
            bytes: content.len() as u64,
            exact: true,
        };
        image.layers = vec![content];
        let mut content = Content::default();
        let kind = "application/vnd.oci.image.layer.v1.tar+gzip";
        let manifest = content.packed(&image, kind, pack);
        assert!(manifest["layers"][0]["size"].as_u64() > Some(64 << 10));
        content.manifest(&manifest);
        let hub = content.serve(true).await;
        let size = knowing(&hub).unpacked_size(&source(), &amd64()).await;
        assert_eq!(size.unwrap(), whole);
    }
}

#[tokio::test]
async fn a_large_gzip_layer_of_several_members_that_is_damaged_is_estimated() {
    let mut image = TestImage::new(1).unwrap();
    image.layers = vec![noise(1, 256 << 10)];
    let damaged: Pack = |bytes| {
        let (a, b) = bytes.split_at(512);
        [gzip(a), gzip(b), vec![b'x'; 512]].concat()
    };
    let mut content = Content::default();
    let kind = "application/vnd.oci.image.layer.v1.tar+gzip";
    let manifest = content.packed(&image, kind, damaged);
    content.manifest(&manifest);
    let hub = content.serve(true).await;
    let size = knowing(&hub).unpacked_size(&source(), &amd64()).await;
    let size = size.unwrap();
    assert!(!size.exact && size.bytes >= 3 * (256 << 10), "{size:?}");
}

#[tokio::test]
async fn layers_that_cannot_be_counted_in_time_are_estimated_together() {
    let mut image = TestImage::new(2).unwrap();
    image.layers = vec![noise(1, 256 << 10), noise(2, 256 << 10)];
    let mut content = Content::default();
    let kind = "application/vnd.oci.image.layer.v1.tar+gzip";
    let manifest = content.packed(&image, kind, |bytes| {
        let (a, b) = bytes.split_at(512);
        [gzip(a), gzip(b)].concat()
    });
    content.manifest(&manifest);
    let blobs: Vec<String> = manifest["layers"]
        .as_array()
        .unwrap()
        .iter()
        .map(|layer| layer["digest"].as_str().unwrap().to_owned())
        .collect();
    let answers = content.answers(true);
    // Ranges are answered, a whole layer never is.
    let hub = Lying::start(move |seen: &Seen| {
        let whole = !seen.headers.contains_key("range");
        if whole && blobs.iter().any(|blob| seen.path.ends_with(blob)) {
            return Some(Reply::Silence);
        }
        answers(seen)
    })
    .await;
    let client = client(Options {
        endpoints: BTreeMap::from([("hub.test".parse().unwrap(), hub.url.clone())]),
        idle_timeout: Duration::from_secs(60),
        request_timeout: Duration::from_secs(60),
        total_timeout: Duration::from_secs(6),
        ..options()
    });
    let size = client.unpacked_size(&source(), &amd64()).await.unwrap();
    assert!(!size.exact && size.bytes >= 6 * (256 << 10), "{size:?}");
}

#[tokio::test]
async fn every_member_of_a_small_gzip_layer_counts() {
    let mut image = TestImage::new(1).unwrap();
    image.layers = vec![vec![0; 2 << 20]];
    let mut content = Content::default();
    let members: Pack = |bytes| {
        let (a, b) = bytes.split_at(1 << 20);
        [gzip(a), gzip(b)].concat()
    };
    let manifest = content.packed(
        &image,
        "application/vnd.oci.image.layer.v1.tar+gzip",
        members,
    );
    content.manifest(&manifest);
    let hub = content.serve(true).await;
    let size = knowing(&hub).unpacked_size(&source(), &amd64()).await;
    let whole = Size {
        bytes: 2 << 20,
        exact: true,
    };
    assert_eq!(size.unwrap(), whole);
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
    let error = told(&copy((4 << 20) - 1).await.unwrap_err());
    assert!(
        error.contains("cannot be unpacked: file too large"),
        "{error}"
    );
    copy(4 << 20).await.unwrap();
}
