//! Transfers that break, lie or never come.

use std::time::{Duration, Instant};

use onedock_common::Digest;
use onedock_registry::Error;
use onedock_tests::registry_server::{RegistryServer, Setup};

use crate::fake_registry::{FakeRegistry, Reply, ranged, reply};
use crate::images::{TestImage, noise, oci_layout, write};
use crate::{at, with_causes};

use super::*;

#[tokio::test]
async fn fault_22_a_registry_that_never_answers_costs_one_deadline() {
    let fake = FakeRegistry::start(|_| Some(Reply::Silence)).await;
    let start = Instant::now();
    let error = client_of(&fake, |_| {})
        .resolve(&image("evil.test/a:v1"))
        .await
        .unwrap_err();
    assert!(
        matches!(error, Error::Timeout { .. }),
        "{}",
        with_causes(&error)
    );
    assert!((3..6).contains(&start.elapsed().as_secs()));
    let total = client_of(&fake, |o| o.total_timeout = Duration::from_secs(1));
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
    let fake = FakeRegistry::start(move |request| {
        let ours = is_blob(request) && request.path.contains(Digest::of(&layer).hex());
        match request.before {
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
    fake.add_image(&test);
    let (copied, tags) = copy(&fake).await;
    copied.unwrap();
    assert_eq!(tags, 1);
    let ranges: Vec<String> = fake
        .requests()
        .iter()
        .filter_map(|s| s.headers.get("range").cloned())
        .collect();
    assert_eq!(ranges, ["bytes=1000-", "bytes=5000-"]);
}

#[tokio::test]
async fn fault_23_a_blob_that_never_comes_whole_is_given_up_and_nothing_is_tagged() {
    let test = TestImage::new(1).unwrap();
    let layer = test.oci().1[1].clone();
    let fake = FakeRegistry::start(move |request| {
        let ours = is_blob(request) && request.path.contains(Digest::of(&layer).hex());
        ours.then(|| Reply::Short(200, layer.len(), layer[..1000].to_vec()))
    })
    .await;
    fake.add_image(&test);
    let (copied, tags) = copy(&fake).await;
    assert!(copied.is_err());
    assert_eq!(tags, 0);
    assert!(fake.requests().iter().filter(|s| is_blob(s)).count() <= 7);
}

#[tokio::test]
async fn fault_24_wrong_bytes_of_the_right_size_are_told_with_both_digests_and_nothing_is_tagged() {
    let test = TestImage::new(1).unwrap();
    let layer = test.oci().1[0].clone();
    let mut wrong = layer.clone();
    wrong[5000] ^= 1;
    let (expected, found) = (Digest::of(&layer), Digest::of(&wrong));
    let name = expected.clone();
    let fake = FakeRegistry::start(move |request| {
        (is_blob(request) && request.path.contains(name.hex())).then(|| ranged(request, &wrong))
    })
    .await;
    fake.add_image(&test);
    let (copied, tags) = copy(&fake).await;
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
    let fake = FakeRegistry::start(move |request| {
        request
            .path
            .contains("/manifests/")
            .then(|| reply(200, &[], &other))
    })
    .await;
    let pinned = image(&format!("evil.test/a:v1@{}", Digest::of(&manifest)));
    let error = client_of(&fake, |_| {}).resolve(&pinned).await.unwrap_err();
    assert!(matches!(error, Error::Digest { .. }), "{error}");
}

#[tokio::test]
async fn fault_26_a_busy_registry_is_waited_for_within_the_deadline_and_no_longer() {
    let fake = FakeRegistry::start(|request| match request.before {
        0 => Some(reply(429, &[("retry-after", "1")], b"")),
        1 => Some(reply(503, &[("retry-after", "0")], b"")),
        2 => Some(reply(502, &[], b"")),
        _ => None,
    })
    .await;
    fake.add_image(&TestImage::new(1).unwrap());
    let start = Instant::now();
    client_of(&fake, |_| {})
        .resolve(&image("evil.test/a:v1"))
        .await
        .unwrap();
    assert!(start.elapsed() >= Duration::from_secs(1));
    let fake = FakeRegistry::start(|_| Some(reply(503, &[("retry-after", "3600")], b""))).await;
    let start = Instant::now();
    let error = client_of(&fake, |_| {})
        .resolve(&image("evil.test/a:v1"))
        .await
        .unwrap_err();
    assert!(matches!(error, Error::Busy { .. }) && error.to_string().contains("3600 s"));
    assert!(start.elapsed() < Duration::from_secs(60));
}

#[tokio::test]
async fn fault_26_pauses_that_would_hold_a_thread_for_hours_are_not_made() {
    let fake = FakeRegistry::start(|_| Some(reply(503, &[("retry-after", "121")], b""))).await;
    let client = client_of(&fake, |options| {
        options.total_timeout = Duration::from_secs(7200);
    });
    let error = client.resolve(&image("evil.test/a:v1")).await.unwrap_err();
    assert!(matches!(error, Error::Busy { .. }), "{error}");
    assert_eq!(fake.requests().len(), 1);
}

#[tokio::test]
async fn fault_22_slow_answers_without_a_layer_end_with_the_time_budget_of_the_call() {
    // Each request alone waits little enough.
    let pause = || reply(503, &[("retry-after", "1")], b"");
    let late = || Reply::LateAndBusy(Duration::from_secs(1));
    let own = RegistryServer::start(&Setup::default()).unwrap();
    let target = at(&own, "onedock/img-1");
    for (answer, reason) in [
        (pause(), "503"),
        (late(), "too long for requests that carry no layer"),
    ] {
        let fake = FakeRegistry::start(move |request| match request.before {
            0 => Some(answer.clone()),
            _ => None,
        })
        .await;
        fake.add_image(&TestImage::new(1).unwrap());
        let copy = async |budget: u64| {
            let client = client_of(&fake, |options| {
                options.request_budget = Duration::from_millis(budget);
            });
            let source = image("evil.test/a:v1");
            client.copy(&source, &target, &tag(), &[amd64()]).await
        };
        let error = copy(1500).await.unwrap_err().to_string();
        assert!(error.contains(reason), "{error}");
        copy(60_000).await.unwrap();
    }
}

#[tokio::test]
async fn fault_26_a_registry_that_stays_busy_is_given_up() {
    for (headers, requests) in [(&[][..], 4), (&[("retry-after", "0")], 21)] {
        let answer = reply(503, headers, b"");
        let fake = FakeRegistry::start(move |_| Some(answer.clone())).await;
        let error = client_of(&fake, |_| {})
            .resolve(&image("evil.test/a:v1"))
            .await
            .unwrap_err();
        let is_right = match headers.is_empty() {
            true => matches!(error, Error::Status { status: 503, .. }),
            false => matches!(error, Error::Busy { status: 503, .. }),
        };
        assert!(is_right, "{}", with_causes(&error));
        assert_eq!(fake.requests().len(), requests);
    }
}

#[tokio::test]
async fn fault_22_a_layer_that_comes_a_byte_now_and_then_is_given_up() {
    let fake = FakeRegistry::start(|request| {
        let head = b"HTTP/1.1 200 x\r\ncontent-length: 100000\r\n\r\n".to_vec();
        let slow = Reply::Endless(head, b"x".to_vec(), Duration::from_millis(100));
        (is_blob(request) && request.path.ends_with(&"ab".repeat(32))).then_some(slow)
    })
    .await;
    let test = TestImage::new(1).unwrap();
    fake.add_image(&test);
    let (manifest, _) = test.oci();
    let mut manifest: serde_json::Value = serde_json::from_slice(&manifest).unwrap();
    manifest["layers"][0]["size"] = serde_json::json!(100_000);
    manifest["layers"][0]["digest"] = serde_json::json!(format!("sha256:{}", "ab".repeat(32)));
    fake.add_manifest(manifest.to_string().as_bytes());
    let own = RegistryServer::start(&Setup::default()).unwrap();
    let client = client_of(&fake, |options| options.slow_limit = Duration::from_secs(1));
    let target = at(&own, "onedock/img-1");
    let copied = client
        .copy(&image("evil.test/a:v1"), &target, &tag(), &[amd64()])
        .await;
    let error = with_causes(&copied.unwrap_err());
    assert!(error.contains("less than 16 KiB a second"), "{error}");
}

#[tokio::test]
async fn fault_27_a_mount_that_is_not_taken_becomes_an_upload_with_the_same_manifest() {
    for status in [202, 401, 403, 404, 405] {
        let test = TestImage::new(1).unwrap();
        let fake = FakeRegistry::start(move |request| {
            let to_b = request.path.starts_with("/v2/b/");
            if request.path.contains("mount=") {
                let head = ("location", "/v2/b/blobs/uploads/9");
                return Some(reply(
                    status,
                    &[head, ("www-authenticate", "Basic realm=x")],
                    b"",
                ));
            }
            // Nothing is in b before it is sent there.
            (to_b && request.method == "HEAD").then(|| reply(404, &[], b""))
        })
        .await;
        fake.add_image(&test);
        let target = image("evil.test/b").repository().unwrap();
        let client = client_of(&fake, |_| {});
        let digest = client
            .copy(&image("evil.test/a:v1"), &target, &tag(), &[])
            .await
            .unwrap();
        assert_eq!(digest, Digest::of(&test.oci().0), "{status}");
        assert!(fake.manifest(digest.as_str()).is_some());
        let request = fake.requests();
        let puts = request
            .iter()
            .filter(|s| s.method == "PUT" && s.path.contains("/uploads/"));
        assert_eq!(
            puts.count(),
            3,
            "{status}: two layers and the configuration"
        );
        let ended = request
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
    let fake = FakeRegistry::start(move |request| {
        let at = blobs
            .iter()
            .position(|b| request.path.contains(Digest::of(b).hex()))?;
        (!request.path.contains(config.hex()))
            .then(|| ranged(request, &noise(at as u64 + 99, blobs[at].len())))
    })
    .await;
    fake.add_image(&victim);
    let client = client_of(&fake, |o| {
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
