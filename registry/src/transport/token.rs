//! Tokens (distribution's token specification): what they allow, where they are requested, and
//! how long they are used.

use std::time::{Duration, Instant};

use reqwest::Url;
use reqwest::header::HeaderValue;
use serde::Deserialize;

/// The lifetime of a token whose answer names none (token specification), in seconds.
const DEFAULT_LIFETIME: u64 = 60;
/// How long a token is used at most, in seconds: a day.
const LONGEST_LIFETIME: u64 = 86_400;

/// What a request needs to be allowed to do, as token scopes.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub(crate) struct Scopes(Vec<String>);

impl Scopes {
    /// `actions` in one repository, such as `pull,push`.
    pub(crate) fn of(path: &str, actions: &str) -> Self {
        Self(vec![format!("repository:{path}:{actions}")])
    }
    /// Further rights in another repository.
    pub(crate) fn and(mut self, path: &str, actions: &str) -> Self {
        self.0.push(format!("repository:{path}:{actions}"));
        self
    }
}

/// A token, until it ends.
#[derive(Debug)]
pub(super) struct Token {
    header: HeaderValue,
    until: Instant,
}

impl Token {
    /// The Authorization header; `None` when the token has ended.
    pub(super) fn header(&self) -> Option<HeaderValue> {
        (self.until > Instant::now()).then(|| self.header.clone())
    }

    /// Reads the answer of a token service. The error is the reason in words; it shows nothing of
    /// the answer, which may contain a part of the token.
    pub(super) fn parse(body: &[u8]) -> Result<Self, String> {
        #[derive(Deserialize)]
        struct Answer {
            token: Option<String>,
            access_token: Option<String>,
            #[serde(default)]
            expires_in: serde_json::Value,
        }
        let answer: Answer = serde_json::from_slice(body)
            .map_err(|_| "its token answer breaks the token protocol".to_owned())?;
        let mut tokens = [answer.token, answer.access_token].into_iter().flatten();
        let token = tokens
            .find(|token| !token.is_empty())
            .ok_or_else(|| "its token answer has no token".to_owned())?;
        let mut header = HeaderValue::from_str(&format!("Bearer {token}"))
            .map_err(|_| "its token cannot be sent".to_owned())?;
        header.set_sensitive(true);
        // A new one is requested a little before it ends.
        let lifetime = Duration::from_secs(lifetime(&answer.expires_in)).mul_f32(0.9);
        Ok(Self {
            header,
            until: Instant::now() + lifetime,
        })
    }
}

/// The lifetime of a token, in seconds. Services write a number, a fraction or a text; what is no
/// time (null, 0, less) counts as not given.
fn lifetime(expires_in: &serde_json::Value) -> u64 {
    let number = match expires_in {
        serde_json::Value::Number(number) => number.as_f64(),
        serde_json::Value::String(text) => text.trim().parse().ok(),
        _ => None,
    };
    match number {
        Some(seconds) if seconds >= LONGEST_LIFETIME as f64 => LONGEST_LIFETIME,
        Some(seconds) if seconds >= 1.0 => Duration::try_from_secs_f64(seconds)
            .map_or(DEFAULT_LIFETIME, |lifetime| lifetime.as_secs()),
        _ => DEFAULT_LIFETIME,
    }
}

/// The URL of a request to the token service at `realm`.
pub(super) fn request_url(mut realm: Url, service: Option<&str>, scopes: &Scopes) -> Url {
    {
        let mut query = realm.query_pairs_mut();
        if let Some(service) = service {
            query.append_pair("service", service);
        }
        for scope in &scopes.0 {
            query.append_pair("scope", scope);
        }
    }
    realm
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_the_first_that_is_not_empty_and_lives_as_long_as_it_says() {
        let read = |json: &str| {
            let now = Instant::now();
            let token = Token::parse(json.as_bytes())?;
            let life = (token.until - now).as_secs_f32() / 0.9;
            Ok::<_, String>((token.header.to_str().unwrap().to_owned(), life.round()))
        };
        for (json, token, life) in [
            (r#"{"token":"a","expires_in":300}"#, "Bearer a", 300.0),
            (r#"{"token":"","access_token":"b"}"#, "Bearer b", 60.0),
            (
                r#"{"token":null,"access_token":"b","expires_in":null}"#,
                "Bearer b",
                60.0,
            ),
            (
                r#"{"token":"a","access_token":"b","expires_in":"300"}"#,
                "Bearer a",
                300.0,
            ),
            (r#"{"token":"a","expires_in":299.7}"#, "Bearer a", 299.0),
            (r#"{"token":"a","expires_in":0}"#, "Bearer a", 60.0),
            (r#"{"token":"a","expires_in":-5}"#, "Bearer a", 60.0),
            (r#"{"token":"a","expires_in":"soon"}"#, "Bearer a", 60.0),
            (r#"{"token":"a","expires_in":[1]}"#, "Bearer a", 60.0),
            (r#"{"token":"a","expires_in":1e300}"#, "Bearer a", 86_400.0),
            (
                r#"{"token":"a","expires_in":18446744073709551615}"#,
                "Bearer a",
                86_400.0,
            ),
        ] {
            assert_eq!(read(json), Ok((token.to_owned(), life)), "{json}");
        }
        for (json, reason) in [
            (r#"{"token":""}"#, "has no token"),
            ("{}", "has no token"),
            (r#"{"token":7}"#, "breaks the token protocol"),
            (r#"{"token":"a\nb"}"#, "cannot be sent"),
        ] {
            assert!(read(json).unwrap_err().contains(reason), "{json}");
        }
    }

    #[test]
    fn a_token_is_not_shown_and_less_than_a_second_is_no_lifetime() {
        let token = Token::parse(br#"{"token":"a"}"#).unwrap();
        assert!(token.header.is_sensitive());
        for (value, seconds) in [
            (serde_json::json!(0.5), DEFAULT_LIFETIME),
            (serde_json::json!(1), 1),
            (serde_json::json!(" 300 "), 300),
            (serde_json::json!(LONGEST_LIFETIME), LONGEST_LIFETIME),
        ] {
            assert_eq!(lifetime(&value), seconds, "{value}");
        }
    }

    #[test]
    fn the_url_for_a_token_says_the_service_and_each_scope() {
        let scopes = Scopes::of("a/b", "pull").and("c", "pull,push");
        let realm = Url::parse("https://auth.example/token?x=y").unwrap();
        assert_eq!(
            request_url(realm, Some("registry one"), &scopes).as_str(),
            "https://auth.example/token?x=y&service=registry+one&scope=repository%3Aa%2Fb%3Apull&scope=repository%3Ac%3Apull%2Cpush"
        );
    }
}
