use std::collections::BTreeMap;
use std::sync::Mutex;

use onedock_common::Digest;
use onedock_common::types::reference::{Reference, Tag};
use onedock_registry::{Deleted, Error, Options};
use onedock_tests::registry_server::{RegistryServer, Setup};

use crate::fake_registry::{FakeRegistry, Received, reply};
use crate::images::{TestImage, oci_layout, write};
use crate::{at, client, options};

const TYPE: &str = "application/vnd.opennebula.onedock.image.v1+json";

fn tag(name: &str) -> Tag {
    name.parse().unwrap()
}

#[tokio::test]
async fn an_image_is_tagged_listed_and_deleted_with_all_its_tags() {
    let server = RegistryServer::start(&Setup::default()).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let client = client(options());
    let path = write(
        dir.path(),
        "a.tar",
        &oci_layout(&[&TestImage::new(1).unwrap()]),
    );
    let repository = at(&server, "onedock/img-1");
    let digest = client
        .push_archive(&path, &repository, &tag("v1"), &[])
        .await
        .unwrap();
    client.tag(&repository, &digest, &tag("v2")).await.unwrap();
    assert_eq!(
        client.tags(&repository).await.unwrap(),
        [tag("v1"), tag("v2")]
    );
    let resolved = client
        .resolve(&repository.tagged(&tag("v2")))
        .await
        .unwrap();
    assert_eq!(resolved.digest, digest);
    // Fault 36: repeated, it is gone already.
    assert_eq!(
        client.delete_manifest(&repository, &digest).await.unwrap(),
        Deleted::Now
    );
    assert_eq!(
        client.delete_manifest(&repository, &digest).await.unwrap(),
        Deleted::Before
    );
    assert!(client.tags(&repository).await.unwrap().is_empty());
    let missing = client
        .tag(&repository, &Digest::of(b"x"), &tag("v3"))
        .await
        .unwrap_err();
    assert!(missing.is_not_found());
}

#[tokio::test]
async fn a_deleted_repository_frees_every_blob_at_the_registrys_next_collection() {
    let mut server = RegistryServer::start(&Setup::default()).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let client = client(options());
    let (a, b) = (
        TestImage::new(1).unwrap(),
        TestImage::new(2).unwrap().on("arm64"),
    );
    let path = write(dir.path(), "a.tar", &oci_layout(&[&a, &b]));
    let repository = at(&server, "onedock/img-1");
    client
        .push_archive(&path, &repository, &tag("v1"), &[])
        .await
        .unwrap();
    client
        .put_artifact(&repository, &tag("attributes"), TYPE, b"{}")
        .await
        .unwrap();
    assert_eq!(
        client.delete_repository(&repository).await.unwrap(),
        Deleted::Now
    );
    assert_eq!(
        client.delete_repository(&repository).await.unwrap(),
        Deleted::Before
    );
    let never = at(&server, "onedock/never");
    assert_eq!(
        client.delete_repository(&never).await.unwrap(),
        Deleted::Before
    );
    server.stop();
    server.collect_garbage().unwrap();
    assert_eq!(server.blob_bytes(), 0);
}

#[tokio::test]
async fn a_registry_that_does_not_delete_is_told_what_to_change() {
    let server = RegistryServer::start(&Setup {
        delete: false,
        ..Setup::default()
    })
    .unwrap();
    let client = client(options());
    let repository = at(&server, "onedock/img-1");
    let digest = client
        .put_artifact(&repository, &tag("a"), TYPE, b"{}")
        .await
        .unwrap();
    let error = client
        .delete_manifest(&repository, &digest)
        .await
        .unwrap_err();
    assert!(matches!(error, Error::DeleteDisabled(_)));
    assert!(
        error.to_string().contains("storage.delete.enabled"),
        "{error}"
    );
}

#[tokio::test]
async fn attributes_are_kept_beside_an_image_and_read_again() {
    let server = RegistryServer::start(&Setup::default()).unwrap();
    let client = client(options());
    let repository = at(&server, "onedock/img-1");
    let at = tag("attributes");
    assert_eq!(
        client.get_artifact(&repository, &at, TYPE).await.unwrap(),
        None
    );
    for json in [&br#"{"DOCKERRUN":"-e A=b"}"#[..], b"{}"] {
        client
            .put_artifact(&repository, &at, TYPE, json)
            .await
            .unwrap();
        let read = client.get_artifact(&repository, &at, TYPE).await.unwrap();
        assert_eq!(read.as_deref(), Some(json));
    }
    let other = client
        .get_artifact(&repository, &at, "application/x")
        .await
        .unwrap_err();
    assert!(
        other.to_string().contains("holds no application/x"),
        "{other}"
    );
}

