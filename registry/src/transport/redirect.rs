//! Where an answer may lead, by a redirect or as the realm of a token service.

use reqwest::header::LOCATION;
use reqwest::{Response, Url};

use super::endpoint::Endpoint;
use super::reach::is_inward_host;
use super::tls;
use crate::error::Error;

/// How many redirects of one request are followed.
pub(super) const REDIRECTS: usize = 5;

impl Endpoint {
    /// Where an answer to `url` leads; `None` when it is no redirect.
    pub(super) fn redirect(&self, url: &Url, response: &Response) -> Result<Option<Url>, Error> {
        if !matches!(response.status().as_u16(), 301 | 302 | 303 | 307 | 308) {
            return Ok(None);
        }
        let location = response
            .headers()
            .get(LOCATION)
            .and_then(|l| l.to_str().ok());
        let next = location
            .and_then(|l| url.join(l).ok())
            .ok_or_else(|| self.refuse("its redirect has no address"))?;
        self.check_lead("redirect", url, &next)?;
        Ok(Some(next))
    }

    /// An error where an answer of `from` must not lead to `to`.
    pub(super) fn check_lead(&self, what: &str, from: &Url, to: &Url) -> Result<(), Error> {
        may_lead(from, to).map_err(|reason| self.refuse(format!("of its {what}: {reason}")))?;
        self.check_reach(to)
    }

    pub(super) fn too_many_redirects(&self) -> Error {
        self.refuse(format!("it redirects more than {REDIRECTS} times"))
    }
}

/// Whether an answer of `from` may lead to `to`, be it by redirect or as a token's realm: not
/// from TLS to plain HTTP, and not into this machine or its link (cloud metadata), unless the
/// registry itself is there.
pub(super) fn may_lead(from: &Url, to: &Url) -> Result<(), String> {
    let host = |url: &Url| url.host_str().unwrap_or_default().to_owned();
    let (near, far) = (host(from), host(to));
    if !matches!(to.scheme(), "http" | "https") || !to.username().is_empty() {
        return Err(format!(
            "it points to {}, which is no web address",
            to.scheme()
        ));
    }
    if from.scheme() == "https" && to.scheme() == "http" {
        return Err(format!("it leads from TLS to plain HTTP at {far}"));
    }
    if near != far && !tls::is_loopback(&near) && is_inward_host(to) {
        return Err(format!(
            "it leads to {far}, an address of this machine or link"
        ));
    }
    Ok(())
}

/// Whether a host is that of the token service, or above or below it.
pub(super) fn same_site(realm: &Url, next: &Url) -> bool {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attack_41_and_42_an_answer_leads_neither_from_tls_to_plain_nor_inwards() {
        let url = |text: &str| Url::parse(text).unwrap();
        for (from, to, good) in [
            ("https://r.example", "https://cdn.example/x", true),
            ("https://r.example", "http://r.example/x", false),
            ("https://r.example", "https://169.254.169.254/x", false),
            ("https://r.example", "https://127.0.0.1:2375/x", false),
            ("https://r.example", "https://localhost/x", false),
            ("https://r.example", "https://[::ffff:127.0.0.1]/x", false),
            ("https://r.example", "https://u:p@cdn.example/x", false),
            ("https://r.example", "file:///etc/passwd", false),
            ("http://127.0.0.1:5000", "http://127.0.0.1:5001/x", true),
            ("https://10.0.0.1", "https://10.0.0.2/x", true),
            ("https://r.example", "https://api.localhost/x", false),
            ("https://r.example", "https://0.0.0.0/x", false),
            ("https://r.example", "https://[::]/x", false),
            ("https://r.example", "https://[fe80::1]/x", false),
            ("https://r.example", "https://[::ffff:169.254.1.1]/x", false),
            // A registry on this machine or link is already there.
            ("http://127.0.0.1:5000", "http://localhost:5001/x", true),
            ("https://169.254.1.1", "https://169.254.1.1:8443/x", true),
        ] {
            assert_eq!(may_lead(&url(from), &url(to)).is_ok(), good, "{from} {to}");
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
}
