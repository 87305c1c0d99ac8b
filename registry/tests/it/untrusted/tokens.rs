//! Logins, tokens and where they are sent.

use std::time::{Duration, Instant};

use onedock_registry::Error;
use serde_json::json;

use crate::fake_registry::{FakeRegistry, Received, reply};
use crate::images::TestImage;
use crate::{amd64, with_causes};

use super::*;

#[tokio::test]
async fn fault_26_and_attack_42_a_redirect_is_followed_and_no_login_goes_with_it() {
    let test = TestImage::new(1).unwrap();
    let store = FakeRegistry::start(|_| None).await;
    store.add_image(&test);
    let url = store.url.clone();
    let fake = FakeRegistry::start(move |request| {
        if !request.headers.contains_key("authorization") {
            return Some(reply(401, &[("www-authenticate", "Basic realm=x")], b""));
        }
        is_blob(request)
            .then(|| reply(307, &[("location", &format!("{url}{}", request.path))], b""))
    })
    .await;
    fake.add_image(&test);
    let (_dir, auth) = login();
    let client = client_of(&fake, |o| o.auth_file = Some(auth));
    let size = client
        .unpacked_size(&image("evil.test/a:v1"), &amd64())
        .await;
    assert_eq!(size.unwrap().bytes, test.unpacked());
    assert!(!store.requests().is_empty());
    assert!(
        store
            .requests()
            .iter()
            .all(|s| !s.headers.contains_key("authorization"))
    );
}

/// A registry with tokens that live for one use.
async fn token_registry() -> FakeRegistry {
    let place = std::sync::Arc::new(std::sync::OnceLock::<String>::new());
    let known = std::sync::Arc::clone(&place);
    let used = std::sync::Mutex::new(std::collections::HashSet::new());
    let given = std::sync::atomic::AtomicUsize::new(0);
    let fake = FakeRegistry::start(move |request| {
        if request.path.starts_with("/token") {
            let n = given.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
            let json = json!({"token": format!("t{n}"), "expires_in": 3600});
            return Some(reply(200, &[], json.to_string().as_bytes()));
        }
        let token = request.headers.get("authorization");
        if token.is_some_and(|t| t.starts_with("Bearer ") && used.lock().unwrap().insert(t.clone()))
        {
            // Nothing is in b.
            let missing = request.method == "HEAD" && request.path.starts_with("/v2/b/");
            return missing.then(|| reply(404, &[], b""));
        }
        let asked = format!(
            "Bearer realm=\"{}/token\",service=\"s\"",
            known.get().unwrap()
        );
        Some(reply(401, &[("www-authenticate", &asked)], b""))
    })
    .await;
    place.set(fake.url.clone()).unwrap();
    fake
}

#[tokio::test]
async fn fault_26_a_token_that_ends_in_between_is_replaced() {
    let (fake, test) = (token_registry().await, TestImage::new(1).unwrap());
    fake.add_image(&test);
    let (_dir, auth) = login();
    let client = client_of(&fake, |o| o.auth_file = Some(auth));
    let size = client
        .unpacked_size(&image("evil.test/a:v1"), &amd64())
        .await;
    assert_eq!(size.unwrap().bytes, test.unpacked());
    let tokens: Vec<Received> = fake
        .requests()
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
        fake.requests()
            .iter()
            .any(|s| s.path.starts_with("/token") && s.path.contains(both))
    );
}

