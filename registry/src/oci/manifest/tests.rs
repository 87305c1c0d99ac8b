use serde_json::{Value, json};

use super::*;

const HEX: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
const LIMIT: u64 = 1 << 30;

fn descriptor(media_type: &str, size: i64, n: usize) -> Value {
    let digest = format!("sha256:{n:04x}{}", HEX.get(4..).unwrap());
    json!({"mediaType": media_type, "size": size, "digest": digest})
}

fn image() -> Value {
    json!({
        "schemaVersion": 2,
        "mediaType": DOCKER_MANIFEST,
        "config": descriptor(DOCKER_CONFIG, 100, 0),
        "layers": [descriptor(DOCKER_LAYER_GZIP, 1000, 1)],
    })
}

fn index(platforms: &[(&str, &str)]) -> Value {
    let entries: Vec<Value> = platforms
        .iter()
        .enumerate()
        .map(|(n, (os, architecture))| {
            let mut entry = descriptor(OCI_MANIFEST, 10, n);
            entry["platform"] = json!({"os": os, "architecture": architecture});
            entry
        })
        .collect();
    json!({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": entries, "annotations": {"a": "b"}})
}

/// Everything that is asked of a manifest before it is copied.
fn read(value: &Value) -> Result<Manifest, String> {
    let bytes = value.to_string();
    let media_type = media_type(bytes.as_bytes(), None)?;
    let manifest = parse(bytes.as_bytes(), &media_type)?;
    if let Manifest::Image(image) = &manifest {
        image.check(LIMIT)?;
        image.blobs()?;
    }
    Ok(manifest)
}

#[test]
fn images_and_indexes_of_both_kinds_are_read() {
    assert!(matches!(read(&image()), Ok(Manifest::Image(_))));
    assert!(matches!(
        read(&index(&[("linux", "amd64")])),
        Ok(Manifest::Index(_))
    ));
    let mut bare = image();
    bare.as_object_mut().unwrap().remove("mediaType");
    assert!(matches!(read(&bare), Ok(Manifest::Image(_))));
    let bytes = bare.to_string();
    let told = media_type(
        bytes.as_bytes(),
        Some("application/vnd.docker.distribution.manifest.v2+json; charset=x"),
    );
    assert_eq!(told.as_deref(), Ok(DOCKER_MANIFEST));
}

#[test]
fn fault_34_what_cannot_be_used_is_refused_with_its_reason() {
    let with = |change: &dyn Fn(&mut Value)| {
        let mut value = image();
        change(&mut value);
        read(&value).unwrap_err()
    };
    for (reason, error) in [
        ("schema 1", with(&|v| v["schemaVersion"] = json!(1))),
        (
            "unknown type text/html",
            with(&|v| v["mediaType"] = json!("text/html")),
        ),
        (
            "unknown type x/y",
            with(&|v| v["layers"][0]["mediaType"] = json!("x/y")),
        ),
        (
            "kept elsewhere",
            with(&|v| {
                v["layers"][0]["mediaType"] =
                    json!("application/vnd.docker.image.rootfs.foreign.diff.tar.gzip");
            }),
        ),
        (
            "no container image",
            with(&|v| {
                v["config"]["mediaType"] = json!("application/vnd.cncf.helm.config.v1+json");
            }),
        ),
    ] {
        assert!(error.contains(reason), "{reason}: {error}");
    }
}

#[test]
fn fault_35_and_attack_19_sizes_counts_and_digests_have_limits() {
    let with = |change: &dyn Fn(&mut Value)| {
        let mut value = image();
        change(&mut value);
        read(&value)
    };
    let layers = |n| {
        Value::Array(
            (0..n)
                .map(|n| descriptor(DOCKER_LAYER_GZIP, 1, n + 1))
                .collect(),
        )
    };
    assert!(with(&|v| v["layers"] = layers(LAYER_LIMIT)).is_ok());
    assert!(with(&|v| v["layers"] = layers(0)).is_ok());
    for (name, refused) in [
        ("layers", with(&|v| v["layers"] = layers(LAYER_LIMIT + 2))),
        ("many layers", with(&|v| v["layers"] = layers(10_000))),
        ("size -1", with(&|v| v["layers"][0]["size"] = json!(-1))),
        ("size 1e30", with(&|v| v["layers"][0]["size"] = json!(1e30))),
        (
            "huge layer",
            with(&|v| v["layers"][0]["size"] = json!(LIMIT + 1)),
        ),
        (
            "huge config",
            with(&|v| v["config"]["size"] = json!(1 << 30)),
        ),
        ("empty config", with(&|v| v["config"]["size"] = json!(0))),
        (
            "path digest",
            with(&|v| v["layers"][0]["digest"] = json!("sha256:../../x")),
        ),
        (
            "no digest",
            with(&|v| v["layers"][0]["digest"] = json!("x")),
        ),
        ("both", with(&|v| v["manifests"] = json!([]))),
        (
            "two sizes",
            with(&|v| {
                let mut second = v["layers"][0].clone();
                second["size"] = json!(7);
                v["layers"].as_array_mut().unwrap().push(second);
            }),
        ),
    ] {
        assert!(refused.is_err(), "{name}");
    }
    let text = image().to_string();
    let twice = text.replacen('{', r#"{"schemaVersion":2,"#, 1);
    assert!(media_type(twice.as_bytes(), None).is_err(), "duplicate key");
    let deep = format!(r#"{{"schemaVersion":2,"x":{}"#, "[".repeat(200_000));
    assert!(media_type(deep.as_bytes(), None).is_err(), "depth");
}

#[test]
fn attack_20_a_layer_with_urls_is_refused_whatever_its_type() {
    for url in [
        "http://169.254.169.254/",
        "file:///etc/passwd",
        "https://cdn.example/x",
    ] {
        let mut value = image();
        value["layers"][0]["urls"] = json!([url]);
        assert!(read(&value).unwrap_err().contains("kept elsewhere"));
    }
}

fn index_of(value: &Value) -> Index {
    let Ok(Manifest::Index(index)) = read(value) else {
        panic!("no index");
    };
    index
}

#[test]
fn an_index_is_rewritten_with_what_is_kept_and_nothing_else_is_lost() {
    let mut value = index(&[("linux", "amd64"), ("linux", "arm64"), ("windows", "amd64")]);
    value["manifests"][1]["annotations"] = json!({"c": "d"});
    value["manifests"][1]["platform"]["os.version"] = json!("1");
    let (bytes, read) = (value.to_string(), index_of(&value));
    let same = |entry: &Descriptor| (entry.digest.clone(), entry.clone());
    let rewritten =
        |kept: &[(Digest, Descriptor)]| read.rewritten(bytes.as_bytes(), OCI_INDEX, kept).unwrap();
    let all: Vec<_> = read.entries.iter().map(same).collect();
    assert_eq!(rewritten(&all), bytes.as_bytes());
    let one: Value = serde_json::from_slice(&rewritten(&[same(&read.entries[1])])).unwrap();
    assert_eq!(one["manifests"], json!([value["manifests"][1]]));
    assert_eq!(one["annotations"], value["annotations"]);
    let new = Descriptor {
        size: 7,
        digest: Digest::of(b"new"),
        ..read.entries[1].clone()
    };
    let changed = rewritten(&[(read.entries[1].digest.clone(), new)]);
    let changed: Value = serde_json::from_slice(&changed).unwrap();
    let entry = &changed["manifests"][0];
    assert_eq!(entry["digest"], Digest::of(b"new").as_str());
    assert_eq!(entry["size"], 7);
    assert_eq!(entry["annotations"]["c"], "d");
    assert_eq!(entry["platform"]["os.version"], "1");
}

#[test]
fn what_is_about_an_image_is_no_image() {
    let mut value = index(&[("linux", "amd64"); 4]);
    value["manifests"][1]["annotations"] =
        json!({"vnd.docker.reference.type": "attestation-manifest"});
    value["manifests"][2]["artifactType"] = json!("application/spdx+json");
    value["manifests"][3]["platform"] = json!({"os": "unknown", "architecture": "unknown"});
    let about: Vec<bool> = index_of(&value)
        .entries
        .iter()
        .map(Descriptor::is_attachment)
        .collect();
    assert_eq!(about, [false, true, true, true]);
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
fn types_that_the_engine_takes_are_read_and_become_usual_ones() {
    for config in [
        "application/json",
        "application/octet-stream",
        "text/html",
        "",
    ] {
        for (layer, packing) in [
            ("", Packing::Unsaid),
            ("application/gzip", Packing::Gzip),
            ("application/x-gzip", Packing::Gzip),
            ("application/x-tar", Packing::Tar),
        ] {
            let mut value = image();
            value["config"]["mediaType"] = json!(config);
            value["layers"][0]["mediaType"] = json!(layer);
            value["annotations"] = json!({"a": "b"});
            let Ok(Manifest::Image(found)) = read(&value) else {
                panic!("{config} {layer}: {:?}", read(&value));
            };
            assert_eq!(found.layers[0].packing(), Ok(packing));
            let usual = ImageManifest::usual(DOCKER_MANIFEST, &found.layers[0], Packing::Gzip);
            let bytes = value.to_string();
            let new = found.rewritten(bytes.as_bytes(), DOCKER_MANIFEST, &[usual]);
            let new: Value = serde_json::from_slice(&new.unwrap()).unwrap();
            assert_eq!(new["config"]["mediaType"], DOCKER_CONFIG);
            assert_eq!(new["layers"][0]["mediaType"], DOCKER_LAYER_GZIP);
            assert_eq!(new["layers"][0]["digest"], value["layers"][0]["digest"]);
            assert_eq!(new["annotations"], value["annotations"]);
        }
    }
    // What is usual stays as it is, byte for byte.
    let bytes = image().to_string();
    let Ok(Manifest::Image(found)) = read(&image()) else {
        panic!("no image");
    };
    let usual = ImageManifest::usual(DOCKER_MANIFEST, &found.layers[0], Packing::Gzip);
    let new = found.rewritten(bytes.as_bytes(), DOCKER_MANIFEST, &[usual]);
    assert_eq!(new.unwrap(), bytes.as_bytes());
}

#[test]
fn what_go_writes_as_null_is_empty() {
    let mut value = image();
    value["layers"] = Value::Null;
    value["config"]["urls"] = Value::Null;
    value["config"]["annotations"] = Value::Null;
    assert!(matches!(read(&value), Ok(Manifest::Image(image)) if image.layers.is_empty()));
    let mut value = image();
    value["layers"][0]["mediaType"] = Value::Null;
    assert!(read(&value).is_ok());
    value["mediaType"] = json!("");
    assert!(read(&value).is_ok());
    let mut value = index(&[("linux", "amd64")]);
    value["manifests"][0]["platform"]["variant"] = Value::Null;
    value["manifests"][0]["platform"]["os"] = Value::Null;
    assert!(index_of(&value).entries[0].said_platform().is_none());
    value["manifests"] = Value::Null;
    assert!(index_of(&value).entries.is_empty());
}

#[test]
fn what_a_registry_and_a_manifest_say_of_its_type_must_agree() {
    let told =
        |value: &Value, header: Option<&str>| media_type(value.to_string().as_bytes(), header);
    let index = index(&[("linux", "amd64")]);
    assert!(
        told(&image(), Some(OCI_INDEX))
            .unwrap_err()
            .contains("another type")
    );
    assert_eq!(
        told(&image(), Some(OCI_MANIFEST)).as_deref(),
        Ok(DOCKER_MANIFEST)
    );
    assert_eq!(
        told(&image(), Some("text/plain")).as_deref(),
        Ok(DOCKER_MANIFEST)
    );
    let untyped = |mut value: Value| {
        value.as_object_mut().unwrap().remove("mediaType");
        value
    };
    assert_eq!(told(&untyped(index), None).as_deref(), Ok(OCI_INDEX));
    assert_eq!(told(&untyped(image()), None).as_deref(), Ok(OCI_MANIFEST));
    // The type that was told counts when the document is read.
    let bytes = image().to_string();
    assert!(
        parse(bytes.as_bytes(), OCI_MANIFEST)
            .unwrap_err()
            .contains("another type")
    );
    let mut first = untyped(image());
    first["schemaVersion"] = json!(1);
    assert!(parse(first.to_string().as_bytes(), OCI_MANIFEST).is_err());
}

#[test]
fn an_index_has_at_most_a_thousand_entries() {
    let entries = |count| read(&index(&vec![("linux", "amd64"); count]));
    assert!(entries(ENTRY_LIMIT).is_ok());
    assert!(
        entries(ENTRY_LIMIT + 1)
            .unwrap_err()
            .contains("1001 entries")
    );
}

#[test]
fn one_layer_more_and_one_byte_more_than_is_served_are_refused() {
    let mut value = image();
    let layers: Vec<Value> = (0..=LAYER_LIMIT)
        .map(|n| descriptor(DOCKER_LAYER_GZIP, 1, n + 1))
        .collect();
    value["layers"] = Value::Array(layers);
    assert!(read(&value).unwrap_err().contains("has 126 layers"));
    // The configuration and every layer count.
    let with = |config: u64, first: u64, second: u64| {
        let mut value = image();
        value["config"]["size"] = json!(config);
        value["layers"][0]["size"] = json!(first);
        let mut layer = descriptor(DOCKER_LAYER_GZIP, 0, 2);
        layer["size"] = json!(second);
        value["layers"].as_array_mut().unwrap().push(layer);
        read(&value)
    };
    assert!(with(100, LIMIT / 2, LIMIT / 2 - 100).is_ok());
    assert!(with(101, LIMIT / 2, LIMIT / 2 - 100).is_err());
    assert!(with(CONFIG_LIMIT, 1, 1).is_ok());
    assert!(
        with(CONFIG_LIMIT + 1, 1, 1)
            .unwrap_err()
            .contains("its configuration")
    );
    let mut value = image();
    value["config"]["urls"] = json!(["https://cdn.example/x"]);
    assert!(read(&value).unwrap_err().contains("kept elsewhere"));
}

#[test]
fn each_mark_alone_makes_an_entry_or_a_layer_one_about_an_image() {
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
        assert!(index_of(&value).entries[0].said_platform().is_none());
    }
    for kind in ["application/spdx+json", "text/in-toto", "text/cosign"] {
        assert!(is_about(kind), "{kind}");
    }
    assert!(!is_about(OCI_LAYER_GZIP));
    // Builders say what an image is for with `artifactType`, too.
    let mut value = image();
    value["artifactType"] = json!("application/vnd.example.image");
    assert!(read(&value).is_ok());
    let mut value = image();
    value["layers"][0]["mediaType"] =
        json!("application/vnd.oci.image.layer.nondistributable.v1.tar+gzip");
    assert!(read(&value).unwrap_err().contains("kept elsewhere"));
}

#[test]
fn a_layer_has_the_type_of_its_packing_in_its_manifest_s_family() {
    for (manifest, packing, kind) in [
        (DOCKER_MANIFEST, Packing::Tar, DOCKER_LAYER_TAR),
        (DOCKER_MANIFEST, Packing::Gzip, DOCKER_LAYER_GZIP),
        (OCI_MANIFEST, Packing::Tar, OCI_LAYER_TAR),
        (OCI_MANIFEST, Packing::Gzip, OCI_LAYER_GZIP),
    ] {
        assert_eq!(layer_type(manifest, packing), kind);
        // One that is packed in another way than its type says.
        let layer = Descriptor::new(OCI_LAYER_ZSTD, 1, Digest::of(b"x"));
        assert_eq!(
            ImageManifest::usual(manifest, &layer, packing).media_type,
            kind
        );
    }
}

#[test]
fn a_manifest_is_rewritten_where_a_layer_or_the_type_of_its_configuration_changes() {
    let rewritten = |value: &Value, layers: Option<Vec<Descriptor>>| {
        let Ok(Manifest::Image(found)) = read(value) else {
            panic!("no image");
        };
        let layers = layers.unwrap_or(found.layers.clone());
        let bytes = value.to_string();
        let new = found.rewritten(bytes.as_bytes(), DOCKER_MANIFEST, &layers);
        serde_json::from_slice::<Value>(&new.unwrap()).unwrap()
    };
    let mut value = image();
    value["config"]["mediaType"] = json!("application/json");
    let new = rewritten(&value, None);
    assert_eq!(new["config"]["mediaType"], DOCKER_CONFIG);
    // What is not said of the type is said then.
    value.as_object_mut().unwrap().remove("mediaType");
    let bare = value.to_string();
    let Manifest::Image(found) = parse(bare.as_bytes(), OCI_MANIFEST).unwrap() else {
        panic!("no image");
    };
    let layers = found.layers.clone();
    let new = found
        .rewritten(bare.as_bytes(), OCI_MANIFEST, &layers)
        .unwrap();
    let new: Value = serde_json::from_slice(&new).unwrap();
    assert_eq!(new["mediaType"], OCI_MANIFEST);
    // Another blob in a layer's place.
    let blob = Descriptor::new(DOCKER_LAYER_GZIP, 77, Digest::of(b"new"));
    let new = rewritten(&image(), Some(vec![blob]));
    assert_eq!(new["layers"][0]["size"], 77);
    assert_eq!(new["layers"][0]["digest"], Digest::of(b"new").as_str());
    // The bytes of one that stays are not touched, not even their blanks.
    let bytes = serde_json::to_string_pretty(&image()).unwrap();
    let Manifest::Image(found) = parse(bytes.as_bytes(), DOCKER_MANIFEST).unwrap() else {
        panic!("no image");
    };
    let same = found.rewritten(bytes.as_bytes(), DOCKER_MANIFEST, &found.layers);
    assert_eq!(same.unwrap(), bytes.as_bytes());
}

#[test]
fn an_index_is_rewritten_when_entries_go_from_its_end_or_stand_for_others() {
    let mut value = index(&[("linux", "amd64"), ("linux", "arm64")]);
    value.as_object_mut().unwrap().remove("mediaType");
    let (bytes, read) = (value.to_string(), index_of(&value));
    let first = &read.entries[0];
    let kept = [(first.digest.clone(), first.clone())];
    let new = read.rewritten(bytes.as_bytes(), OCI_INDEX, &kept).unwrap();
    let new: Value = serde_json::from_slice(&new).unwrap();
    assert_eq!(new["manifests"].as_array().map(Vec::len), Some(1));
    assert_eq!(new["mediaType"], OCI_INDEX);
    // What the platform says here stands before what it said.
    let mut other = first.clone();
    other.platform = Some(EntryPlatform {
        os: "linux".into(),
        architecture: "riscv64".into(),
        variant: None,
    });
    let kept = [(first.digest.clone(), other)];
    let new = read.rewritten(bytes.as_bytes(), OCI_INDEX, &kept).unwrap();
    let new: Value = serde_json::from_slice(&new).unwrap();
    assert_eq!(new["manifests"][0]["platform"]["architecture"], "riscv64");
}
