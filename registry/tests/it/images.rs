//! Images made here: busybox and a few files, in every form that an archive can have.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use flate2::Compression;
use flate2::write::GzEncoder;
use onedock_common::Digest;
use serde_json::{Value, json};

/// An image: its layers' tar archives, base first.
pub(crate) struct TestImage {
    pub(crate) layers: Vec<Vec<u8>>,
    pub(crate) architecture: String,
}

/// A tar archive of one file.
pub(crate) fn tar_of(name: &str, content: &[u8], mode: u32) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    add(&mut builder, name, content, mode);
    builder.into_inner().unwrap()
}

pub(crate) fn add(builder: &mut tar::Builder<Vec<u8>>, name: &str, content: &[u8], mode: u32) {
    let mut header = tar::Header::new_gnu();
    header.set_size(content.len() as u64);
    header.set_mode(mode);
    header.set_cksum();
    builder.append_data(&mut header, name, content).unwrap();
}

pub(crate) fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// Bytes that do not shrink, the same for the same seed.
pub(crate) fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let step = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[0]
    };
    std::iter::repeat_with(step).take(length).collect()
}

impl TestImage {
    /// busybox, and a layer of noise of its own.
    pub(crate) fn new(seed: u64) -> Result<Self> {
        let busybox = fs::read("/bin/busybox")
            .or_else(|_| fs::read("/usr/bin/busybox"))
            .context("busybox is missing; install the package busybox-static")?;
        Ok(Self {
            layers: vec![
                tar_of("bin/busybox", &busybox, 0o755),
                tar_of("noise", &noise(seed, 300_000), 0o644),
            ],
            architecture: "amd64".to_owned(),
        })
    }

    pub(crate) fn on(mut self, architecture: &str) -> Self {
        self.architecture = architecture.to_owned();
        self
    }

    pub(crate) fn unpacked(&self) -> u64 {
        self.layers.iter().map(|l| l.len() as u64).sum()
    }

    pub(crate) fn config(&self) -> Vec<u8> {
        let diffs: Vec<Digest> = self.layers.iter().map(|l| Digest::of(l)).collect();
        json!({
            "architecture": self.architecture,
            "os": "linux",
            "config": {
                "Cmd": ["/bin/busybox", "httpd", "-f"],
                "Env": ["PATH=/bin"],
                "Labels": {"a": "b"},
                "Volumes": {"/data": {}},
                "StopSignal": "SIGINT",
                "User": "1000",
            },
            "rootfs": {"type": "layers", "diff_ids": diffs},
            "history": [],
        })
        .to_string()
        .into_bytes()
    }

    /// `docker save` of the engines from 1.10 to 24, with tags that must mean nothing.
    pub(crate) fn saved(&self) -> Vec<(String, Vec<u8>)> {
        let config = self.config();
        let name = format!("{}.json", Digest::of(&config).hex());
        let mut members = vec![(name.clone(), config)];
        let mut layers = Vec::new();
        for layer in &self.layers {
            let path = format!("{}/layer.tar", Digest::of(layer).hex());
            members.push((path.clone(), layer.clone()));
            layers.push(path);
        }
        let manifest = json!([{"Config": name, "RepoTags": ["bench:latest"], "Layers": layers}]);
        members.push(("manifest.json".into(), manifest.to_string().into_bytes()));
        members.push((
            "repositories".into(),
            br#"{"bench":{"latest":"x"}}"#.to_vec(),
        ));
        members
    }

    /// `docker save` before 1.10.
    pub(crate) fn oldest(&self) -> Vec<(String, Vec<u8>)> {
        let mut members = Vec::new();
        let mut parent = String::new();
        for (n, layer) in self.layers.iter().enumerate() {
            let id = format!("{:064x}", n + 1);
            let mut json = json!({
                "id": id, "created": "2015-01-01T00:00:00Z", "os": "linux",
                "architecture": self.architecture, "config": {"Cmd": ["/bin/busybox"]},
            });
            if !parent.is_empty() {
                json["parent"] = json!(parent);
            }
            members.push((format!("{id}/VERSION"), b"1.0".to_vec()));
            members.push((format!("{id}/json"), json.to_string().into_bytes()));
            members.push((format!("{id}/layer.tar"), layer.clone()));
            parent = id;
        }
        let names = json!({"old/name": {"latest": parent, "v1": parent}});
        members.push(("repositories".into(), names.to_string().into_bytes()));
        members
    }

    /// The manifest and its blobs, with packed layers.
    pub(crate) fn oci(&self) -> (Vec<u8>, Vec<Vec<u8>>) {
        let config = self.config();
        let packed: Vec<Vec<u8>> = self.layers.iter().map(|l| gzip(l)).collect();
        let describe = |media_type: &str, bytes: &[u8]| json!({"mediaType": media_type, "size": bytes.len(), "digest": Digest::of(bytes)});
        let gzip = "application/vnd.oci.image.layer.v1.tar+gzip";
        let layers: Vec<Value> = packed.iter().map(|l| describe(gzip, l)).collect();
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": describe("application/vnd.oci.image.config.v1+json", &config),
            "layers": layers,
        });
        let blobs = packed.into_iter().chain([config]).collect();
        (manifest.to_string().into_bytes(), blobs)
    }
}

pub(crate) fn blob(bytes: &[u8]) -> (String, Vec<u8>) {
    (
        format!("blobs/sha256/{}", Digest::of(bytes).hex()),
        bytes.to_vec(),
    )
}

/// An OCI layout: one image, or an index of several when there is more than one.
pub(crate) fn oci_layout(images: &[&TestImage]) -> Vec<(String, Vec<u8>)> {
    let mut members = vec![(
        "oci-layout".to_owned(),
        br#"{"imageLayoutVersion":"1.0.0"}"#.to_vec(),
    )];
    let mut entries = Vec::new();
    for image in images {
        let (manifest, blobs) = image.oci();
        members.extend(blobs.iter().map(|b| blob(b)));
        members.push(blob(&manifest));
        entries.push(json!({
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "size": manifest.len(), "digest": Digest::of(&manifest),
            "platform": {"os": "linux", "architecture": image.architecture},
        }));
    }
    if entries.len() > 1 {
        // What builders add, and what an engine has not pulled.
        entries.push(json!({
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "size": 5, "digest": Digest::of(b"attestation"),
            "platform": {"os": "unknown", "architecture": "unknown"},
        }));
        let index = index(&entries);
        members.push(blob(&index));
        entries = vec![json!({
            "mediaType": "application/vnd.oci.image.index.v1+json",
            "size": index.len(), "digest": Digest::of(&index),
        })];
    }
    // The same image under two names.
    entries.push(entries[0].clone());
    members.push(("index.json".to_owned(), index(&entries)));
    members
}

pub(crate) fn index(entries: &[Value]) -> Vec<u8> {
    json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.index.v1+json",
        "manifests": entries,
    })
    .to_string()
    .into_bytes()
}

/// Writes an archive of these members.
pub(crate) fn write(dir: &Path, name: &str, members: &[(String, Vec<u8>)]) -> PathBuf {
    let mut builder = tar::Builder::new(Vec::new());
    for (name, content) in members {
        add(&mut builder, name, content, 0o644);
    }
    let path = dir.join(name);
    let bytes = builder.into_inner().unwrap();
    let bytes = if name.ends_with("gz") {
        gzip(&bytes)
    } else {
        bytes
    };
    fs::write(&path, bytes).unwrap();
    path
}
