//! Archives as the tools of the field write them.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use onedock_common::Digest;
use onedock_registry::{Options, Platform, archive_size};
use onedock_tests::registry_server::{RegistryServer, Setup};
use serde_json::{Value, json};

use crate::images::{TestImage, blob, gzip, index, oci_layout, tar_of, write};
use crate::{amd64, at, client, image_config, options, with_causes};

mod holes;

type Members = Vec<(String, Vec<u8>)>;

type Pack = fn(&[u8]) -> Vec<u8>;

fn zstd(bytes: &[u8]) -> Vec<u8> {
    ruzstd::encoding::compress_to_vec(bytes, ruzstd::encoding::CompressionLevel::Fastest)
}

fn xz(bytes: &[u8]) -> Vec<u8> {
    let options = lzma_rust2::XzOptions::with_preset(1);
    let mut encoder = lzma_rust2::XzWriter::new(Vec::new(), options).unwrap();
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn bzip2(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// A small image of two layers.
fn small(seed: u64) -> TestImage {
    let mut image = TestImage::new(seed).unwrap();
    image.layers[0] = tar_of("text", &b"the same line\n".repeat(2000), 0o644);
    image
}

/// As crane, ko and kaniko write it (go-containerregistry, `pkg/v1/tarball`).
fn crane(image: &TestImage, pack: impl Fn(&[u8]) -> Vec<u8>) -> Members {
    let config = image.config();
    let name = Digest::of(&config).to_string();
    let mut members = vec![(name.clone(), config)];
    let mut layers = Vec::new();
    for layer in &image.layers {
        let packed = pack(layer);
        let path = format!("{}.tar.gz", Digest::of(&packed).hex());
        members.push((path.clone(), packed));
        layers.push(path);
    }
    let manifest = json!([{"Config": name, "RepoTags": null, "Layers": layers}]);
    members.push(("manifest.json".into(), manifest.to_string().into_bytes()));
    members
}

/// Registers an archive; the size that was said before, and the one that it has.
async fn register(path: &Path, wanted: &[Platform]) -> Result<(u64, u64), String> {
    let server = RegistryServer::start(&Setup::default()).unwrap();
    let said = archive_size(path, wanted, &Options::default()).await;
    let said = said.map_err(|e| with_causes(&e))?;
    assert!(said.exact);
    let (client, target) = (client(options()), at(&server, "onedock/img-1"));
    let tag = "v1".parse().unwrap();
    let pushed = client.push_archive(path, &target, &tag, wanted).await;
    let digest = pushed.map_err(|e| with_causes(&e))?;
    let again = client.push_archive(path, &target, &tag, wanted).await;
    assert_eq!(again.unwrap(), digest, "repeated it is another image");
    let reference = target.pinned(&digest);
    let platform = wanted.first().cloned().unwrap_or_else(amd64);
    let resolved = client.resolve(&reference).await.unwrap();
    let text = String::from_utf8(resolved.bytes.to_vec()).unwrap();
    assert!(!text.contains("zstd"), "{text}");
    let config = image_config(&server, &client, &reference, &platform.to_string()).await;
    assert_eq!(config.unwrap()["config"]["User"], "1000");
    let size = client.unpacked_size(&reference, &platform).await.unwrap();
    Ok((said.bytes, size.bytes))
}

async fn is_registered(path: &Path, image: &TestImage) {
    let sizes = register(path, &[amd64()]).await;
    let size = image.unpacked();
    assert_eq!(sizes, Ok((size, size)), "{}", path.display());
}

async fn reason(path: &Path, wanted: &[Platform]) -> String {
    register(path, wanted).await.unwrap_err()
}

/// An archive whose members have names that the tar crate does not write.
fn write_raw(dir: &Path, members: &Members, prefix: &str) -> PathBuf {
    let mut builder = tar::Builder::new(Vec::new());
    for (name, content) in members {
        let name = format!("{prefix}{name}");
        let mut header = tar::Header::new_gnu();
        header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        header.set_cksum();
        builder.append(&header, content.as_slice()).unwrap();
    }
    let path = dir.join("raw.tar");
    fs::write(&path, builder.into_inner().unwrap()).unwrap();
    path
}

#[tokio::test]
async fn documents_are_what_the_manifest_names_whatever_they_are_called() {
    let dir = tempfile::tempdir().unwrap();
    let image = small(1);
    let plain = crane(&image, gzip);
    is_registered(&write(dir.path(), "crane.tar", &plain), &image).await;
    is_registered(&write(dir.path(), "crane.tar.gz", &plain), &image).await;
    for prefix in ["/", "./", ".//"] {
        is_registered(&write_raw(dir.path(), &plain, prefix), &image).await;
    }
    // White space before JSON, and the mark that editors of another system put before a text.
    for before in [" \n\t", "\u{feff}"] {
        let mut members = plain.clone();
        for (_, content) in members.iter_mut().filter(|(_, c)| c.starts_with(b"[")) {
            content.splice(..0, before.bytes());
        }
        is_registered(&write(dir.path(), "before.tar", &members), &image).await;
        is_registered(&write(dir.path(), "before.tar.gz", &members), &image).await;
    }
    let mut spaced = image.saved();
    let config = spaced
        .iter_mut()
        .find(|(n, _)| n.ends_with(".json"))
        .unwrap();
    config.1.splice(..0, *b"\n  ");
    is_registered(&write(dir.path(), "spaced.tar.gz", &spaced), &image).await;
}

#[tokio::test]
async fn every_member_of_a_gzip_layer_counts() {
    let dir = tempfile::tempdir().unwrap();
    let mut image = small(1);
    image.layers = vec![tar_of("zeros", &vec![0; 2 << 20], 0o644)];
    let halves = |tar: &[u8]| {
        let (a, b) = tar.split_at(tar.len() / 1024 * 512);
        [gzip(a), gzip(b)].concat()
    };
    let path = write(dir.path(), "members.tar", &crane(&image, halves));
    is_registered(&path, &image).await;
    // The archive itself as well.
    let bytes = fs::read(write(dir.path(), "a.tar", &crane(&image, gzip))).unwrap();
    let path = dir.path().join("members.tar.gz");
    fs::write(&path, halves(&bytes)).unwrap();
    is_registered(&path, &image).await;
}

#[tokio::test]
async fn what_is_packed_with_zstd_xz_or_bzip2_is_read_and_reaches_every_engine() {
    let dir = tempfile::tempdir().unwrap();
    let image = small(1);
    let packers: [(&str, Pack); 3] = [("zst", zstd), ("xz", xz), ("bz2", bzip2)];
    for (name, pack) in packers {
        // Around the archive.
        for members in [image.saved(), oci_layout(&[&image])] {
            let bytes = fs::read(write(dir.path(), "a.tar", &members)).unwrap();
            let path = dir.path().join(format!("a.tar.{name}"));
            fs::write(&path, pack(&bytes)).unwrap();
            is_registered(&path, &image).await;
        }
        // Around its layers.
        let path = write(dir.path(), "layers.tar", &crane(&image, pack));
        is_registered(&path, &image).await;
    }
    // An OCI layout of buildx with `compression=zstd`, and an index of two such images.
    let other = small(2).on("arm64");
    for images in [&[&image][..], &[&image, &other]] {
        let path = write(dir.path(), "zstd.tar", &zstd_layout(images));
        is_registered(&path, &image).await;
    }
    let two = write(dir.path(), "two.tar", &zstd_layout(&[&image, &other]));
    let arm: Platform = "linux/arm64".parse().unwrap();
    let (_, size) = register(&two, &[amd64(), arm]).await.unwrap();
    assert_eq!(size, image.unpacked());
}

/// An OCI layout whose layers are packed with zstd.
fn zstd_layout(images: &[&TestImage]) -> Members {
    let mut members = vec![("oci-layout".to_owned(), b"{}".to_vec())];
    let mut entries = Vec::new();
    for image in images {
        let (manifest, blobs) = image.oci();
        let mut manifest: Value = serde_json::from_slice(&manifest).unwrap();
        for (n, layer) in image.layers.iter().enumerate() {
            let packed = zstd(layer);
            manifest["layers"][n] = json!({
                "mediaType": "application/vnd.oci.image.layer.v1.tar+zstd",
                "size": packed.len(), "digest": Digest::of(&packed),
            });
            members.push(blob(&packed));
        }
        members.push(blob(blobs.last().unwrap()));
        let manifest = manifest.to_string().into_bytes();
        entries.push(json!({
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "size": manifest.len(), "digest": Digest::of(&manifest),
            "platform": {"os": "linux", "architecture": image.architecture},
        }));
        members.push(blob(&manifest));
    }
    if entries.len() > 1 {
        let inner = index(&entries);
        members.push(blob(&inner));
        entries = vec![json!({
            "mediaType": "application/vnd.oci.image.index.v1+json",
            "size": inner.len(), "digest": Digest::of(&inner),
        })];
    }
    members.push(("index.json".to_owned(), index(&entries)));
    members
}

#[tokio::test]
async fn one_image_listed_twice_is_one_and_of_two_the_hosts_decide() {
    let dir = tempfile::tempdir().unwrap();
    let (a, b) = (small(1), small(2).on("arm64"));
    let rows = |members: &Members| -> Vec<Value> {
        let table = members.iter().find(|(name, _)| name == "manifest.json");
        serde_json::from_slice(&table.unwrap().1).unwrap()
    };
    let both = |tags: [&str; 2], images: [&TestImage; 2]| {
        let mut all = Members::new();
        let mut table = Vec::new();
        for (tag, image) in tags.iter().zip(images) {
            let members = crane(image, gzip);
            let mut row = rows(&members).remove(0);
            row["RepoTags"] = json!([tag]);
            table.push(row);
            all.extend(members.into_iter().filter(|(n, _)| n != "manifest.json"));
        }
        all.push((
            "manifest.json".into(),
            json!(table).to_string().into_bytes(),
        ));
        write(dir.path(), "both.tar", &all)
    };
    is_registered(&both(["a:1", "a:2"], [&a, &a]), &a).await;
    let two = both(["a:1", "b:1"], [&a, &b]);
    is_registered(&two, &a).await;
    let arm: Platform = "linux/arm64".parse().unwrap();
    assert!(register(&two, std::slice::from_ref(&arm)).await.is_ok());
    for wanted in [&[][..], &[amd64(), arm.clone()]] {
        let text = reason(&two, wanted).await;
        assert!(
            text.contains("a:1 (linux/amd64), b:1 (linux/arm64)"),
            "{text}"
        );
        assert!(text.contains("?platform="), "{text}");
    }
    let single = write(dir.path(), "arm.tar", &crane(&b, gzip));
    let text = reason(&single, &[amd64()]).await;
    assert!(
        text.contains("linux/arm64") && text.contains("?platform="),
        "{text}"
    );
}

#[tokio::test]
async fn what_lies_beside_an_image_in_a_layout_is_passed_over() {
    let dir = tempfile::tempdir().unwrap();
    let image = small(1);
    let (manifest, blobs) = image.oci();
    let empty = b"{}".to_vec();
    let describe = |media_type: &str, bytes: &[u8]| json!({"mediaType": media_type, "size": bytes.len(), "digest": Digest::of(bytes)});
    let manifest_type = "application/vnd.oci.image.manifest.v1+json";
    let subject = describe(manifest_type, &manifest);
    // cosign's, with an image's configuration; oras's; BuildKit's, by its annotation.
    let signature = json!({
        "schemaVersion": 2, "mediaType": manifest_type,
        "config": describe("application/vnd.oci.image.config.v1+json", blobs.last().unwrap()),
        "layers": [describe("application/vnd.dev.cosign.simplesigning.v1+json", &empty)],
    });
    let bill = json!({
        "schemaVersion": 2, "mediaType": manifest_type, "artifactType": "application/spdx+json",
        "config": describe("application/vnd.oci.empty.v1+json", &empty),
        "layers": [describe("application/spdx+json", &empty)], "subject": subject,
    });
    let mut members: Members = blobs.iter().map(|bytes| blob(bytes)).collect();
    members.extend([blob(&empty), blob(&manifest)]);
    let mut entries = Vec::new();
    for about in [&signature, &bill] {
        let bytes = about.to_string().into_bytes();
        entries.push(describe(manifest_type, &bytes));
        members.push(blob(&bytes));
    }
    let mut attestation = describe(manifest_type, b"not in the archive");
    attestation["annotations"] = json!({"vnd.docker.reference.type": "attestation-manifest"});
    entries.push(attestation);
    let only = entries.clone();
    entries.push(describe(manifest_type, &manifest));
    members.push(("index.json".into(), index(&entries)));
    is_registered(&write(dir.path(), "beside.tar", &members), &image).await;
    members.pop();
    members.push(("index.json".into(), index(&only)));
    let text = reason(&write(dir.path(), "none.tar", &members), &[amd64()]).await;
    assert!(text.contains("no container image but"), "{text}");
}

#[tokio::test]
async fn a_null_field_is_an_empty_one() {
    let dir = tempfile::tempdir().unwrap();
    let mut image = small(1);
    image.layers.clear();
    let mut config: Value = serde_json::from_slice(&image.config()).unwrap();
    config["rootfs"]["diff_ids"] = Value::Null;
    config["history"] = Value::Null;
    config["config"]["Labels"] = json!({"a": null});
    config["config"]["Volumes"] = Value::Null;
    let table = json!([{"Config": "c", "RepoTags": null, "Layers": null}]);
    let members = vec![
        ("c".to_owned(), config.to_string().into_bytes()),
        ("manifest.json".to_owned(), table.to_string().into_bytes()),
    ];
    is_registered(&write(dir.path(), "null.tar", &members), &image).await;
    let members = vec![("manifest.json".to_owned(), b"null".to_vec())];
    let text = reason(&write(dir.path(), "nothing.tar", &members), &[amd64()]).await;
    assert!(text.contains("holds no image"), "{text}");
}
