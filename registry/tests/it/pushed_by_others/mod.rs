//! Images in registries as other tools have pushed them.

use std::collections::{BTreeMap, HashMap};

use onedock_common::Digest;
use onedock_common::types::reference::Reference;
use onedock_registry::{Client, Options, Platform};
use onedock_tests::registry_server::{RegistryServer, Setup};
use serde_json::{Value, json};

use crate::fake_registry::{FakeRegistry, Received, Reply, ranged, reply};
use crate::images::{TestImage, gzip};
use crate::{at, client, image_config, options, with_causes};

mod platforms;
mod recompression;
mod sizes;

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

    async fn serve(self, ranges: bool) -> FakeRegistry {
        FakeRegistry::start(self.answers(ranges)).await
    }

    fn answers(self, ranges: bool) -> impl Fn(&Received) -> Option<Reply> {
        move |request: &Received| {
            let last = request.path.rsplit('/').next().unwrap_or_default();
            if request.path.contains("/manifests/") {
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
                true => ranged(request, blob),
                false => reply(200, &[], blob),
            })
        }
    }
}

fn client_of(fake: &FakeRegistry) -> Client {
    client(Options {
        endpoints: BTreeMap::from([("hub.test".parse().unwrap(), fake.url.clone())]),
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

async fn copied_from(hub: &FakeRegistry, platforms: &[Platform]) -> Result<Value, String> {
    let own = RegistryServer::start(&Setup::default()).unwrap();
    let (client, target) = (client_of(hub), at(&own, "onedock/img-1"));
    let tag = "v1".parse().unwrap();
    let copy = client.copy(&source(), &target, &tag, platforms).await;
    let digest = copy.map_err(|e| with_causes(&e))?;
    let again = client.copy(&source(), &target, &tag, platforms).await;
    assert_eq!(again.unwrap(), digest, "repeated it is another image");
    let reference = target.pinned(&digest);
    for platform in platforms {
        let size = client.unpacked_size(&reference, platform).await;
        size.map_err(|e| with_causes(&e))?;
        let config = image_config(&own, &client, &reference, &platform.to_string()).await;
        assert!(config.is_some(), "{platform}");
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
