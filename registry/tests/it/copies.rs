use std::collections::BTreeMap;
use std::time::Instant;

use onedock_common::types::reference::{Reference, RegistryName, Repository, Tag};
use onedock_registry::{Client, Error, Options};
use onedock_tests::registry_server::{RegistryServer, Setup};
use serde_json::Value;

use crate::images::{TestImage, oci_layout, write};
use crate::{amd64, at, client, image_config, options, with_causes};

fn tag() -> Tag {
    "v1".parse().unwrap()
}

/// Puts an image into a registry and returns its name.
async fn put(client: &Client, target: &Repository, images: &[&TestImage]) -> Reference {
    let dir = tempfile::tempdir().unwrap();
    let path = write(dir.path(), "a.tar", &oci_layout(images));
    client
        .push_archive(&path, target, &tag(), &[])
        .await
        .unwrap();
    target.tagged(&tag())
}

#[tokio::test]
async fn an_image_is_copied_with_its_digest_and_again_without_a_byte() {
    let (hub, own) = (
        RegistryServer::start(&Setup::default()).unwrap(),
        RegistryServer::start(&Setup::default()).unwrap(),
    );
    let client = client(options());
    let source = put(
        &client,
        &at(&hub, "library/a"),
        &[&TestImage::new(1).unwrap()],
    )
    .await;
    let target = at(&own, "onedock/img-1");
    let digest = client
        .copy(&source, &target, &tag(), &[amd64()])
        .await
        .unwrap();
    assert_eq!(client.resolve(&source).await.unwrap().digest, digest);
    assert_eq!(
        client.resolve(&target.tagged(&tag())).await.unwrap().digest,
        digest
    );
    assert_eq!(own.blob_bytes(), hub.blob_bytes());
    // Fault 37: repeated under the same name, one result.
    assert_eq!(
        client.copy(&source, &target, &tag(), &[]).await.unwrap(),
        digest
    );
    let pinned = format!("{source}@{digest}").parse().unwrap();
    assert_eq!(
        client.copy(&pinned, &target, &tag(), &[]).await.unwrap(),
        digest
    );
}

#[tokio::test]
async fn an_index_is_copied_with_the_wanted_platforms_only() {
    let (hub, own) = (
        RegistryServer::start(&Setup::default()).unwrap(),
        RegistryServer::start(&Setup::default()).unwrap(),
    );
    let client = client(options());
    let (a, b) = (
        TestImage::new(1).unwrap(),
        TestImage::new(2).unwrap().on("arm64"),
    );
    let source = put(&client, &at(&hub, "library/multi"), &[&a, &b]).await;
    let target = at(&own, "onedock/img-1");
    let digest = client
        .copy(&source, &target, &tag(), &[amd64()])
        .await
        .unwrap();
    let resolved = client.resolve(&target.pinned(&digest)).await.unwrap();
    assert_eq!(
        resolved.media_type,
        "application/vnd.oci.image.index.v1+json"
    );
    let index: Value = serde_json::from_slice(&resolved.bytes).unwrap();
    assert_eq!(index["manifests"].as_array().unwrap().len(), 1);
    let arm = "linux/arm64".parse().unwrap();
    let of = async |digest, platform| {
        image_config(&own, &client, &target.pinned(digest), platform).await
    };
    assert!(of(&digest, "linux/amd64").await.is_some());
    assert!(of(&digest, "linux/arm64").await.is_none());
    assert!(
        client
            .unpacked_size(&target.pinned(&digest), &arm)
            .await
            .is_err()
    );
    let both = client
        .copy(&source, &target, &tag(), &[amd64(), arm.clone()])
        .await
        .unwrap();
    assert!(of(&both, "linux/arm64").await.is_some());
}

#[tokio::test]
async fn fault_34_an_image_of_another_architecture_is_refused_and_nothing_is_tagged() {
    let server = RegistryServer::start(&Setup::default()).unwrap();
    let client = client(options());
    let arm = TestImage::new(1).unwrap().on("arm64");
    let one = put(&client, &at(&server, "a/one"), &[&arm]).await;
    let other = TestImage::new(2).unwrap().on("s390x");
    let multi = put(&client, &at(&server, "a/multi"), &[&arm, &other]).await;
    let target = at(&server, "onedock/img-1");
    for source in [one, multi] {
        let error = client
            .copy(&source, &target, &tag(), &[amd64()])
            .await
            .unwrap_err();
        assert!(matches!(error, Error::Platform { .. }));
        let text = error.to_string();
        assert!(
            text.contains("linux/amd64") && text.contains("linux/arm64"),
            "{text}"
        );
        assert!(client.tags(&target).await.unwrap().is_empty());
    }
    let missing = client
        .copy(&at(&server, "no/such").tagged(&tag()), &target, &tag(), &[])
        .await;
    let missing = missing.unwrap_err();
    assert!(missing.is_not_found(), "{missing}");
}

