//! Answers to a challenge: the login, or a token that is requested with it. The login goes to the
//! registry's own origin and to its token service only.

use reqwest::header::{AUTHORIZATION, HeaderMap};
use reqwest::{Response, Url};

use super::answer::{detail, no_page, read_all};
use super::challenge::Challenge;
use super::credentials::Login;
use super::endpoint::Endpoint;
use super::redirect::{REDIRECTS, same_site};
use super::retry::{Deadline, Retries};
use super::token::{self, Scopes, Token};
use crate::error::Error;

/// The largest answer of a token service, in bytes.
const ANSWER_LIMIT: u64 = 64 * 1024;
/// What a request for a token is called in errors.
const TOKEN: &str = "the request for a token";

/// Answers a 401 to `what`: requests a token, or remembers to send the login. An error when there
/// is nothing more to offer. `refusals` counts this one and those before it of the same request.
pub(super) async fn answer_challenge(
    endpoint: &Endpoint,
    headers: &HeaderMap,
    (what, scopes): (&str, &Scopes),
    refusals: u32,
    deadline: &Deadline,
) -> Result<(), Error> {
    let denied = |reason: &str| Error::Denied {
        registry: endpoint.registry.clone(),
        what: what.to_owned(),
        reason: reason.to_owned(),
    };
    let auth = &endpoint.auth;
    match Challenge::read(headers) {
        None => Err(denied("it asks for a login in a way that is not supported")),
        Some(Challenge::Basic) if auth.login.is_none() => {
            Err(denied("it asks for a login and none is stored for it"))
        }
        // A first refusal may be of a request that was sent before the refusal of another one
        // told that a login is needed; a second one is of the login.
        Some(Challenge::Basic) if refusals > 1 => {
            Err(denied("the login that is stored for it is wrong"))
        }
        Some(Challenge::Basic) => {
            auth.use_login();
            Ok(())
        }
        Some(Challenge::Bearer { realm, service }) => {
            let realm =
                Url::parse(&realm).map_err(|_| endpoint.refuse("its token realm is not a URL"))?;
            endpoint.check_lead("token realm", &endpoint.base, &realm)?;
            if auth.login.is_some() && !may_see_login(endpoint, &realm) {
                let host = realm.host_str().unwrap_or_default();
                return Err(denied(&format!(
                    "it sends the login to {host}, which is not its own host; allow that host for it when this is right"
                )));
            }
            let url = token::request_url(realm, service.as_deref(), scopes);
            let token = fetch(endpoint, &url, what, deadline).await?;
            auth.use_token(scopes, token);
            Ok(())
        }
    }
}

/// Whether the registry's login may go to `realm` for a token.
fn may_see_login(endpoint: &Endpoint, realm: &Url) -> bool {
    let (Some(own), Some(host)) = (endpoint.base.host_str(), realm.host_str()) else {
        return false;
    };
    let parent = host.contains('.') && own.ends_with(&format!(".{host}"));
    let hub = endpoint.registry.is_docker_hub() && host == "auth.docker.io";
    let mut named = endpoint.auth.token_hosts.iter();
    host == own || parent || hub || named.any(|h| h == host)
}

/// Requests a token, with the same retries as every other request.
async fn fetch(
    endpoint: &Endpoint,
    url: &Url,
    what: &str,
    deadline: &Deadline,
) -> Result<Token, Error> {
    let mut retries = Retries::default();
    let mut response = loop {
        let answer = request_token(endpoint, url).await;
        if let Some(response) = retries.check(endpoint, TOKEN, deadline, answer).await? {
            break response;
        }
    };
    let status = response.status();
    if matches!(status.as_u16(), 400 | 401 | 403) {
        let reason = match endpoint.auth.login {
            Some(_) => "the login that is stored for it is wrong or has too few rights",
            None => "it asks for a login and none is stored for it",
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
    Token::parse(&body).map_err(|reason| endpoint.refuse(reason))
}

/// One request for a token. Redirects are followed within the site of the token service only: the
/// target gets the login, and gives out what is then sent to the registry.
async fn request_token(endpoint: &Endpoint, realm: &Url) -> Result<Response, Error> {
    let mut url = realm.clone();
    for _ in 0..=REDIRECTS {
        let mut request = endpoint.http.get(url.clone());
        if let Some(header) = endpoint.auth.login.as_ref().and_then(Login::basic) {
            request = request.header(AUTHORIZATION, header);
        }
        let response = endpoint.send_once(request, TOKEN).await?;
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

#[cfg(test)]
mod tests {
    use super::*;

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
            let allowed = may_see_login(&endpoint, &realm);
            assert_eq!(allowed, good, "{registry} {realm}");
        }
    }
}
