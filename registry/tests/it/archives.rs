use std::fs;
use std::path::Path;

use onedock_common::Digest;
use onedock_registry::{Options, archive_size};
use onedock_tests::registry_server::{RegistryServer, Setup};
use serde_json::{Value, json};

use crate::images::{TestImage, noise, oci_layout, tar_of, write};
use crate::{amd64, at, client, image_config, options};

fn tag() -> onedock_common::types::reference::Tag {
    "v1".parse().unwrap()
}

#[tokio::test]
async fn every_form_of_archive_becomes_the_same_image() {
    let server = RegistryServer::start(&Setup::default()).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let image = TestImage::new(1).unwrap();
    let client = client(options());
    for (name, members) in [
        ("saved.tar", image.saved()),
        ("saved.tar.gz", image.saved()),
        ("oldest.tar", image.oldest()),
        ("oci.tar", oci_layout(&[&image])),
        ("oci.tar.gz", oci_layout(&[&image])),
    ] {
        let path = write(dir.path(), name, &members);
        let target = at(&server, &format!("onedock/{}", name.replace('.', "-")));
        let digest = client
            .push_archive(&path, &target, &tag(), &[])
            .await
            .unwrap();
        // Again: the same, and nothing breaks.
        assert_eq!(
            client
                .push_archive(&path, &target, &tag(), &[])
                .await
                .unwrap(),
            digest,
            "{name}"
        );
        let reference = target.pinned(&digest);
        let resolved = client.resolve(&reference).await.unwrap();
        assert_eq!(Digest::of(&resolved.bytes), digest);
        let tagged = client.resolve(&target.tagged(&tag())).await.unwrap();
        assert_eq!(tagged.digest, digest, "{name}");
        let size = client.unpacked_size(&reference, &amd64()).await.unwrap();
        assert_eq!((size.bytes, size.exact), (image.unpacked(), true), "{name}");
        let local = archive_size(&path, &[], &Options::default()).await.unwrap();
        assert_eq!(local, size, "{name}");
        let config = image_config(&server, &client, &reference, "linux/amd64").await;
        let config = &config.unwrap()["config"];
        assert_eq!(config["Cmd"][0], "/bin/busybox", "{name}");
        if name != "oldest.tar" {
            assert_eq!(config["StopSignal"], "SIGINT");
            assert_eq!(config["Volumes"], serde_json::json!({"/data": {}}));
            assert_eq!(config["User"], "1000");
        }
    }
}

#[tokio::test]
async fn attack_24_tags_inside_an_archive_mean_nothing() {
    let server = RegistryServer::start(&Setup::default()).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let path = write(dir.path(), "a.tar", &TestImage::new(2).unwrap().saved());
    let client = client(options());
    client
        .push_archive(&path, &at(&server, "onedock/img-1"), &tag(), &[])
        .await
        .unwrap();
    assert_eq!(
        client.tags(&at(&server, "onedock/img-1")).await.unwrap(),
        [tag()]
    );
    assert!(client.tags(&at(&server, "bench")).await.unwrap().is_empty());
}

#[tokio::test]
async fn an_archive_of_several_platforms_keeps_its_index() {
    let server = RegistryServer::start(&Setup::default()).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let (a, b) = (
        TestImage::new(3).unwrap(),
        TestImage::new(4).unwrap().on("arm64"),
    );
    let path = write(dir.path(), "multi.tar", &oci_layout(&[&a, &b]));
    let client = client(options());
    let target = at(&server, "onedock/img-2");
    let digest = client
        .push_archive(&path, &target, &tag(), &[])
        .await
        .unwrap();
    let index: Value =
        serde_json::from_slice(&client.resolve(&target.pinned(&digest)).await.unwrap().bytes)
            .unwrap();
    assert_eq!(index["manifests"].as_array().unwrap().len(), 2);
    let arm = image_config(&server, &client, &target.pinned(&digest), "linux/arm64").await;
    assert!(arm.is_some());
}

#[tokio::test]
async fn a_layer_that_stands_as_a_link_is_found() {
    let server = RegistryServer::start(&Setup::default()).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let image = TestImage::new(5).unwrap();
    let mut builder = tar::Builder::new(Vec::new());
    let (first, rest): (Vec<_>, Vec<_>) = image
        .saved()
        .into_iter()
        .partition(|(name, _)| name.ends_with("layer.tar"));
    let mut header = tar::Header::new_gnu();
    for (n, (name, content)) in first.iter().enumerate() {
        header.set_entry_type(tar::EntryType::Regular);
        header.set_mode(0o644);
        header.set_size(content.len() as u64);
        builder
            .append_data(&mut header, format!("real/{n}.tar"), content.as_slice())
            .unwrap();
        header.set_entry_type(tar::EntryType::Symlink);
        header.set_size(0);
        builder
            .append_link(&mut header, name, format!("../real/{n}.tar"))
            .unwrap();
    }
    for (name, content) in &rest {
        header.set_entry_type(tar::EntryType::Regular);
        header.set_size(content.len() as u64);
        builder
            .append_data(&mut header, name, content.as_slice())
            .unwrap();
    }
    let path = dir.path().join("links.tar");
    fs::write(&path, builder.into_inner().unwrap()).unwrap();
    let client = client(options());
    client
        .push_archive(&path, &at(&server, "onedock/img-3"), &tag(), &[])
        .await
        .unwrap();
}

