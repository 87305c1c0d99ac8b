use onedock_common::Digest;
use serde_json::{Value, json};

use crate::oci::manifest::{CONFIG_LIMIT, LAYER_LIMIT};

use super::*;

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
    let found = media_type(
        bytes.as_bytes(),
        Some("application/vnd.docker.distribution.manifest.v2+json; charset=x"),
    );
    assert_eq!(found.as_deref(), Ok(DOCKER_MANIFEST));
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
            "stored elsewhere",
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
        assert!(read(&value).unwrap_err().contains("stored elsewhere"));
    }
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
    assert!(index_of(&value).entries[0].known_platform().is_none());
    value["manifests"] = Value::Null;
    assert!(index_of(&value).entries.is_empty());
}

#[test]
fn the_types_that_a_registry_and_a_manifest_give_must_agree() {
    let found =
        |value: &Value, header: Option<&str>| media_type(value.to_string().as_bytes(), header);
    let index = index(&[("linux", "amd64")]);
    assert!(
        found(&image(), Some(OCI_INDEX))
            .unwrap_err()
            .contains("different types")
    );
    assert_eq!(
        found(&image(), Some(OCI_MANIFEST)).as_deref(),
        Ok(DOCKER_MANIFEST)
    );
    assert_eq!(
        found(&image(), Some("text/plain")).as_deref(),
        Ok(DOCKER_MANIFEST)
    );
    let untyped = |mut value: Value| {
        value.as_object_mut().unwrap().remove("mediaType");
        value
    };
    assert_eq!(found(&untyped(index), None).as_deref(), Ok(OCI_INDEX));
    assert_eq!(found(&untyped(image()), None).as_deref(), Ok(OCI_MANIFEST));
    // The type that was found counts when the document is read.
    let bytes = image().to_string();
    assert!(
        parse(bytes.as_bytes(), OCI_MANIFEST)
            .unwrap_err()
            .contains("different types")
    );
    let mut first = untyped(image());
    first["schemaVersion"] = json!(1);
    assert!(parse(first.to_string().as_bytes(), OCI_MANIFEST).is_err());
}

#[test]
fn one_layer_more_and_one_byte_more_than_is_supported_are_refused() {
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
    assert!(read(&value).unwrap_err().contains("stored elsewhere"));
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
    // A manifest without a type gets one then.
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
