//! Who we are to a registry: basic credentials or bearer tokens (distribution's token
//! specification), asked for by its challenge and sent to its own origin only.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use reqwest::Url;
use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderValue, WWW_AUTHENTICATE};
use serde::Deserialize;
use tokio::time::timeout;

use crate::body::read_all;
use crate::credentials::Login;
use crate::endpoint::{Endpoint, may_lead};
use crate::error::Error;
use crate::transport::Ask;

/// The largest token answer, in bytes.
const ANSWER_LIMIT: u64 = 64 * 1024;
/// The longest challenge that is read, in bytes.
const CHALLENGE_LIMIT: usize = 8 * 1024;
/// How long a token lives whose answer does not say it (token specification).
const DEFAULT_LIFE: u64 = 60;

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
            let token = fetch(endpoint, realm, service.as_deref(), scopes, what).await?;
            auth.state().tokens.insert(scopes.clone(), token);
            Ok(())
        }
    }
}

async fn fetch(
    endpoint: &Endpoint,
    mut realm: Url,
    service: Option<&str>,
    scopes: &Scopes,
    what: &str,
) -> Result<Token, Error> {
    #[derive(Deserialize)]
    struct Answer {
        token: Option<String>,
        access_token: Option<String>,
        expires_in: Option<u64>,
    }
    {
        let mut query = realm.query_pairs_mut();
        if let Some(service) = service {
            query.append_pair("service", service);
        }
        for scope in &scopes.0 {
            query.append_pair("scope", scope);
        }
    }
    let login = endpoint.auth.login.as_ref().and_then(Login::basic);
    let mut request = endpoint.http.get(realm);
    if let Some(header) = login {
        request = request.header(AUTHORIZATION, header);
    }
    let mut response = match timeout(endpoint.request_limit, request.send()).await {
        Err(_) => return Err(endpoint.late("the token")),
        Ok(Err(e)) if e.is_timeout() => return Err(endpoint.late("the token")),
        Ok(answer) => answer.map_err(|e| endpoint.unreachable(e))?,
    };
    let status = response.status();
    if matches!(status.as_u16(), 400 | 401 | 403) {
        return Err(Error::Denied {
            registry: endpoint.registry.clone(),
            what: what.to_owned(),
            reason: match endpoint.auth.login {
                Some(_) => "the login that is kept for it is wrong or has too few rights".into(),
                None => "it asks for a login and none is kept for it".into(),
            },
        });
    }
    if !status.is_success() {
        return Err(Error::Status {
            registry: endpoint.registry.clone(),
            status: status.as_u16(),
            what: "the request for a token".to_owned(),
            detail: String::new(),
        });
    }
    let body = read_all(endpoint, &mut response, ANSWER_LIMIT, "the token").await?;
    // The parser's error could show a part of the token.
    let answer: Answer = serde_json::from_slice(&body)
        .map_err(|_| endpoint.refuse("its token answer is not what the token protocol says"))?;
    let header = answer
        .token
        .or(answer.access_token)
        .and_then(|token| HeaderValue::from_str(&format!("Bearer {token}")).ok());
    let mut header = header.ok_or_else(|| endpoint.refuse("its token cannot be sent"))?;
    header.set_sensitive(true);
    let life = answer.expires_in.unwrap_or(DEFAULT_LIFE).clamp(1, 86_400);
    // Ask anew a little before it ends.
    let life = Duration::from_secs(life).mul_f32(0.9);
    Ok(Token {
        header,
        until: Instant::now() + life,
    })
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
}