#[tokio::test]
async fn fault_24_a_layer_that_is_not_what_its_image_says_is_refused_and_nothing_is_tagged() {
    let server = RegistryServer::start(&Setup::default()).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let image = TestImage::new(6).unwrap();
    let client = client(options());
    for (name, mut members) in [("a.tar", image.saved()), ("b.tar", oci_layout(&[&image]))] {
        let largest = members
            .iter_mut()
            .max_by_key(|(_, content)| content.len())
            .unwrap();
        let middle = largest.1.len() / 2;
        largest.1[middle] ^= 1;
        let path = write(dir.path(), name, &members);
        let target = at(&server, &format!("onedock/wrong-{}", &name[..1]));
        let error = client
            .push_archive(&path, &target, &tag(), &[])
            .await
            .unwrap_err()
            .to_string();
        assert_eq!(error.matches("sha256:").count(), 2, "{error}");
        assert!(client.tags(&target).await.unwrap().is_empty());
    }
}

#[tokio::test]
async fn archives_that_do_not_hold_exactly_one_image_are_refused_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let (a, b) = (TestImage::new(7).unwrap(), TestImage::new(8).unwrap());
    let mut two = a.saved();
    let json: Vec<Value> = [&a, &b]
        .iter()
        .flat_map(|i| i.saved())
        .filter(|(name, _)| name == "manifest.json")
        .flat_map(|(_, json)| serde_json::from_slice::<Vec<Value>>(&json).unwrap())
        .collect();
    two.retain(|(name, _)| name != "manifest.json");
    two.extend(
        b.saved()
            .into_iter()
            .filter(|(name, _)| name != "manifest.json"),
    );
    two.push(("manifest.json".into(), json!(json).to_string().into_bytes()));
    let mut two_old = a.oldest();
    two_old.retain(|(name, _)| name != "repositories");
    let ids = json!({"a": {"x": "1".repeat(64)}, "b": {"x": "2".repeat(64)}});
    two_old.push(("repositories".into(), ids.to_string().into_bytes()));
    let mut missing = a.saved();
    missing.retain(|(name, _)| !name.ends_with("layer.tar"));
    let mut many = a.saved();
    many.retain(|(name, _)| !name.ends_with(".json"));
    let layer = many
        .iter()
        .map(|(n, _)| n.clone())
        .find(|n| n.ends_with("layer.tar"))
        .unwrap();
    let diff = Digest::of(&a.layers[0]);
    let config = json!({"os": "linux", "rootfs": {"diff_ids": vec![&diff; 200]}});
    many.push(("c.json".into(), config.to_string().into_bytes()));
    let names = json!([{"Config": "c.json", "Layers": vec![&layer; 200]}]);
    many.push(("manifest.json".into(), names.to_string().into_bytes()));
    let file = |name: &str, content: &[u8]| {
        let path = dir.path().join(name);
        fs::write(&path, content).unwrap();
        path
    };
    for (path, reason) in [
        (write(dir.path(), "two.tar", &two), "2 images"),
        (
            write(dir.path(), "two-old.tar", &two_old),
            "exactly one image",
        ),
        (write(dir.path(), "missing.tar", &missing), "is missing"),
        (write(dir.path(), "many.tar", &many), "200 layers"),
        (
            write(dir.path(), "none.tar", &[("x".into(), vec![])]),
            "holds no image",
        ),
        (file("noise.tar", &noise(1, 5000)), "no tar archive"),
        (file("empty.tar", b""), "holds no image"),
        (
            file("cut.tar", &tar_of("x", &noise(1, 5000), 0o644)[..2000]),
            "cut off",
        ),
        (file("x.tar.xz", b"\xfd7zXZ\0abc"), "no tar archive"),
    ] {
        let error = archive_size(&path, &[], &Options::default())
            .await
            .unwrap_err()
            .to_string();
        assert!(
            error.contains(reason) && error.contains(path.to_str().unwrap()),
            "{error}"
        );
    }
    let error = archive_size(dir.path(), &[], &Options::default())
        .await
        .unwrap_err();
    assert!(
        crate::with_causes(&error).contains("not a regular file"),
        "{error}"
    );
}