#[tokio::test]
async fn more_tags_than_a_page_are_all_listed() {
    let server = RegistryServer::start(&Setup::default()).unwrap();
    let client = client(options());
    let repository = at(&server, "onedock/img-1");
    let digest = client
        .put_artifact(&repository, &tag("t0"), TYPE, b"{}")
        .await
        .unwrap();
    for n in 1..30 {
        client
            .tag(&repository, &digest, &tag(&format!("t{n}")))
            .await
            .unwrap();
    }
    assert_eq!(client.tags(&repository).await.unwrap().len(), 30);
}

#[tokio::test]
async fn a_tag_that_several_calls_remove_at_once_is_gone_after_the_last() {
    let server = RegistryServer::start(&Setup::default()).unwrap();
    let client = client(options());
    let repository = at(&server, "onedock/img-1");
    let digest = client
        .put_artifact(&repository, &tag("latest"), TYPE, b"{}")
        .await
        .unwrap();
    let name = tag("a");
    for round in 0..8 {
        client.tag(&repository, &digest, &name).await.unwrap();
        let calls = (0..4).map(|_| client.untag(&repository, &name));
        for removed in futures_util::future::join_all(calls).await {
            removed.unwrap();
        }
        assert_eq!(
            client.tags(&repository).await.unwrap(),
            [tag("latest")],
            "round {round}"
        );
    }
}

/// A registry that deletes as CNCF Distribution does: first the manifest, then the tags that
/// point at it. Between the two it fails with the first deletion, so that the tag stays.
async fn forgetful_registry(tags: BTreeMap<String, String>) -> FakeRegistry {
    let tags = Mutex::new(tags);
    let failed = Mutex::new(false);
    let manifests = Mutex::new(BTreeMap::<String, Vec<u8>>::new());
    FakeRegistry::start(move |request: &Received| {
        let path = request.path.split('?').next().unwrap_or_default();
        if path.ends_with("/tags/list") {
            let names: Vec<String> = tags.lock().unwrap().keys().cloned().collect();
            let json = serde_json::json!({ "tags": names }).to_string();
            return Some(reply(200, &[], json.as_bytes()));
        }
        let name = path.split_once("/manifests/")?.1.to_owned();
        let (mut tags, mut manifests) = (tags.lock().unwrap(), manifests.lock().unwrap());
        let digest = tags.get(&name).cloned().unwrap_or(name.clone());
        match request.method.as_str() {
            "PUT" => {
                let digest = Digest::of(&request.body).to_string();
                manifests.insert(digest.clone(), request.body.clone());
                if !name.starts_with("sha256:") {
                    tags.insert(name, digest.clone());
                }
                Some(reply(201, &[("docker-content-digest", &digest)], b""))
            }
            "DELETE" if manifests.remove(&digest).is_none() => Some(reply(404, &[], b"")),
            "DELETE" if !std::mem::replace(&mut failed.lock().unwrap(), true) => {
                Some(reply(500, &[], b""))
            }
            "DELETE" => {
                tags.retain(|_, points_at| *points_at != digest);
                Some(reply(202, &[], b""))
            }
            _ => Some(match manifests.get(&digest) {
                Some(bytes) => reply(200, &[], bytes),
                None => reply(404, &[], b""),
            }),
        }
    })
    .await
}

#[tokio::test]
async fn a_tag_that_a_registry_leaves_behind_a_deletion_is_removed_all_the_same() {
    let dangling = || BTreeMap::from([("a".to_owned(), Digest::of(b"gone").to_string())]);
    let reference: Reference = "evil.test/a:v1".parse().unwrap();
    let repository = reference.repository().unwrap();
    let client_of = |fake: &FakeRegistry| {
        client(Options {
            endpoints: BTreeMap::from([("evil.test".parse().unwrap(), fake.url.clone())]),
            ..options()
        })
    };
    let fake = forgetful_registry(dangling()).await;
    let client = client_of(&fake);
    let removed = client.untag(&repository, &tag("a")).await.unwrap();
    assert_eq!(removed, Deleted::Now);
    assert!(client.tags(&repository).await.unwrap().is_empty());
    let removed = client.untag(&repository, &tag("a")).await.unwrap();
    assert_eq!(removed, Deleted::Before);

    let fake = forgetful_registry(dangling()).await;
    let client = client_of(&fake);
    client
        .put_artifact(&repository, &tag("b"), TYPE, b"{}")
        .await
        .unwrap();
    let removed = client.delete_repository(&repository).await.unwrap();
    assert_eq!(removed, Deleted::Now);
    assert!(client.tags(&repository).await.unwrap().is_empty());
}
