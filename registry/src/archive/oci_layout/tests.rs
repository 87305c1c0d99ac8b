use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::*;
use crate::oci::media_type::{OCI_CONFIG, OCI_MANIFEST};

/// A layout's blobs.
#[derive(Default)]
struct Blobs(Vec<(String, Vec<u8>)>);

impl Blobs {
    fn add(&mut self, media_type: &str, document: &Value) -> Value {
        let bytes = document.to_string().into_bytes();
        let entry = json!({
            "mediaType": media_type, "size": bytes.len(), "digest": Digest::of(&bytes),
        });
        self.0.push((blob_name(&Digest::of(&bytes)), bytes));
        entry
    }

    fn index(&mut self, entries: &[Value]) -> Value {
        let index = json!({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": entries});
        self.add(OCI_INDEX, &index)
    }

    /// An image without layers.
    fn image(&mut self, number: usize) -> Value {
        let config = json!({"architecture": "amd64", "os": "linux", "number": number});
        let config = self.add(OCI_CONFIG, &config);
        let manifest = json!({
            "schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": config, "layers": [],
        });
        self.add(OCI_MANIFEST, &manifest)
    }

    fn read(&self, entry: &Value) -> Result<Option<Layout>, String> {
        let top = json!({"schemaVersion": 2, "manifests": [entry]}).to_string();
        let mut builder = tar::Builder::new(Vec::new());
        let top = [(NAME.to_owned(), top.into_bytes())];
        for (name, bytes) in self.0.iter().chain(&top) {
            let mut header = tar::Header::new_gnu();
            header.set_size(bytes.len() as u64);
            header.set_mode(0o644);
            builder
                .append_data(&mut header, name, bytes.as_slice())
                .unwrap();
        }
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), builder.into_inner().unwrap()).unwrap();
        let until = Instant::now() + Duration::from_secs(600);
        let table = Table::read(file.path(), 1 << 30, until).unwrap();
        read(&table, 1 << 30, &[]).map_err(|e| e.to_string())
    }
}

#[test]
fn indexes_within_an_index_have_a_depth() {
    let mut blobs = Blobs::default();
    let mut entry = blobs.image(1);
    for _ in 0..=DEPTH + 1 {
        assert_eq!(blobs.read(&entry).unwrap().unwrap().images.len(), 1);
        entry = blobs.index(&[entry]);
    }
    let error = blobs.read(&entry).unwrap_err();
    assert!(error.contains("too many indexes"), "{error}");
}

#[test]
fn an_index_has_a_limited_number_of_images_also_in_those_within() {
    let mut blobs = Blobs::default();
    let images: Vec<Value> = (0..IMAGES + 2).map(|n| blobs.image(n)).collect();
    let (first, second) = images.split_at(IMAGES / 2);
    let entries = [blobs.index(first), blobs.index(second)];
    let entry = blobs.index(&entries);
    let error = blobs.read(&entry).unwrap_err();
    assert!(error.contains("more than"), "{error}");
    let few = blobs.index(&images[..2]);
    assert_eq!(blobs.read(&few).unwrap().unwrap().images.len(), 2);
}

#[test]
fn a_manifest_must_have_its_digest_and_a_blob_its_size() {
    let mut blobs = Blobs::default();
    let entry = blobs.image(1);
    // Still the same JSON.
    blobs.0[1].1.push(b' ');
    let error = blobs.read(&entry).unwrap_err();
    assert!(error.contains("has digest"), "{error}");
    let mut blobs = Blobs::default();
    let entry = blobs.image(1);
    blobs.0[0].1.push(b' ');
    let error = blobs.read(&entry).unwrap_err();
    assert!(error.contains("bytes where"), "{error}");
}

#[test]
fn attachments_are_no_images_and_an_image_has_the_platform_of_its_configuration() {
    let mut blobs = Blobs::default();
    let (image, mut attachment) = (blobs.image(1), blobs.image(2));
    attachment["annotations"] = json!({"vnd.docker.reference.type": "attestation-manifest"});
    let entry = blobs.index(&[image, attachment]);
    let layout = blobs.read(&entry).unwrap().unwrap();
    assert_eq!(layout.images.len(), 1);
    let platform = layout.images[0].part.entry.known_platform().unwrap();
    assert_eq!(platform.text(), "linux/amd64");
}
