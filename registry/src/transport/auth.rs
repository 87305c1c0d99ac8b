//! Who we are to a registry: basic credentials or bearer tokens (distribution's token
//! specification), asked for by its challenge and sent to its own origin only.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderValue, WWW_AUTHENTICATE};
use reqwest::{Response, Url};
use serde::Deserialize;

use crate::error::Error;
use crate::transport::answer::{detail, no_page, read_all};
use crate::transport::credentials::Login;
use crate::transport::endpoint::{Endpoint, may_lead};
use crate::transport::request::{Ask, Deadline, Patience, REDIRECTS};

/// The largest token answer, in bytes.
const ANSWER_LIMIT: u64 = 64 * 1024;
/// The longest challenge that is read, in bytes.
const CHALLENGE_LIMIT: usize = 8 * 1024;
/// How long a token lives whose answer does not say it (token specification).
const DEFAULT_LIFE: u64 = 60;
/// How long a token is used at most, in seconds: a day.
const LONGEST_LIFE: u64 = 86_400;
/// What a token is called in errors.
const TOKEN: &str = "the request for a token";

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

struct Token {
    header: HeaderValue,
    until: Instant,
}

#[derive(Default)]
struct State {
    basic: bool,
    tokens: HashMap<Scopes, Token>,
}

/// The login for one endpoint and the tokens that it was given.
pub(crate) struct Auth {
    login: Option<Login>,
    token_hosts: Vec<String>,
    state: Mutex<State>,
}

impl fmt::Debug for Auth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Auth")
            .field("login", &self.login)
            .finish_non_exhaustive()
    }
}

