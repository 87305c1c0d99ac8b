//! A registry whose answers cannot be trusted.

use std::collections::BTreeMap;
use std::path::PathBuf;

use onedock_common::Digest;
use onedock_common::types::reference::{Reference, Tag};
use onedock_registry::{Client, Error, Options};
use onedock_tests::registry_server::{RegistryServer, Setup};
use tempfile::TempDir;

use crate::fake_registry::{FakeRegistry, Received, Reply, reply};
use crate::images::TestImage;
use crate::{amd64, at, client, options};

mod answers;
mod tokens;
mod transfers;

fn tag() -> Tag {
    "v1".parse().unwrap()
}

fn image(name: &str) -> Reference {
    name.parse().unwrap()
}

/// A client for which `evil.test` is the fake registry.
fn client_of(fake: &FakeRegistry, change: impl FnOnce(&mut Options)) -> Client {
    let mut options = Options {
        endpoints: BTreeMap::from([("evil.test".parse().unwrap(), fake.url.clone())]),
        ..options()
    };
    change(&mut options);
    client(options)
}

fn login() -> (TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("auth.json");
    std::fs::write(
        &path,
        r#"{"auths":{"evil.test":{"auth":"bWU6aHVudGVyMg=="}}}"#,
    )
    .unwrap();
    (dir, path)
}

fn is_blob(request: &Received) -> bool {
    request.method == "GET" && request.path.contains("/blobs/sha256")
}

/// Copies `evil.test/a:v1` into a real registry; what came of it, and how many tags and open
/// uploads are there.
async fn copy(fake: &FakeRegistry) -> (Result<Digest, Error>, usize) {
    let own = RegistryServer::start(&Setup::default()).unwrap();
    let client = client_of(fake, |_| {});
    let target = at(&own, "onedock/img-1");
    let copied = client
        .copy(&image("evil.test/a:v1"), &target, &tag(), &[amd64()])
        .await;
    let tags = client.tags(&target).await.unwrap().len();
    let uploads = own.storage().join("repositories/onedock/img-1/_uploads");
    // Of a session that was given up CNCF Distribution leaves the state of its hash.
    let sessions = std::fs::read_dir(&uploads).into_iter().flatten().flatten();
    let with_bytes = sessions.filter(|s| s.path().join("data").exists()).count();
    assert_eq!(with_bytes, 0, "an upload was left open");
    (copied, tags)
}

/// A registry that hands out what `token` answers for `Bearer good`.
async fn with_token_service(
    token: impl Fn(&Received) -> Reply + Send + Sync + 'static,
) -> FakeRegistry {
    let place = std::sync::Arc::new(std::sync::OnceLock::<String>::new());
    let known = std::sync::Arc::clone(&place);
    let fake = FakeRegistry::start(move |request| {
        if request.path.starts_with("/token") {
            return Some(token(request));
        }
        let shown = request.headers.get("authorization");
        if shown.is_some_and(|token| token == "Bearer good") {
            return None;
        }
        let asked = format!("Bearer realm=\"{}/token\"", known.get().unwrap());
        Some(reply(401, &[("www-authenticate", &asked)], b""))
    })
    .await;
    place.set(fake.url.clone()).unwrap();
    fake.add_image(&TestImage::new(1).unwrap());
    fake
}