#[tokio::test]
async fn attack_16_names_that_lead_out_of_an_archive_lead_nowhere() {
    let dir = tempfile::tempdir().unwrap();
    let canary = dir.path().join("canary");
    fs::write(&canary, b"{}").unwrap();
    for config in ["../canary", canary.to_str().unwrap(), "a/../canary", "link"] {
        let mut builder = tar::Builder::new(Vec::new());
        let json = json!([{"Config": config, "Layers": []}]).to_string();
        let mut header = tar::Header::new_gnu();
        header.set_mode(0o644);
        header.set_size(json.len() as u64);
        builder
            .append_data(&mut header, "manifest.json", json.as_bytes())
            .unwrap();
        header.set_entry_type(tar::EntryType::Symlink);
        header.set_size(0);
        builder
            .append_link(&mut header, "link", canary.to_str().unwrap())
            .unwrap();
        // A member whose own name leads out: written raw, as the library refuses it.
        let mut raw = tar::Header::new_gnu();
        raw.as_old_mut().name[..9].copy_from_slice(b"../canary");
        raw.set_mode(0o777);
        raw.set_size(3);
        raw.set_cksum();
        builder.append(&raw, &b"bad"[..]).unwrap();
        let path = dir.path().join("a.tar");
        fs::write(&path, builder.into_inner().unwrap()).unwrap();
        let error = archive_size(&path, &[], &Options::default())
            .await
            .unwrap_err()
            .to_string();
        assert!(error.contains("is missing in it"), "{config}: {error}");
    }
    assert_eq!(fs::read(&canary).unwrap(), b"{}");
}

#[tokio::test]
async fn attack_17_bombs_and_crowds_have_limits() {
    let dir = tempfile::tempdir().unwrap();
    let zeros = vec![0; 20 << 20];
    let path = write(dir.path(), "bomb.tar.gz", &[("x".into(), zeros)]);
    assert!(fs::metadata(&path).unwrap().len() < 100_000);
    let small = Options {
        image_limit: 1 << 20,
        ..Options::default()
    };
    let error = archive_size(&path, &[], &small)
        .await
        .unwrap_err()
        .to_string();
    assert!(error.contains("larger than is supported"), "{error}");
    let mut crowd = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_size(0);
    header.set_mode(0o644);
    for n in 0..100_002 {
        header.set_path(format!("{n}")).unwrap();
        header.set_cksum();
        crowd.append(&header, &b""[..]).unwrap();
    }
    let path = dir.path().join("crowd.tar");
    fs::write(&path, crowd.into_inner().unwrap()).unwrap();
    let error = archive_size(&path, &[], &Options::default())
        .await
        .unwrap_err()
        .to_string();
    assert!(error.contains("100000 members"), "{error}");
}

#[tokio::test]
async fn attack_17_an_archive_that_unpacks_to_more_than_its_size_is_refused() {
    let server = RegistryServer::start(&Setup::default()).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let image = TestImage::new(7).unwrap();
    let push = async |path: &Path, name: &str, unpacked_limit: u64| {
        let client = client(Options {
            unpacked_limit,
            ..options()
        });
        let target = at(&server, name);
        let pushed = client.push_archive(path, &target, &tag(), &[]).await;
        (pushed, client.tags(&target).await.unwrap().len())
    };
    for (name, members) in [("saved", image.saved()), ("layout", oci_layout(&[&image]))] {
        let path = write(dir.path(), &format!("{name}.tar"), &members);
        let (repository, limit) = (format!("onedock/{name}"), image.unpacked() - 1);
        // The second time, its first layers are there.
        for _ in 0..2 {
            let (refused, tags) = push(&path, &repository, limit).await;
            let error = refused.unwrap_err().to_string();
            let expected = format!("unpacks to more than {limit} bytes");
            assert!(error.contains(&expected), "{name}: {error}");
            assert_eq!(tags, 0, "{name}");
        }
        push(&path, &repository, limit + 1).await.0.unwrap();
        // All of them are.
        let error = push(&path, &repository, limit).await.0.unwrap_err();
        assert!(error.to_string().contains("unpacks to more"), "{name}");
        // One layer that is too large alone.
        let error = push(&path, &repository, 1 << 20).await.0.unwrap_err();
        assert!(error.to_string().contains("than 1048576 bytes"), "{error}");
    }
}

#[tokio::test]
async fn attack_6_an_error_about_a_file_that_is_no_archive_shows_nothing_of_what_is_in_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("shadow");
    let secret = "root:$6$saltsalt$hunter2hunter2:19000:0:99999:7:::\n".repeat(40);
    std::fs::write(&path, secret).unwrap();
    let error = onedock_registry::archive_size(&path, &[], &onedock_registry::Options::default())
        .await
        .unwrap_err();
    let mut text = error.to_string();
    let mut cause: &dyn std::error::Error = &error;
    while let Some(next) = cause.source() {
        text.push_str(&next.to_string());
        cause = next;
    }
    assert!(text.contains("no tar archive"), "{text}");
    assert!(
        !text.contains("root:") && !text.contains("hunter2"),
        "{text}"
    );
}