#[tokio::test]
async fn attack_42_the_login_goes_to_no_realm_of_strangers_and_huge_tokens_are_refused() {
    let thief = FakeRegistry::start(|_| None).await;
    let realm = thief.url.replace("127.0.0.1", "localhost");
    let asked = format!("Bearer realm=\"{realm}/token\"");
    let fake =
        FakeRegistry::start(move |_| Some(reply(401, &[("www-authenticate", &asked)], b""))).await;
    let (_dir, auth) = login();
    let error = client_of(&fake, |o| o.auth_file = Some(auth.clone()))
        .resolve(&image("evil.test/a:v1"))
        .await
        .unwrap_err();
    assert!(
        with_causes(&error).contains("not its own host"),
        "{}",
        with_causes(&error)
    );
    assert!(!with_causes(&error).contains("hunter2"));
    assert!(thief.requests().is_empty());

    for token in [
        "x".repeat(1 << 20),
        "a\nb".to_owned(),
        "\u{e9}\u{0}".to_owned(),
    ] {
        let place = std::sync::Arc::new(std::sync::OnceLock::<String>::new());
        let known = std::sync::Arc::clone(&place);
        let shown = token.chars().take(9).collect::<String>();
        let fake = FakeRegistry::start(move |request| {
            if request.path.starts_with("/token") {
                let json = json!({"token": token}).to_string();
                return Some(reply(200, &[], json.as_bytes()));
            }
            let asked = format!("Bearer realm=\"{}/token\"", known.get().unwrap());
            Some(reply(401, &[("www-authenticate", &asked)], b""))
        })
        .await;
        place.set(fake.url.clone()).unwrap();
        let error = client_of(&fake, |_| {})
            .resolve(&image("evil.test/a:v1"))
            .await
            .unwrap_err();
        assert!(
            !with_causes(&error).contains(&shown),
            "{}",
            with_causes(&error)
        );
    }
}

const GOOD: &[u8] = br#"{"token":"","access_token":"good","expires_in":"0"}"#;

#[tokio::test]
async fn fault_26_the_request_for_a_token_is_as_patient_as_every_other() {
    let fake = with_token_service(|request| {
        if request.path.starts_with("/token/elsewhere") {
            return reply(200, &[], GOOD);
        }
        match request.before {
            0 => reply(429, &[("retry-after", "1")], b""),
            1 => reply(502, &[], b"<html>"),
            _ => reply(307, &[("location", "/token/elsewhere")], b""),
        }
    })
    .await;
    let (_dir, auth) = login();
    let start = Instant::now();
    let client = client_of(&fake, |o| o.auth_file = Some(auth));
    client.resolve(&image("evil.test/a:v1")).await.unwrap();
    assert!(start.elapsed() >= Duration::from_secs(1));
    let asked: Vec<Received> = fake
        .requests()
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
    for fake in [
        FakeRegistry::start(move |_| Some(busy())).await,
        with_token_service(move |_| busy()).await,
    ] {
        let client = client_of(&fake, |_| {});
        let error = client.resolve(&image("evil.test/a:v1")).await.unwrap_err();
        assert!(
            matches!(error, Error::Busy { .. }),
            "{}",
            with_causes(&error)
        );
        let text = error.to_string();
        assert!(
            text.contains("3600 s: You have reached your pull rate limit"),
            "{text}"
        );
    }
    let details = br#"{"details":"incorrect username or password"}"#;
    let fake = with_token_service(move |_| reply(401, &[], details)).await;
    let (_dir, auth) = login();
    let client = client_of(&fake, |o| o.auth_file = Some(auth));
    let error = client.resolve(&image("evil.test/a:v1")).await.unwrap_err();
    let text = error.to_string();
    assert!(
        text.contains("is wrong or has too few rights: incorrect username"),
        "{text}"
    );
}

#[tokio::test]
async fn attack_42_a_token_service_that_leads_to_another_site_is_not_followed() {
    let thief = FakeRegistry::start(|_| Some(reply(200, &[], GOOD))).await;
    let there = thief.url.replace("127.0.0.1", "localhost");
    let location = format!("{there}/token");
    let fake = with_token_service(move |_| reply(302, &[("location", &location)], b"")).await;
    let (_dir, auth) = login();
    for auth_file in [None, Some(auth)] {
        let client = client_of(&fake, |o| o.auth_file = auth_file);
        let error = client.resolve(&image("evil.test/a:v1")).await.unwrap_err();
        assert!(
            with_causes(&error).contains("another site"),
            "{}",
            with_causes(&error)
        );
    }
    assert!(thief.requests().is_empty());
}

