//! Answers that are too long, of another kind, or lead elsewhere.

use std::time::{Duration, Instant};

use onedock_common::Digest;
use serde_json::json;

use crate::fake_registry::{FakeRegistry, Reply, reply};
use crate::images::TestImage;
use crate::{amd64, client, options, with_causes};

use super::*;

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
        let fake = FakeRegistry::start(move |_| Some(answer.clone())).await;
        let start = Instant::now();
        let result = client_of(&fake, |_| {})
            .resolve(&image("evil.test/a:v1"))
            .await;
        let error = with_causes(&result.unwrap_err());
        let too_large = error.contains("is larger than");
        assert_eq!(too_large, name == "chunks", "{name}: {error}");
        assert!(start.elapsed() < Duration::from_secs(8), "{name}");
    }
    // A list of tags whose next page is always the same.
    let fake = FakeRegistry::start(|request| {
        let link = ("link", "</v2/a/tags/list?n=1&last=x>; rel=\"next\"");
        request
            .path
            .contains("tags/list")
            .then(|| reply(200, &[link], br#"{"tags":["x"]}"#))
    })
    .await;
    let repository = image("evil.test/a").repository().unwrap();
    let error = client_of(&fake, |_| {})
        .tags(&repository)
        .await
        .unwrap_err();
    assert!(error.to_string().contains("too many tags"), "{error}");
    assert!(fake.requests().len() <= 100);
}

#[tokio::test]
async fn attack_20_no_url_of_a_manifest_is_ever_asked_for() {
    let canary = FakeRegistry::start(|_| None).await;
    let (manifest, _) = TestImage::new(1).unwrap().oci();
    let mut manifest: serde_json::Value = serde_json::from_slice(&manifest).unwrap();
    manifest["layers"][0]["urls"] = json!([canary.url]);
    let fake = FakeRegistry::start(|_| None).await;
    fake.add_image(&TestImage::new(1).unwrap());
    fake.add_manifest(manifest.to_string().as_bytes());
    let (copied, tags) = copy(&fake).await;
    assert!(copied.unwrap_err().to_string().contains("stored elsewhere"));
    assert_eq!(tags, 0);
    assert!(canary.requests().is_empty());
    assert!(
        fake.requests().iter().all(|s| !is_blob(s)),
        "refused before a byte is asked for"
    );
}

#[tokio::test]
async fn a_registry_without_ranges_gives_an_estimate() {
    let test = TestImage::new(1).unwrap();
    let blobs = test.oci().1;
    let fake = FakeRegistry::start(move |request| {
        let blob = blobs
            .iter()
            .find(|b| request.path.contains(Digest::of(b).hex()))?;
        Some(reply(200, &[], blob))
    })
    .await;
    fake.add_image(&test);
    let client = client_of(&fake, |_| {});
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

#[tokio::test]
async fn a_login_page_in_place_of_an_answer_is_named() {
    const PAGE: &[u8] = b"<!DOCTYPE html><html><head><title>Sign in</title></head></html>";
    let page = || reply(200, &[("content-type", "text/html")], PAGE);
    let served = FakeRegistry::start(move |_| Some(page())).await;
    let client = client_of(&served, |_| {});
    let reference = image("evil.test/a:v1");
    let repository = reference.repository().unwrap();
    for error in [
        client.resolve(&reference).await.unwrap_err(),
        client.tags(&repository).await.unwrap_err(),
        client.delete_repository(&repository).await.unwrap_err(),
        client_of(&with_token_service(move |_| page()).await, |_| {})
            .resolve(&reference)
            .await
            .unwrap_err(),
    ] {
        let text = with_causes(&error);
        assert!(text.contains("is there a login page"), "{text}");
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
        let fake = FakeRegistry::start(move |request| {
            (is_blob(request) && request.path.contains(&config)).then(|| page.clone())
        })
        .await;
        fake.add_image(&test);
        let (copied, tags) = copy(&fake).await;
        let text = with_causes(&copied.unwrap_err());
        assert!(text.contains("web page instead of blob sha256:"), "{text}");
        assert!(text.contains("is there a login page"), "{text}");
        assert_eq!(tags, 0);
    }
    let fake = FakeRegistry::start(move |request| {
        (is_blob(request) && !request.path.contains(&config)).then(|| reply(200, &[], PAGE))
    })
    .await;
    fake.add_image(&test);
    let (copied, tags) = copy(&fake).await;
    let text = with_causes(&copied.unwrap_err());
    assert!(text.contains("is there a login page"), "{text}");
    assert_eq!(tags, 0);
}