impl Auth {
    pub(crate) fn new(login: Option<Login>, token_hosts: Vec<String>) -> Self {
        Self {
            login,
            token_hosts,
            state: Mutex::default(),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The Authorization header for a request to the registry's own origin.
    pub(crate) fn header(&self, scopes: &Scopes) -> Option<HeaderValue> {
        let state = self.state();
        match state.tokens.get(scopes) {
            Some(token) if token.until > Instant::now() => Some(token.header.clone()),
            _ if state.basic => self.login.as_ref().and_then(Login::basic),
            _ => None,
        }
    }

    /// Whether the registry's credentials may go to `realm` for a token.
    fn may_see_login(&self, endpoint: &Endpoint, realm: &Url) -> bool {
        let (Some(own), Some(host)) = (endpoint.base.host_str(), realm.host_str()) else {
            return false;
        };
        let parent = host.contains('.') && own.ends_with(&format!(".{host}"));
        let hub = endpoint.registry.is_docker_hub() && host == "auth.docker.io";
        host == own || parent || hub || self.token_hosts.iter().any(|h| h == host)
    }
}

/// A challenge of the registry.
#[derive(Debug, PartialEq, Eq)]
enum Challenge {
    Basic,
    Bearer {
        realm: String,
        service: Option<String>,
    },
}

/// Answers a 401: gets a token or remembers to send the login. An error when there is nothing
/// more to offer. `refusals` counts this one and those before it of the same request.
pub(crate) async fn answer_challenge(
    endpoint: &Endpoint,
    headers: &HeaderMap,
    ask: &Ask,
    refusals: u32,
    deadline: Deadline,
) -> Result<(), Error> {
    let Ask { what, scopes, .. } = ask;
    let denied = |reason: String| Error::Denied {
        registry: endpoint.registry.clone(),
        what: what.clone(),
        reason,
    };
    let auth = &endpoint.auth;
    match read_challenge(headers) {
        None => Err(denied(
            "it asks for a login in a way that is not known here".into(),
        )),
        Some(Challenge::Basic) if auth.login.is_none() => {
            Err(denied("it asks for a login and none is kept for it".into()))
        }
        Some(Challenge::Basic) => {
            // A first refusal may be of a request that went out before another one's refusal told
            // that a login is wanted; a second one is of the login.
            if refusals > 1 {
                return Err(denied("the login that is kept for it is wrong".into()));
            }
            auth.state().basic = true;
            Ok(())
        }
        Some(Challenge::Bearer { realm, service }) => {
            let realm =
                Url::parse(&realm).map_err(|_| endpoint.refuse("its token realm is not a URL"))?;
            may_lead(&endpoint.base, &realm)
                .map_err(|reason| endpoint.refuse(format!("of its token realm: {reason}")))?;
            if auth.login.is_some() && !auth.may_see_login(endpoint, &realm) {
                let host = realm.host_str().unwrap_or_default();
                return Err(denied(format!(
                    "it sends the login to {host}, which is not its own host; allow that host for it when this is right"
                )));
            }
            let url = token_url(realm, service.as_deref(), scopes);
            let token = fetch(endpoint, &url, what, deadline).await?;
            auth.state().tokens.insert(scopes.clone(), token);
            Ok(())
        }
    }
}

fn token_url(mut realm: Url, service: Option<&str>, scopes: &Scopes) -> Url {
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

/// Asks for a token, with the same patience as every other request has.
async fn fetch(
    endpoint: &Endpoint,
    url: &Url,
    what: &str,
    deadline: Deadline,
) -> Result<Token, Error> {
    let mut patience = Patience::default();
    let mut response = loop {
        let answer = ask_for_token(endpoint, url).await;
        if let Some(response) = patience.judge(endpoint, TOKEN, deadline, answer).await? {
            break response;
        }
    };
    let status = response.status();
    if matches!(status.as_u16(), 400 | 401 | 403) {
        let reason = match endpoint.auth.login {
            Some(_) => "the login that is kept for it is wrong or has too few rights",
            None => "it asks for a login and none is kept for it",
        };
        return Err(Error::Denied {
            registry: endpoint.registry.clone(),
            what: what.to_owned(),
            reason: format!("{reason}{}", detail(endpoint, response).await),
        });
    }
    if !status.is_success() {
        return Err(Error::Status {
            registry: endpoint.registry.clone(),
            status: status.as_u16(),
            what: TOKEN.to_owned(),
            detail: detail(endpoint, response).await,
        });
    }
    let body = read_all(endpoint, &mut response, ANSWER_LIMIT, "the token").await?;
    no_page(endpoint, &body, "the token")?;
    read_token(&body).map_err(|reason| endpoint.refuse(reason))
}

/// One request for a token. Redirects are followed within the site of the token service alone:
/// whoever is led to is handed the login, and hands out what we then show to the registry.
async fn ask_for_token(endpoint: &Endpoint, realm: &Url) -> Result<Response, Error> {
    let mut url = realm.clone();
    for _ in 0..=REDIRECTS {
        let mut request = endpoint.http.get(url.clone());
        if let Some(header) = endpoint.auth.login.as_ref().and_then(Login::basic) {
            request = request.header(AUTHORIZATION, header);
        }
        let response = endpoint.in_time(request, TOKEN).await?;
        let Some(next) = endpoint.redirect(&url, &response)? else {
            return Ok(response);
        };
        if !same_site(realm, &next) {
            let host = next.host_str().unwrap_or_default();
            return Err(endpoint.refuse(format!(
                "its token service redirects to {host}, which is another site"
            )));
        }
        url = next;
    }
    Err(endpoint.too_many_redirects())
}

/// Whether a host is that of the token service, or above or below it.
fn same_site(realm: &Url, next: &Url) -> bool {
    let (Some(a), Some(b)) = (realm.host_str(), next.host_str()) else {
        return false;
    };
    let below = |low: &str, high: &str| {
        high.contains('.')
            && low
                .strip_suffix(high)
                .is_some_and(|rest| rest.ends_with('.'))
    };
    a == b || below(a, b) || below(b, a)
}

/// Reads the answer of a token service. The error is the reason in words; it shows nothing of
/// the answer, which may have a part of the token.
fn read_token(body: &[u8]) -> Result<Token, String> {
    #[derive(Deserialize)]
    struct Answer {
        token: Option<String>,
        access_token: Option<String>,
        #[serde(default)]
        expires_in: serde_json::Value,
    }
    let answer: Answer = serde_json::from_slice(body)
        .map_err(|_| "its token answer is not what the token protocol says".to_owned())?;
    let mut tokens = [answer.token, answer.access_token].into_iter().flatten();
    let token = tokens
        .find(|token| !token.is_empty())
        .ok_or_else(|| "its token answer holds no token".to_owned())?;
    let mut header = HeaderValue::from_str(&format!("Bearer {token}"))
        .map_err(|_| "its token cannot be sent".to_owned())?;
    header.set_sensitive(true);
    // Ask anew a little before it ends.
    let life = Duration::from_secs(life(&answer.expires_in)).mul_f32(0.9);
    Ok(Token {
        header,
        until: Instant::now() + life,
    })
}

/// How long a token lives, in seconds. Services write a number, a fraction or a text; what is no
/// time (null, 0, less) counts as not said.
fn life(said: &serde_json::Value) -> u64 {
    let number = match said {
        serde_json::Value::Number(number) => number.as_f64(),
        serde_json::Value::String(text) => text.trim().parse().ok(),
        _ => None,
    };
    match number {
        Some(seconds) if seconds >= LONGEST_LIFE as f64 => LONGEST_LIFE,
        Some(seconds) if seconds >= 1.0 => {
            Duration::try_from_secs_f64(seconds).map_or(DEFAULT_LIFE, |life| life.as_secs())
        }
        _ => DEFAULT_LIFE,
    }
}

/// The challenge that we can answer best: a token before the login itself.
fn read_challenge(headers: &HeaderMap) -> Option<Challenge> {
    let mut basic = None;
    for value in headers.get_all(WWW_AUTHENTICATE) {
        let Some(text) = value.to_str().ok().filter(|t| t.len() <= CHALLENGE_LIMIT) else {
            continue;
        };
        let (scheme, rest) = text.trim().split_once(' ').unwrap_or((text.trim(), ""));
        if scheme.eq_ignore_ascii_case("bearer") {
            let mut parameters = read_parameters(rest);
            if let Some(realm) = parameters.remove("realm") {
                let service = parameters.remove("service");
                return Some(Challenge::Bearer { realm, service });
            }
        } else if scheme.eq_ignore_ascii_case("basic") {
            basic = Some(Challenge::Basic);
        }
    }
    basic
}

/// `name="value", name=value` (RFC 9110, 11.2).
fn read_parameters(text: &str) -> HashMap<String, String> {
    let mut found = HashMap::new();
    let mut rest = text.trim_start();
    while let Some((name, after)) = rest.split_once('=') {
        let (value, left) = match after.strip_prefix('"') {
            Some(quoted) => read_quoted(quoted),
            None => match after.split_once(',') {
                Some((value, left)) => (value.trim().to_owned(), left),
                None => (after.trim().to_owned(), ""),
            },
        };
        found
            .entry(name.trim().to_ascii_lowercase())
            .or_insert(value);
        rest = left.trim_start_matches([',', ' ', '\t']);
    }
    found
}

fn read_quoted(text: &str) -> (String, &str) {
    let mut value = String::new();
    let mut escaped = false;
    for (at, c) in text.char_indices() {
        match c {
            _ if escaped => {
                value.push(c);
                escaped = false;
            }
            '\\' => escaped = true,
            '"' => return (value, text.get(at + 1..).unwrap_or("")),
            _ => value.push(c),
        }
    }
    (value, "")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn challenge(values: &[&'static str]) -> Option<Challenge> {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(WWW_AUTHENTICATE, HeaderValue::from_static(value));
        }
        read_challenge(&headers)
    }

    #[test]
    fn a_bearer_challenge_is_read_with_commas_and_quotes_in_its_values() {
        assert_eq!(
            challenge(&[
                "Basic realm=\"x\"",
                "Bearer realm=\"https://auth.example/token\",service=\"a, \\\"b\\\"\",scope=\"repository:x:pull,push\""
            ]),
            Some(Challenge::Bearer {
                realm: "https://auth.example/token".into(),
                service: Some("a, \"b\"".into())
            })
        );
        assert_eq!(challenge(&["basic realm=x"]), Some(Challenge::Basic));
        assert_eq!(challenge(&["Bearer service=x"]), None);
        assert_eq!(
            challenge(&["Negotiate", "Bearer realm=\"unended"]),
            Some(Challenge::Bearer {
                realm: "unended".into(),
                service: None
            })
        );
        assert_eq!(challenge(&[]), None);
    }

    #[test]
    fn a_token_is_the_first_that_is_not_empty_and_lives_as_long_as_it_says() {
        let read = |json: &str| {
            let now = Instant::now();
            let token = read_token(json.as_bytes())?;
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
            (r#"{"token":""}"#, "holds no token"),
            ("{}", "holds no token"),
            (r#"{"token":7}"#, "not what the token protocol says"),
            (r#"{"token":"a\nb"}"#, "cannot be sent"),
        ] {
            assert!(read(json).unwrap_err().contains(reason), "{json}");
        }
    }

    #[test]
    fn attack_42_a_token_service_leads_to_its_own_site_only() {
        let url = |host: &str| Url::parse(&format!("https://{host}/token")).unwrap();
        for (next, good) in [
            ("auth.example.com", true),
            ("auth.example.com:8443", true),
            ("eu.auth.example.com", true),
            ("example.com", true),
            ("xauth.example.com", false),
            ("other.example.com", false),
            ("com", false),
            ("example.org", false),
        ] {
            assert_eq!(
                same_site(&url("auth.example.com"), &url(next)),
                good,
                "{next}"
            );
        }
    }

    #[test]
    fn the_parts_of_a_challenge_are_read_whatever_their_case_and_blanks() {
        let bearer = |realm: &str, service: Option<&str>| {
            Some(Challenge::Bearer {
                realm: realm.to_owned(),
                service: service.map(str::to_owned),
            })
        };
        for text in [
            "bearer realm=\"https://a\", service=\"s\"",
            "BEARER Realm=\"https://a\",\tSERVICE=\"s\"",
            "Bearer realm= https://a , service=s",
            // The first of two counts.
            "Bearer realm=\"https://a\",service=\"s\",realm=\"https://b\"",
        ] {
            assert_eq!(challenge(&[text]), bearer("https://a", Some("s")), "{text}");
        }
        let long = format!("Bearer realm=\"{}\"", "a".repeat(CHALLENGE_LIMIT));
        let mut headers = HeaderMap::new();
        headers.append(WWW_AUTHENTICATE, long.parse().unwrap());
        assert_eq!(read_challenge(&headers), None);
    }

    #[test]
    fn a_token_is_not_shown_and_less_than_a_second_is_no_life() {
        let token = read_token(br#"{"token":"a"}"#).unwrap();
        assert!(token.header.is_sensitive());
        for (said, seconds) in [
            (serde_json::json!(0.5), DEFAULT_LIFE),
            (serde_json::json!(1), 1),
            (serde_json::json!(" 300 "), 300),
            (serde_json::json!(LONGEST_LIFE), LONGEST_LIFE),
        ] {
            assert_eq!(life(&said), seconds, "{said}");
        }
    }

    #[test]
    fn the_url_for_a_token_says_the_service_and_each_scope() {
        let scopes = Scopes::of("a/b", "pull").and("c", "pull,push");
        let realm = Url::parse("https://auth.example/token?x=y").unwrap();
        assert_eq!(
            token_url(realm, Some("registry one"), &scopes).as_str(),
            "https://auth.example/token?x=y&service=registry+one&scope=repository%3Aa%2Fb%3Apull&scope=repository%3Ac%3Apull%2Cpush"
        );
    }

    #[test]
    fn attack_42_the_login_goes_to_the_registry_its_parents_and_named_hosts_only() {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let endpoint = |registry: &str| {
            let registry = registry.parse().unwrap();
            let hosts = vec!["sso.example".to_owned()];
            let options = crate::options::Options {
                certs_dir: "/nonexistent".into(),
                token_hosts: std::collections::BTreeMap::from([(
                    "r.example.com".parse().unwrap(),
                    hosts,
                )]),
                ..crate::options::Options::default()
            };
            let credentials = crate::transport::credentials::Credentials::default();
            let opened = Endpoint::open(&options, &credentials, &registry);
            runtime.block_on(opened).unwrap()
        };
        for (registry, realm, good) in [
            ("r.example.com", "r.example.com", true),
            ("r.example.com", "example.com", true),
            ("r.example.com", "sso.example", true),
            ("other.example.com", "sso.example", false),
            ("r.example.com", "com", false),
            ("r.example.com", "ple.com", false),
            ("r.example.com", "auth.r.example.com", false),
            ("r.example.com", "auth.docker.io", false),
            ("docker.io", "auth.docker.io", true),
        ] {
            let endpoint = endpoint(registry);
            let realm = Url::parse(&format!("https://{realm}/token")).unwrap();
            let seen = endpoint.auth.may_see_login(&endpoint, &realm);
            assert_eq!(seen, good, "{registry} {realm}");
        }
    }
}