#[tokio::test]
async fn each_refusal_of_a_token_service_is_told_as_what_it_is() {
    let reference = image("evil.test/a:v1");
    for status in [400, 401, 403] {
        let fake = with_token_service(move |_| reply(status, &[], b"")).await;
        let (_dir, auth) = login();
        for (auth_file, reason) in [
            (Some(auth), "is wrong or has too few rights"),
            (None, "asks for a login and none is stored"),
        ] {
            let client = client_of(&fake, |o| o.auth_file = auth_file);
            let error = client.resolve(&reference).await.unwrap_err();
            assert!(
                matches!(error, Error::Denied { .. }),
                "{}",
                with_causes(&error)
            );
            assert!(
                with_causes(&error).contains(reason),
                "{}",
                with_causes(&error)
            );
        }
    }
    let fake = with_token_service(|_| reply(404, &[], GOOD)).await;
    let error = client_of(&fake, |_| {}).resolve(&reference).await;
    let text = with_causes(&error.unwrap_err());
    assert!(
        text.contains("answered 404 to the request for a token"),
        "{text}"
    );
}

#[tokio::test]
async fn a_token_service_that_redirects_without_end_is_given_up() {
    let fake = with_token_service(|_| reply(307, &[("location", "/token/again")], b"")).await;
    let error = client_of(&fake, |_| {})
        .resolve(&image("evil.test/a:v1"))
        .await;
    let text = with_causes(&error.unwrap_err());
    assert!(text.contains("redirects more than 5 times"), "{text}");
    let asked = fake
        .requests()
        .iter()
        .filter(|s| s.path.starts_with("/token"))
        .count();
    assert_eq!(asked, 6);
}

#[tokio::test]
async fn a_login_that_is_refused_is_not_shown_again_and_again() {
    let fake =
        FakeRegistry::start(|_| Some(reply(401, &[("www-authenticate", "Basic realm=x")], b"")))
            .await;
    let (_dir, auth) = login();
    let client = client_of(&fake, |o| o.auth_file = Some(auth));
    let error = client.resolve(&image("evil.test/a:v1")).await.unwrap_err();
    assert!(
        with_causes(&error).contains("the login that is stored for it is wrong"),
        "{}",
        with_causes(&error)
    );
    assert_eq!(fake.requests().len(), 2);
}

#[tokio::test]
async fn a_token_that_is_refused_is_not_requested_again_and_again() {
    let url = std::sync::Arc::new(std::sync::OnceLock::<String>::new());
    let own = std::sync::Arc::clone(&url);
    let fake = FakeRegistry::start(move |request| {
        if request.path.starts_with("/token") {
            return Some(reply(200, &[], br#"{"token":"x"}"#));
        }
        let challenge = format!("Bearer realm=\"{}/token\"", own.get().unwrap());
        Some(reply(401, &[("www-authenticate", &challenge)], b""))
    })
    .await;
    url.set(fake.url.clone()).unwrap();
    let error = client_of(&fake, |_| {})
        .resolve(&image("evil.test/a:v1"))
        .await
        .unwrap_err();
    assert!(
        matches!(error, Error::Denied { .. }),
        "{}",
        with_causes(&error)
    );
    let requests = fake.requests();
    let tokens = requests.iter().filter(|r| r.path.starts_with("/token"));
    assert_eq!(tokens.count(), 2);
}

#[tokio::test]
async fn attack_42_a_challenge_of_another_host_is_not_answered() {
    let url = std::sync::Arc::new(std::sync::OnceLock::<String>::new());
    let own = std::sync::Arc::clone(&url);
    let store = FakeRegistry::start(move |request| {
        if request.path.starts_with("/token") {
            return Some(reply(200, &[], br#"{"token":"x"}"#));
        }
        let challenge = format!("Bearer realm=\"{}/token\"", own.get().unwrap());
        Some(reply(401, &[("www-authenticate", &challenge)], b""))
    })
    .await;
    url.set(store.url.clone()).unwrap();
    let elsewhere = store.url.clone();
    let fake = FakeRegistry::start(move |request| {
        let location = format!("{elsewhere}{}", request.path);
        Some(reply(307, &[("location", &location)], b""))
    })
    .await;
    let error = client_of(&fake, |_| {})
        .resolve(&image("evil.test/a:v1"))
        .await
        .unwrap_err();
    assert!(
        matches!(error, Error::Denied { .. }),
        "{}",
        with_causes(&error)
    );
    let requests = store.requests();
    assert!(!requests.iter().any(|r| r.path.starts_with("/token")));
}
