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

#[test]
fn an_index_keeps_the_wanted_platforms_and_drops_attestations() {
    let value = index(&[
        ("linux", "amd64"),
        ("linux", "arm64"),
        ("windows", "amd64"),
        ("unknown", "unknown"),
    ]);
    let bytes = value.to_string();
    let Ok(Manifest::Index(read)) = read(&value) else {
        panic!("no index");
    };
    let amd64: Platform = "linux/amd64".parse().unwrap();
    let kept = read.wanted(&[amd64]).unwrap();
    assert_eq!(kept.len(), 1);
    let filtered: Value =
        serde_json::from_slice(&read.filtered(bytes.as_bytes(), &kept).unwrap()).unwrap();
    assert_eq!(filtered["manifests"].as_array().unwrap().len(), 1);
    assert_eq!(filtered["manifests"][0], value["manifests"][0]);
    assert_eq!(filtered["annotations"], value["annotations"]);
    assert_eq!(read.wanted(&[]).unwrap().len(), 3);
    let all = index(&[("linux", "amd64")]);
    let Ok(Manifest::Index(whole)) = self::read(&all) else {
        panic!("no index");
    };
    let text = all.to_string();
    let kept = whole.wanted(&[]).unwrap();
    assert_eq!(
        whole.filtered(text.as_bytes(), &kept).unwrap(),
        text.as_bytes()
    );
}

#[test]
fn fault_34_an_index_without_the_platform_says_what_it_has() {
    let Ok(Manifest::Index(read)) = read(&index(&[("linux", "s390x"), ("unknown", "unknown")]))
    else {
        panic!("no index");
    };
    let wanted = [
        "linux/amd64".parse().unwrap(),
        "linux/arm64".parse().unwrap(),
    ];
    assert_eq!(
        read.wanted(&wanted).unwrap_err(),
        (
            "linux/amd64, linux/arm64".to_owned(),
            "linux/s390x".to_owned()
        )
    );
}
