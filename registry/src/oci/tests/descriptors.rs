use onedock_common::Digest;
use serde_json::{Value, json};

use crate::oci::compression::Compression;
use crate::oci::media_type::*;

use super::*;

#[test]
fn an_attachment_of_an_image_is_no_image() {
    let mut value = index(&[("linux", "amd64"); 4]);
    value["manifests"][1]["annotations"] =
        json!({"vnd.docker.reference.type": "attestation-manifest"});
    value["manifests"][2]["artifactType"] = json!("application/spdx+json");
    value["manifests"][3]["platform"] = json!({"os": "unknown", "architecture": "unknown"});
    let attachments: Vec<bool> = index_of(&value)
        .entries
        .iter()
        .map(Descriptor::is_attachment)
        .collect();
    assert_eq!(attachments, [false, true, true, true]);
    for (change, reason) in [
        (
            json!({"config": {"mediaType": "application/vnd.oci.empty.v1+json"},
                   "artifactType": "application/vnd.example.sbom"}),
            "application/vnd.example.sbom",
        ),
        (
            json!({"layers": [{"mediaType": "application/vnd.dev.cosign.simplesigning.v1+json"}]}),
            "cosign",
        ),
        (
            json!({"layers": [{"mediaType": "application/vnd.in-toto+json"}]}),
            "in-toto",
        ),
    ] {
        let mut value = image();
        if let Some(kind) = change.get("artifactType") {
            value["artifactType"] = kind.clone();
        }
        if let Some(config) = change.get("config") {
            value["config"]["mediaType"] = config["mediaType"].clone();
        }
        if let Some(layers) = change.get("layers") {
            value["layers"][0]["mediaType"] = layers[0]["mediaType"].clone();
        }
        let error = read(&value).unwrap_err();
        assert!(
            error.contains("no container image") && error.contains(reason),
            "{error}"
        );
    }
}

#[test]
fn types_that_the_engine_takes_are_read_and_become_known_ones() {
    for config in [
        "application/json",
        "application/octet-stream",
        "text/html",
        "",
    ] {
        for (layer, compression) in [
            ("", None),
            ("application/gzip", Some(Compression::Gzip)),
            ("application/x-gzip", Some(Compression::Gzip)),
            ("application/x-tar", Some(Compression::None)),
        ] {
            let mut value = image();
            value["config"]["mediaType"] = json!(config);
            value["layers"][0]["mediaType"] = json!(layer);
            value["annotations"] = json!({"a": "b"});
            let Ok(Manifest::Image(found)) = read(&value) else {
                panic!("{config} {layer}: {:?}", read(&value));
            };
            assert_eq!(found.layers[0].compression(), Ok(compression));
            let known = found.layers[0].with_known_type(DOCKER_MANIFEST, Compression::Gzip);
            let bytes = value.to_string();
            let new = found.rewritten(bytes.as_bytes(), DOCKER_MANIFEST, &[known]);
            let new: Value = serde_json::from_slice(&new.unwrap()).unwrap();
            assert_eq!(new["config"]["mediaType"], DOCKER_CONFIG);
            assert_eq!(new["layers"][0]["mediaType"], DOCKER_LAYER_GZIP);
            assert_eq!(new["layers"][0]["digest"], value["layers"][0]["digest"]);
            assert_eq!(new["annotations"], value["annotations"]);
        }
    }
    // A manifest with known types stays as it is, byte for byte.
    let bytes = image().to_string();
    let Ok(Manifest::Image(found)) = read(&image()) else {
        panic!("no image");
    };
    let known = found.layers[0].with_known_type(DOCKER_MANIFEST, Compression::Gzip);
    let new = found.rewritten(bytes.as_bytes(), DOCKER_MANIFEST, &[known]);
    assert_eq!(new.unwrap(), bytes.as_bytes());
}

#[test]
fn each_mark_alone_makes_an_entry_or_a_layer_an_attachment() {
    for platform in [
        json!({"os": "unknown", "architecture": "amd64"}),
        json!({"os": "linux", "architecture": "unknown"}),
    ] {
        let mut value = index(&[("linux", "amd64")]);
        value["manifests"][0]["platform"] = platform;
        assert!(index_of(&value).entries[0].is_attachment());
    }
    for half in [
        json!({"os": "linux", "architecture": ""}),
        json!({"os": "", "architecture": "amd64"}),
    ] {
        let mut value = index(&[("linux", "amd64")]);
        value["manifests"][0]["platform"] = half;
        assert!(index_of(&value).entries[0].known_platform().is_none());
    }
    for kind in ["application/spdx+json", "text/in-toto", "text/cosign"] {
        assert!(is_attachment_layer(kind), "{kind}");
    }
    assert!(!is_attachment_layer(OCI_LAYER_GZIP));
    // Builders say what an image is for with `artifactType`, too.
    let mut value = image();
    value["artifactType"] = json!("application/vnd.example.image");
    assert!(read(&value).is_ok());
    let mut value = image();
    value["layers"][0]["mediaType"] =
        json!("application/vnd.oci.image.layer.nondistributable.v1.tar+gzip");
    assert!(read(&value).unwrap_err().contains("stored elsewhere"));
}

#[test]
fn a_layer_has_the_type_of_its_compression_in_its_manifests_family() {
    for (manifest, compression, kind) in [
        (DOCKER_MANIFEST, Compression::None, DOCKER_LAYER_TAR),
        (DOCKER_MANIFEST, Compression::Gzip, DOCKER_LAYER_GZIP),
        (OCI_MANIFEST, Compression::None, OCI_LAYER_TAR),
        (OCI_MANIFEST, Compression::Gzip, OCI_LAYER_GZIP),
    ] {
        assert_eq!(layer_type(manifest, compression), kind);
        // One that is compressed in another way than its type says.
        let layer = Descriptor::new(OCI_LAYER_ZSTD, 1, Digest::of(b"x"));
        assert_eq!(
            layer.with_known_type(manifest, compression).media_type,
            kind
        );
    }
}