#[tokio::test]
async fn within_one_registry_layers_are_mounted_and_a_shared_repository_serves_all_others() {
    let (hub, own) = (
        RegistryServer::start(&Setup::default()).unwrap(),
        RegistryServer::start(&Setup::default()).unwrap(),
    );
    let client = client(Options {
        shared_layers: Some("onedock/layers".parse().unwrap()),
        ..options()
    });
    let image = TestImage::new(1).unwrap();
    let source = put(&client, &at(&hub, "library/a"), &[&image]).await;
    client
        .copy(&source, &at(&own, "onedock/img-1"), &tag(), &[])
        .await
        .unwrap();
    let before = own.blob_bytes();
    // The same base under another top: only the top's bytes and the documents come anew.
    let mut derived = TestImage::new(2).unwrap();
    derived.layers.truncate(1);
    let source = put(&client, &at(&hub, "library/b"), &[&derived]).await;
    client
        .copy(&source, &at(&own, "onedock/img-2"), &tag(), &[])
        .await
        .unwrap();
    let more = own.blob_bytes() - before;
    assert!(more < 2000, "{more}");
    let uploads = own.storage().join("repositories/onedock/img-2/_uploads");
    let left = std::fs::read_dir(uploads).map(|d| d.count()).unwrap_or(0);
    assert_eq!(left, 0, "an upload session was left open");
    // A clone within the registry.
    let clone = at(&own, "onedock/img-3");
    let source = at(&own, "onedock/img-1").tagged(&tag());
    client.copy(&source, &clone, &tag(), &[]).await.unwrap();
    assert!(own.blob_bytes() - before < 4000);
    assert!(
        client
            .tags(&at(&own, "onedock/layers"))
            .await
            .unwrap()
            .is_empty()
    );
}

#[tokio::test]
async fn a_registry_with_tls_and_a_login_is_served_with_its_ca_and_refused_without() {
    let server = RegistryServer::start(&Setup::closed()).unwrap();
    let image = TestImage::new(1).unwrap();
    let good = client(Options {
        certs_dir: server.certs_dir(),
        auth_file: Some(server.auth_file().unwrap()),
        ..options()
    });
    let source = put(&good, &at(&server, "a/b"), &[&image]).await;
    let target = at(&server, "onedock/img-1");
    good.copy(&source, &target, &tag(), &[amd64()])
        .await
        .unwrap();

    let start = Instant::now();
    let no_ca = client(options()).resolve(&source).await.unwrap_err();
    assert!(
        matches!(no_ca, Error::Certificate { .. }),
        "attack 41: {}",
        with_causes(&no_ca)
    );
    let anonymous = client(Options {
        certs_dir: server.certs_dir(),
        ..options()
    });
    let denied = anonymous.resolve(&source).await.unwrap_err();
    assert!(
        matches!(denied, Error::Denied { .. }),
        "{}",
        with_causes(&denied)
    );
    let dir = tempfile::tempdir().unwrap();
    let wrong = dir.path().join("auth.json");
    std::fs::write(
        &wrong,
        format!(r#"{{"auths":{{"{}":{{"auth":"YTpi"}}}}}}"#, server.name()),
    )
    .unwrap();
    let wrong = client(Options {
        certs_dir: server.certs_dir(),
        auth_file: Some(wrong),
        ..options()
    });
    let denied = wrong.resolve(&source).await.unwrap_err().to_string();
    assert!(
        denied.contains("is wrong") && !denied.contains("YTpi"),
        "{denied}"
    );
    assert!(
        start.elapsed().as_secs() < 10,
        "none of these is worth a retry"
    );
    let insecure = client(Options {
        insecure: vec![server.name()],
        auth_file: Some(server.auth_file().unwrap()),
        ..options()
    });
    insecure.resolve(&source).await.unwrap();
}

#[tokio::test]
async fn another_registry_can_stand_in_docker_hubs_place() {
    let mirror = RegistryServer::start(&Setup::default()).unwrap();
    let client = client(Options {
        endpoints: BTreeMap::from([(
            RegistryName::docker_hub(),
            format!("http://{}", mirror.address()),
        )]),
        ..options()
    });
    put(
        &client,
        &at(&mirror, "library/busybox"),
        &[&TestImage::new(1).unwrap()],
    )
    .await;
    for name in [
        "busybox:v1",
        "docker.io/busybox:v1",
        "docker.io/library/busybox:v1",
    ] {
        let reference: Reference = name.parse().unwrap();
        assert!(client.resolve(&reference).await.is_ok(), "{name}");
    }
}

#[tokio::test]
async fn fault_21_a_registry_that_is_down_is_named_soon_and_taken_up_again_when_it_is_back() {
    let mut server = RegistryServer::start(&Setup::default()).unwrap();
    let patient = client(options());
    let source = put(
        &patient,
        &at(&server, "a/b"),
        &[&TestImage::new(1).unwrap()],
    )
    .await;
    server.stop();
    let start = Instant::now();
    let error = client(options()).resolve(&source).await.unwrap_err();
    assert!(
        error.is_transient() && error.to_string().contains(server.name().as_str()),
        "{error}"
    );
    assert!(start.elapsed().as_secs() < 5);
    // Fault 28: a restart in between goes unnoticed.
    let (answer, back) = tokio::join!(patient.resolve(&source), async {
        tokio::time::sleep(std::time::Duration::from_millis(300)).await;
        server.resume()
    });
    back.unwrap();
    answer.unwrap();
}
