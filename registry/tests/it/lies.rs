use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use onedock_common::Digest;
use onedock_common::types::reference::{Reference, Tag};
use onedock_registry::{Client, Error, Options};
use onedock_tests::registry_server::{RegistryServer, Setup};
use serde_json::json;
use tempfile::TempDir;

use crate::images::{TestImage, noise, oci_layout, write};
use crate::lying::{Lying, Reply, Seen, ranged, reply};
use crate::{amd64, at, client, options, told};

fn tag() -> Tag {
    "v1".parse().unwrap()
}

fn image(name: &str) -> Reference {
    name.parse().unwrap()
}

/// A client for which `evil.test` is the lying registry.
fn knowing(evil: &Lying, change: impl FnOnce(&mut Options)) -> Client {
    let mut options = Options {
        endpoints: BTreeMap::from([("evil.test".parse().unwrap(), evil.url.clone())]),
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

fn is_blob(seen: &Seen) -> bool {
    seen.method == "GET" && seen.path.contains("/blobs/sha256")
}

/// Copies `evil.test/a:v1` into a real registry; what came of it, and how many tags and open
/// uploads are there.
async fn copy(evil: &Lying) -> (Result<Digest, Error>, usize) {
    let own = RegistryServer::start(&Setup::default()).unwrap();
    let client = knowing(evil, |_| {});
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

#[tokio::test]
async fn fault_22_a_registry_that_never_answers_costs_one_deadline() {
    let evil = Lying::start(|_| Some(Reply::Silence)).await;
    let start = Instant::now();
    let error = knowing(&evil, |_| {})
        .resolve(&image("evil.test/a:v1"))
        .await
        .unwrap_err();
    assert!(matches!(error, Error::Timeout { .. }), "{}", told(&error));
    assert!((3..6).contains(&start.elapsed().as_secs()));
    let total = knowing(&evil, |o| o.total_timeout = Duration::from_secs(1));
    let error = total
        .resolve(&image("evil.test/a:v1"))
        .await
        .unwrap_err()
        .to_string();
    assert!(error.contains("within 1 s"), "{error}");
}

#[tokio::test]
async fn fault_23_a_blob_that_breaks_off_is_taken_up_where_it_broke() {
    let test = TestImage::new(1).unwrap();
    let blobs = test.oci().1;
    let layer = blobs[1].clone();
    let evil = Lying::start(move |seen| {
        let ours = is_blob(seen) && seen.path.contains(Digest::of(&layer).hex());
        match seen.before {
            0 if ours => Some(Reply::Short(200, layer.len(), layer[..1000].to_vec())),
            1 if ours => Some(Reply::Full(
                206,
                vec![
                    (
                        "content-range".into(),
                        format!("bytes 1000-{}/{}", layer.len() - 1, layer.len()),
                    ),
                    ("content-length".into(), (layer.len() - 1000).to_string()),
                ],
                layer[1000..5000].to_vec(),
            )),
            // The third time it has forgotten about ranges.
            2 if ours => Some(reply(200, &[], &layer)),
            _ => None,
        }
    })
    .await;
    evil.hold(&test);
    let (copied, tags) = copy(&evil).await;
    copied.unwrap();
    assert_eq!(tags, 1);
    let ranges: Vec<String> = evil
        .seen()
        .iter()
        .filter_map(|s| s.headers.get("range").cloned())
        .collect();
    assert_eq!(ranges, ["bytes=1000-", "bytes=5000-"]);
}

#[tokio::test]
async fn fault_23_a_blob_that_never_comes_whole_is_given_up_and_nothing_is_tagged() {
    let test = TestImage::new(1).unwrap();
    let layer = test.oci().1[1].clone();
    let evil = Lying::start(move |seen| {
        let ours = is_blob(seen) && seen.path.contains(Digest::of(&layer).hex());
        ours.then(|| Reply::Short(200, layer.len(), layer[..1000].to_vec()))
    })
    .await;
    evil.hold(&test);
    let (copied, tags) = copy(&evil).await;
    assert!(copied.is_err());
    assert_eq!(tags, 0);
    assert!(evil.seen().iter().filter(|s| is_blob(s)).count() <= 7);
}

#[tokio::test]
async fn fault_24_wrong_bytes_of_the_right_size_are_told_with_both_digests_and_nothing_is_tagged() {
    let test = TestImage::new(1).unwrap();
    let layer = test.oci().1[0].clone();
    let mut wrong = layer.clone();
    wrong[5000] ^= 1;
    let (expected, found) = (Digest::of(&layer), Digest::of(&wrong));
    let name = expected.clone();
    let evil = Lying::start(move |seen| {
        (is_blob(seen) && seen.path.contains(name.hex())).then(|| ranged(seen, &wrong))
    })
    .await;
    evil.hold(&test);
    let (copied, tags) = copy(&evil).await;
    let error = copied.unwrap_err().to_string();
    assert!(
        error.contains(expected.as_str()) && error.contains(found.as_str()),
        "{error}"
    );
    assert_eq!(tags, 0);
}

#[tokio::test]
async fn fault_24_and_25_a_manifest_must_be_what_its_digest_says() {
    let test = TestImage::new(1).unwrap();
    let (manifest, _) = test.oci();
    let other = TestImage::new(2).unwrap().oci().0;
    let evil = Lying::start(move |seen| {
        seen.path
            .contains("/manifests/")
            .then(|| reply(200, &[], &other))
    })
    .await;
    let pinned = image("evil.test/a:v1").with_digest(&Digest::of(&manifest));
    let error = knowing(&evil, |_| {}).resolve(&pinned).await.unwrap_err();
    assert!(matches!(error, Error::Digest { .. }), "{error}");
}

#[tokio::test]
async fn fault_26_a_busy_registry_is_waited_for_within_the_deadline_and_no_longer() {
    let evil = Lying::start(|seen| match seen.before {
        0 => Some(reply(429, &[("retry-after", "1")], b"")),
        1 => Some(reply(503, &[("retry-after", "0")], b"")),
        2 => Some(reply(502, &[], b"")),
        _ => None,
    })
    .await;
    evil.hold(&TestImage::new(1).unwrap());
    let start = Instant::now();
    knowing(&evil, |_| {})
        .resolve(&image("evil.test/a:v1"))
        .await
        .unwrap();
    assert!(start.elapsed() >= Duration::from_secs(1));
    let evil = Lying::start(|_| Some(reply(503, &[("retry-after", "3600")], b""))).await;
    let start = Instant::now();
    let error = knowing(&evil, |_| {})
        .resolve(&image("evil.test/a:v1"))
        .await
        .unwrap_err();
    assert!(matches!(error, Error::Busy { .. }) && error.to_string().contains("3600 s"));
    assert!(start.elapsed() < Duration::from_secs(60));
}

#[tokio::test]
async fn fault_26_and_attack_42_a_redirect_is_followed_and_no_login_goes_with_it() {
    let test = TestImage::new(1).unwrap();
    let store = Lying::start(|_| None).await;
    store.hold(&test);
    let url = store.url.clone();
    let evil = Lying::start(move |seen| {
        if !seen.headers.contains_key("authorization") {
            return Some(reply(401, &[("www-authenticate", "Basic realm=x")], b""));
        }
        is_blob(seen).then(|| reply(307, &[("location", &format!("{url}{}", seen.path))], b""))
    })
    .await;
    evil.hold(&test);
    let (_dir, auth) = login();
    let client = knowing(&evil, |o| o.auth_file = Some(auth));
    let config = client
        .image_config(&image("evil.test/a:v1"), &amd64())
        .await
        .unwrap();
    assert_eq!(config.user, "1000");
    assert!(!store.seen().is_empty());
    assert!(
        store
            .seen()
            .iter()
            .all(|s| !s.headers.contains_key("authorization"))
    );
}

/// A registry with tokens that live for one use.
async fn token_registry() -> Lying {
    let place = std::sync::Arc::new(std::sync::OnceLock::<String>::new());
    let known = std::sync::Arc::clone(&place);
    let used = std::sync::Mutex::new(std::collections::HashSet::new());
    let given = std::sync::atomic::AtomicUsize::new(0);
    let evil = Lying::start(move |seen| {
        if seen.path.starts_with("/token") {
            let n = given.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
            let json = json!({"token": format!("t{n}"), "expires_in": 3600});
            return Some(reply(200, &[], json.to_string().as_bytes()));
        }
        let token = seen.headers.get("authorization");
        if token.is_some_and(|t| t.starts_with("Bearer ") && used.lock().unwrap().insert(t.clone()))
        {
            // Nothing is in b.
            let missing = seen.method == "HEAD" && seen.path.starts_with("/v2/b/");
            return missing.then(|| reply(404, &[], b""));
        }
        let asked = format!(
            "Bearer realm=\"{}/token\",service=\"s\"",
            known.get().unwrap()
        );
        Some(reply(401, &[("www-authenticate", &asked)], b""))
    })
    .await;
    place.set(evil.url.clone()).unwrap();
    evil
}

#[tokio::test]
async fn fault_26_a_token_that_ends_in_between_is_replaced() {
    let evil = token_registry().await;
    evil.hold(&TestImage::new(1).unwrap());
    let (_dir, auth) = login();
    let client = knowing(&evil, |o| o.auth_file = Some(auth));
    let config = client
        .image_config(&image("evil.test/a:v1"), &amd64())
        .await
        .unwrap();
    assert_eq!(config.user, "1000");
    let tokens: Vec<Seen> = evil
        .seen()
        .into_iter()
        .filter(|s| s.path.starts_with("/token"))
        .collect();
    assert!(tokens.len() >= 2);
    for token in &tokens {
        assert!(
            token.path.contains("service=s&scope=repository%3Aa%3Apull"),
            "{}",
            token.path
        );
        assert_eq!(
            token.headers.get("authorization").unwrap(),
            "Basic bWU6aHVudGVyMg=="
        );
    }
    // A mount asks for both repositories at once.
    let target = image("evil.test/b").repository().unwrap();
    let _ = client
        .copy(&image("evil.test/a:v1"), &target, &tag(), &[])
        .await;
    let both = "scope=repository%3Ab%3Apull%2Cpush&scope=repository%3Aa%3Apull";
    assert!(
        evil.seen()
            .iter()
            .any(|s| s.path.starts_with("/token") && s.path.contains(both))
    );
}

#[tokio::test]
async fn fault_27_a_mount_that_is_not_taken_becomes_an_upload_with_the_same_manifest() {
    for status in [202, 401, 403, 404, 405] {
        let test = TestImage::new(1).unwrap();
        let evil = Lying::start(move |seen| {
            let to_b = seen.path.starts_with("/v2/b/");
            if seen.path.contains("mount=") {
                let head = ("location", "/v2/b/blobs/uploads/9");
                return Some(reply(
                    status,
                    &[head, ("www-authenticate", "Basic realm=x")],
                    b"",
                ));
            }
            // Nothing is in b before it is sent there.
            (to_b && seen.method == "HEAD").then(|| reply(404, &[], b""))
        })
        .await;
        evil.hold(&test);
        let target = image("evil.test/b").repository().unwrap();
        let client = knowing(&evil, |_| {});
        let digest = client
            .copy(&image("evil.test/a:v1"), &target, &tag(), &[])
            .await
            .unwrap();
        assert_eq!(digest, Digest::of(&test.oci().0), "{status}");
        assert!(evil.manifest(digest.as_str()).is_some());
        let seen = evil.seen();
        let puts = seen
            .iter()
            .filter(|s| s.method == "PUT" && s.path.contains("/uploads/"));
        assert_eq!(
            puts.count(),
            3,
            "{status}: two layers and the configuration"
        );
        let ended = seen
            .iter()
            .any(|s| s.method == "DELETE" && s.path.ends_with("uploads/9"));
        assert_eq!(
            ended,
            status == 202,
            "the session that 202 opened is given up"
        );
    }
}

#[tokio::test]
async fn attack_22_naming_a_strangers_layer_does_not_get_it_mounted() {
    let own = RegistryServer::start(&Setup::default()).unwrap();
    let victim = TestImage::new(7).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let path = write(dir.path(), "v.tar", &oci_layout(&[&victim]));
    // The thief knows the digests and sizes, and has other bytes.
    let blobs = victim.oci().1;
    let config = Digest::of(&blobs[2]);
    let evil = Lying::start(move |seen| {
        let at = blobs
            .iter()
            .position(|b| seen.path.contains(Digest::of(b).hex()))?;
        (!seen.path.contains(config.hex()))
            .then(|| ranged(seen, &noise(at as u64 + 99, blobs[at].len())))
    })
    .await;
    evil.hold(&victim);
    let client = knowing(&evil, |o| {
        o.shared_layers = Some("onedock/layers".parse().unwrap())
    });
    client
        .push_archive(&path, &at(&own, "onedock/img-1"), &tag(), &[])
        .await
        .unwrap();
    let target = at(&own, "onedock/img-2");
    let stolen = client
        .copy(&image("evil.test/a:v1"), &target, &tag(), &[])
        .await;
    assert!(matches!(stolen, Err(Error::Digest { .. })), "{stolen:?}");
    assert!(client.tags(&target).await.unwrap().is_empty());
    let layers = own
        .storage()
        .join("repositories/onedock/img-2/_layers/sha256");
    let there = std::fs::read_dir(layers).map(|d| d.count()).unwrap_or(0);
    assert!(there <= 1, "only the configuration, which the thief had");
}

#[tokio::test]
async fn attack_42_the_login_goes_to_no_realm_of_strangers_and_huge_tokens_are_refused() {
    let thief = Lying::start(|_| None).await;
    let realm = thief.url.replace("127.0.0.1", "localhost");
    let asked = format!("Bearer realm=\"{realm}/token\"");
    let evil = Lying::start(move |_| Some(reply(401, &[("www-authenticate", &asked)], b""))).await;
    let (_dir, auth) = login();
    let error = knowing(&evil, |o| o.auth_file = Some(auth.clone()))
        .resolve(&image("evil.test/a:v1"))
        .await
        .unwrap_err();
    assert!(
        told(&error).contains("not its own host"),
        "{}",
        told(&error)
    );
    assert!(!told(&error).contains("hunter2"));
    assert!(thief.seen().is_empty());

    for token in [
        "x".repeat(1 << 20),
        "a\nb".to_owned(),
        "\u{e9}\u{0}".to_owned(),
    ] {
        let place = std::sync::Arc::new(std::sync::OnceLock::<String>::new());
        let known = std::sync::Arc::clone(&place);
        let shown = token.chars().take(9).collect::<String>();
        let evil = Lying::start(move |seen| {
            if seen.path.starts_with("/token") {
                let json = json!({"token": token}).to_string();
                return Some(reply(200, &[], json.as_bytes()));
            }
            let asked = format!("Bearer realm=\"{}/token\"", known.get().unwrap());
            Some(reply(401, &[("www-authenticate", &asked)], b""))
        })
        .await;
        place.set(evil.url.clone()).unwrap();
        let error = knowing(&evil, |_| {})
            .resolve(&image("evil.test/a:v1"))
            .await
            .unwrap_err();
        assert!(!told(&error).contains(&shown), "{}", told(&error));
    }
}

#[tokio::test]
async fn attack_43_answers_without_end_have_limits() {
    let head = b"HTTP/1.1 200 x\r\ncontent-type: application/vnd.oci.image.manifest.v1+json\r\n";
    let chunked = [&head[..], b"transfer-encoding: chunked\r\n\r\n"].concat();
    let piece = [b"8000\r\n".to_vec(), vec![b' '; 0x8000], b"\r\n".to_vec()].concat();
    let loris = [&head[..], b"content-length: 1000\r\n\r\n"].concat();
    let slow = Duration::from_millis(300);
    for (name, answer) in [
        (
            "headers",
            Reply::Endless(head.to_vec(), b"x-a: b\r\n".to_vec(), Duration::ZERO),
        ),
        ("chunks", Reply::Endless(chunked, piece, Duration::ZERO)),
        ("loris", Reply::Endless(loris, b" ".to_vec(), slow)),
        (
            "slow head",
            Reply::Endless(b"HTTP/1.1 200 x\r\n".to_vec(), b"x".to_vec(), slow),
        ),
        (
            "redirects",
            reply(302, &[("location", "/v2/a/manifests/v1")], b""),
        ),
        (
            "inward",
            reply(302, &[("location", "file:///etc/passwd")], b""),
        ),
        ("not json", reply(200, &[], b"<html>")),
    ] {
        let evil = Lying::start(move |_| Some(answer.clone())).await;
        let start = Instant::now();
        let result = knowing(&evil, |_| {})
            .resolve(&image("evil.test/a:v1"))
            .await;
        assert!(result.is_err(), "{name}");
        assert!(start.elapsed() < Duration::from_secs(8), "{name}");
    }
    // A list of tags whose next page is always the same.
    let evil = Lying::start(|seen| {
        let link = ("link", "</v2/a/tags/list?n=1&last=x>; rel=\"next\"");
        seen.path
            .contains("tags/list")
            .then(|| reply(200, &[link], br#"{"tags":["x"]}"#))
    })
    .await;
    let repository = image("evil.test/a").repository().unwrap();
    let error = knowing(&evil, |_| {}).tags(&repository).await.unwrap_err();
    assert!(error.to_string().contains("too many tags"), "{error}");
    assert!(evil.seen().len() <= 100);
}

#[tokio::test]
async fn attack_20_no_url_of_a_manifest_is_ever_asked_for() {
    let canary = Lying::start(|_| None).await;
    let (manifest, _) = TestImage::new(1).unwrap().oci();
    let mut manifest: serde_json::Value = serde_json::from_slice(&manifest).unwrap();
    manifest["layers"][0]["urls"] = json!([canary.url]);
    let evil = Lying::start(|_| None).await;
    evil.hold(&TestImage::new(1).unwrap());
    evil.hold_manifest(manifest.to_string().as_bytes());
    let (copied, tags) = copy(&evil).await;
    assert!(copied.unwrap_err().to_string().contains("kept elsewhere"));
    assert_eq!(tags, 0);
    assert!(canary.seen().is_empty());
    assert!(
        evil.seen().iter().all(|s| !is_blob(s)),
        "refused before a byte is asked for"
    );
}

#[tokio::test]
async fn a_registry_without_ranges_gives_an_estimate() {
    let test = TestImage::new(1).unwrap();
    let blobs = test.oci().1;
    let evil = Lying::start(move |seen| {
        let blob = blobs
            .iter()
            .find(|b| seen.path.contains(Digest::of(b).hex()))?;
        Some(reply(200, &[], blob))
    })
    .await;
    evil.hold(&test);
    let client = knowing(&evil, |_| {});
    let size = client
        .unpacked_size(&image("evil.test/a:v1"), &amd64())
        .await
        .unwrap();
    assert!(!size.exact && size.bytes > test.unpacked() / 2);
}

#[test]
fn every_call_can_run_on_any_thread() {
    fn check<T: Send>(_: T) {}
    let client = client(options());
    let (reference, tag) = (image("evil.test/a:v1"), tag());
    let repository = reference.repository().unwrap();
    check(client.copy(&reference, &repository, &tag, &[]));
    check(client.push_archive("x".as_ref(), &repository, &tag, &[]));
    check(client.delete_repository(&repository));
}

/// A registry that hands out what `token` answers for `Bearer good`.
async fn with_token_service(token: impl Fn(&Seen) -> Reply + Send + Sync + 'static) -> Lying {
    let place = std::sync::Arc::new(std::sync::OnceLock::<String>::new());
    let known = std::sync::Arc::clone(&place);
    let evil = Lying::start(move |seen| {
        if seen.path.starts_with("/token") {
            return Some(token(seen));
        }
        let shown = seen.headers.get("authorization");
        if shown.is_some_and(|token| token == "Bearer good") {
            return None;
        }
        let asked = format!("Bearer realm=\"{}/token\"", known.get().unwrap());
        Some(reply(401, &[("www-authenticate", &asked)], b""))
    })
    .await;
    place.set(evil.url.clone()).unwrap();
    evil.hold(&TestImage::new(1).unwrap());
    evil
}

const GOOD: &[u8] = br#"{"token":"","access_token":"good","expires_in":"0"}"#;

#[tokio::test]
async fn fault_26_the_request_for_a_token_is_as_patient_as_every_other() {
    let evil = with_token_service(|seen| {
        if seen.path.starts_with("/token/elsewhere") {
            return reply(200, &[], GOOD);
        }
        match seen.before {
            0 => reply(429, &[("retry-after", "1")], b""),
            1 => reply(502, &[], b"<html>"),
            _ => reply(307, &[("location", "/token/elsewhere")], b""),
        }
    })
    .await;
    let (_dir, auth) = login();
    let start = Instant::now();
    let client = knowing(&evil, |o| o.auth_file = Some(auth));
    client.resolve(&image("evil.test/a:v1")).await.unwrap();
    assert!(start.elapsed() >= Duration::from_secs(1));
    let asked: Vec<Seen> = evil
        .seen()
        .into_iter()
        .filter(|s| s.path.starts_with("/token"))
        .collect();
    assert_eq!(asked.len(), 4);
    assert!(
        asked
            .iter()
            .all(|s| s.headers.contains_key("authorization"))
    );
}

#[tokio::test]
async fn fault_26_what_a_registry_says_of_its_limits_is_passed_on() {
    let body = br#"{"errors":[{"code":"TOOMANYREQUESTS","message":"You have reached your pull rate limit"}]}"#;
    let busy = || reply(429, &[("retry-after", "3600")], body);
    for evil in [
        Lying::start(move |_| Some(busy())).await,
        with_token_service(move |_| busy()).await,
    ] {
        let client = knowing(&evil, |_| {});
        let error = client.resolve(&image("evil.test/a:v1")).await.unwrap_err();
        assert!(matches!(error, Error::Busy { .. }), "{}", told(&error));
        let text = error.to_string();
        assert!(
            text.contains("3600 s: You have reached your pull rate limit"),
            "{text}"
        );
    }
    let details = br#"{"details":"incorrect username or password"}"#;
    let evil = with_token_service(move |_| reply(401, &[], details)).await;
    let (_dir, auth) = login();
    let client = knowing(&evil, |o| o.auth_file = Some(auth));
    let error = client.resolve(&image("evil.test/a:v1")).await.unwrap_err();
    let text = error.to_string();
    assert!(
        text.contains("is wrong or has too few rights: incorrect username"),
        "{text}"
    );
}

#[tokio::test]
async fn attack_42_a_token_service_that_leads_to_another_site_is_not_followed() {
    let thief = Lying::start(|_| Some(reply(200, &[], GOOD))).await;
    let there = thief.url.replace("127.0.0.1", "localhost");
    let location = format!("{there}/token");
    let evil = with_token_service(move |_| reply(302, &[("location", &location)], b"")).await;
    let (_dir, auth) = login();
    for auth_file in [None, Some(auth)] {
        let client = knowing(&evil, |o| o.auth_file = auth_file);
        let error = client.resolve(&image("evil.test/a:v1")).await.unwrap_err();
        assert!(told(&error).contains("another site"), "{}", told(&error));
    }
    assert!(thief.seen().is_empty());
}

#[tokio::test]
async fn a_login_page_in_place_of_an_answer_is_named() {
    const PAGE: &[u8] = b"<!DOCTYPE html><html><head><title>Sign in</title></head></html>";
    let page = || reply(200, &[("content-type", "text/html")], PAGE);
    let served = Lying::start(move |_| Some(page())).await;
    let client = knowing(&served, |_| {});
    let reference = image("evil.test/a:v1");
    let repository = reference.repository().unwrap();
    for error in [
        client.resolve(&reference).await.unwrap_err(),
        client.tags(&repository).await.unwrap_err(),
        client.ping(repository.registry()).await.unwrap_err(),
        knowing(&with_token_service(move |_| page()).await, |_| {})
            .resolve(&reference)
            .await
            .unwrap_err(),
    ] {
        let text = told(&error);
        assert!(text.contains("a web page; does a login page"), "{text}");
    }
}

#[tokio::test]
async fn a_login_page_in_place_of_a_configuration_or_a_layer_is_named() {
    const PAGE: &[u8] = b"<!DOCTYPE html><html><head><title>Sign in</title></head></html>";
    let test = TestImage::new(1).unwrap();
    let config = Digest::of(&test.config()).hex().to_owned();
    // With a length, without one, and as long as the blob.
    let mut long = PAGE.to_vec();
    long.resize(test.config().len(), b' ');
    let chunked = format!(
        "HTTP/1.1 200 x\r\ntransfer-encoding: chunked\r\nconnection: close\r\n\r\n{:x}\r\n{}\r\n0\r\n\r\n",
        PAGE.len(),
        String::from_utf8_lossy(PAGE)
    );
    let endless = Reply::Endless(chunked.into_bytes(), Vec::new(), Duration::from_millis(50));
    for page in [reply(200, &[], PAGE), endless, reply(200, &[], &long)] {
        let config = config.clone();
        let evil = Lying::start(move |seen| {
            (is_blob(seen) && seen.path.contains(&config)).then(|| page.clone())
        })
        .await;
        evil.hold(&test);
        let client = knowing(&evil, |_| {});
        let reference = image("evil.test/a:v1");
        let error = client.image_config(&reference, &amd64()).await.unwrap_err();
        let text = told(&error);
        assert!(text.contains("in place of blob sha256:"), "{text}");
        assert!(text.contains("a web page; does a login page"), "{text}");
    }
    let evil = Lying::start(move |seen| {
        (is_blob(seen) && !seen.path.contains(&config)).then(|| reply(200, &[], PAGE))
    })
    .await;
    evil.hold(&test);
    let (copied, tags) = copy(&evil).await;
    let text = told(&copied.unwrap_err());
    assert!(text.contains("a web page; does a login page"), "{text}");
    assert_eq!(tags, 0);
}

#[tokio::test]
async fn each_refusal_of_a_token_service_is_told_as_what_it_is() {
    let reference = image("evil.test/a:v1");
    for status in [400, 401, 403] {
        let evil = with_token_service(move |_| reply(status, &[], b"")).await;
        let (_dir, auth) = login();
        for (auth_file, reason) in [
            (Some(auth), "is wrong or has too few rights"),
            (None, "asks for a login and none is kept"),
        ] {
            let client = knowing(&evil, |o| o.auth_file = auth_file);
            let error = client.resolve(&reference).await.unwrap_err();
            assert!(matches!(error, Error::Denied { .. }), "{}", told(&error));
            assert!(told(&error).contains(reason), "{}", told(&error));
        }
    }
    let evil = with_token_service(|_| reply(404, &[], GOOD)).await;
    let error = knowing(&evil, |_| {}).resolve(&reference).await;
    let text = told(&error.unwrap_err());
    assert!(
        text.contains("answered 404 to the request for a token"),
        "{text}"
    );
}

#[tokio::test]
async fn a_token_service_that_redirects_without_end_is_given_up() {
    let evil = with_token_service(|_| reply(307, &[("location", "/token/again")], b"")).await;
    let error = knowing(&evil, |_| {})
        .resolve(&image("evil.test/a:v1"))
        .await;
    let text = told(&error.unwrap_err());
    assert!(text.contains("redirects more than 5 times"), "{text}");
    let asked = evil
        .seen()
        .iter()
        .filter(|s| s.path.starts_with("/token"))
        .count();
    assert_eq!(asked, 6);
}

#[tokio::test]
async fn a_login_that_is_refused_is_not_shown_again_and_again() {
    let evil =
        Lying::start(|_| Some(reply(401, &[("www-authenticate", "Basic realm=x")], b""))).await;
    let (_dir, auth) = login();
    let client = knowing(&evil, |o| o.auth_file = Some(auth));
    let error = client.resolve(&image("evil.test/a:v1")).await.unwrap_err();
    assert!(
        told(&error).contains("the login that is kept for it is wrong"),
        "{}",
        told(&error)
    );
    assert_eq!(evil.seen().len(), 2);
}
