//! Where a registry answers: its base URL, the trust in its certificate, one pool of connections,
//! and the login.

use std::error::Error as StdError;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use onedock_common::types::reference::RegistryName;
use reqwest::{Method, RequestBuilder, Response, Url, redirect};
use tokio::time::timeout;

use super::auth::Auth;
use super::credentials::Credentials;
use super::host_names::HostNames;
use super::tls::{self, Trust};
use crate::error::Error;
use crate::options::Options;

/// One registry, as this client reaches it.
#[derive(Debug)]
pub(crate) struct Endpoint {
    pub(crate) registry: RegistryName,
    pub(super) base: Url,
    pub(super) http: reqwest::Client,
    pub(super) auth: Auth,
    pub(crate) idle: Duration,
    pub(crate) request_limit: Duration,
    certs: PathBuf,
}

impl Endpoint {
    /// Finds out whether the registry speaks TLS. Plain HTTP is tried only where it is allowed,
    /// only when TLS fails for another reason than the certificate, and never where the
    /// administrator has stored a CA for this registry.
    pub(crate) async fn open(
        options: &Options,
        credentials: &Credentials,
        registry: &RegistryName,
    ) -> Result<Self, Error> {
        let insecure = options.insecure.contains(registry);
        let own = tls::own_authorities(&options.certs_dir, registry)?;
        let has_own = !own.is_empty();
        let trust = if insecure {
            Trust::Anything
        } else {
            Trust::Checked
        };
        let (base, given) = match options.endpoints.get(registry) {
            Some(text) => (text.clone(), true),
            None => (format!("https://{}", registry.endpoint_host()), false),
        };
        let base = base_url(&base).ok_or_else(|| Error::Answer {
            registry: registry.clone(),
            reason: format!("\"{base}\" is not a base URL (https://host[:port])"),
        })?;
        let host = base.host_str().unwrap_or_default().to_owned();
        let prepare = |source: Box<dyn StdError + Send + Sync>| Error::Prepare {
            registry: registry.clone(),
            source,
        };
        let names = HostNames::from_system().map_err(|e| prepare(Box::new(e)))?;
        let mut builder = reqwest::Client::builder()
            .dns_resolver(names)
            .user_agent(concat!("onedock/", env!("CARGO_PKG_VERSION")))
            .redirect(redirect::Policy::none())
            .retry(reqwest::retry::never())
            .connect_timeout(options.connect_timeout)
            .pool_idle_timeout(Duration::from_secs(15))
            .http1_only();
        if tls::is_loopback(&host) {
            builder = builder.no_proxy();
        }
        let http = builder
            .tls_backend_preconfigured(
                tls::configuration(trust, own).map_err(|e| prepare(Box::new(e)))?,
            )
            .build()
            .map_err(|e| prepare(Box::new(e)))?;
        let authority = match base.port() {
            Some(port) => format!("{host}:{port}"),
            None => host.clone(),
        };
        let login = credentials.of(registry, &authority).cloned();
        let token_hosts = options.token_hosts.get(registry).cloned();
        let mut endpoint = Self {
            registry: registry.clone(),
            base,
            http,
            auth: Auth::new(login, token_hosts.unwrap_or_default()),
            idle: options.idle_timeout,
            request_limit: options.request_timeout,
            certs: options.certs_dir.join(registry.as_str()),
        };
        if !given && !has_own && (insecure || tls::is_loopback(&host)) {
            endpoint.probe_scheme().await?;
        }
        Ok(endpoint)
    }

    async fn probe_scheme(&mut self) -> Result<(), Error> {
        let request = self.http.request(Method::GET, self.at("")?);
        match self.send_once(request, "the first request").await {
            Err(Error::Unreachable { .. }) => {}
            other => return other.map(drop),
        }
        let plain = self.base.as_str().replacen("https:", "http:", 1);
        if let Ok(url) = Url::parse(&plain) {
            self.base = url;
        }
        Ok(())
    }

    /// Whether a URL is of the registry's own origin, the only one that sees credentials.
    pub(super) fn is_own(&self, url: &Url) -> bool {
        url.origin() == self.base.origin()
    }

    /// Sends one request within the time of one.
    pub(super) async fn send_once(
        &self,
        request: RequestBuilder,
        what: &str,
    ) -> Result<Response, Error> {
        match timeout(self.request_limit, request.send()).await {
            Err(_) => Err(self.late(what)),
            Ok(Err(e)) if e.is_timeout() => Err(self.late(what)),
            Ok(answer) => answer.map_err(|e| self.unreachable(e)),
        }
    }

    /// The URL of `path` beneath `/v2/`. Paths consist of checked names only.
    pub(crate) fn at(&self, path: &str) -> Result<Url, Error> {
        let base = self.base.as_str().trim_end_matches('/');
        Url::parse(&format!("{base}/v2/{path}"))
            .map_err(|_| self.refuse(format!("{base}/v2/{path} is not a URL")))
    }

    /// Resolves an address that this registry gave: of an upload, or of a list's next page. It must
    /// be on the same host; scheme and port are taken from the base, because a registry behind a
    /// proxy that ends TLS often does not know them.
    /// `what` it is of, for the error.
    pub(crate) fn own_url(&self, what: &str, address: &str) -> Result<Url, Error> {
        let no_url = || self.refuse(format!("its address of {what} is not a URL"));
        let mut url = self.base.join(address).map_err(|_| no_url())?;
        if url.host_str() != self.base.host_str() || !url.username().is_empty() {
            return Err(self.refuse(format!("its address of {what} is on another host")));
        }
        url.set_scheme(self.base.scheme()).map_err(|()| no_url())?;
        url.set_port(self.base.port()).map_err(|()| no_url())?;
        Ok(url)
    }

    /// The error of a request that took too long.
    pub(crate) fn late(&self, what: &str) -> Error {
        self.timed_out(what, self.request_limit)
    }

    /// The error of an answer in which nothing came for too long.
    pub(crate) fn idle_for(&self, what: &str) -> Error {
        self.timed_out(what, self.idle)
    }

    fn timed_out(&self, what: &str, limit: Duration) -> Error {
        Error::Timeout {
            registry: self.registry.clone(),
            what: what.to_owned(),
            limit,
        }
    }

    /// The error of a connection that failed.
    pub(crate) fn unreachable(&self, source: reqwest::Error) -> Error {
        let source = source.without_url();
        if is_certificate(&source) {
            return Error::Certificate {
                registry: self.registry.clone(),
                certs: self.certs.clone(),
                source,
            };
        }
        Error::Unreachable {
            registry: self.registry.clone(),
            address: self.base.origin().ascii_serialization(),
            source,
        }
    }

    /// The error of an answer that breaks the protocol or a limit.
    pub(crate) fn refuse(&self, reason: impl Into<String>) -> Error {
        Error::Answer {
            registry: self.registry.clone(),
            reason: reason.into(),
        }
    }
}

fn base_url(text: &str) -> Option<Url> {
    let url = Url::parse(text).ok()?;
    let good = matches!(url.scheme(), "http" | "https")
        && url.host_str().is_some()
        && url.username().is_empty()
        && url.query().is_none()
        && url.fragment().is_none();
    good.then_some(url)
}

/// Whether TLS failed because of the certificate.
fn is_certificate(error: &reqwest::Error) -> bool {
    let mut next: Option<&(dyn StdError + 'static)> = Some(error);
    while let Some(link) = next {
        if matches!(
            link.downcast_ref::<rustls::Error>(),
            Some(rustls::Error::InvalidCertificate(_))
        ) {
            return true;
        }
        // An io::Error shows the source of what it wraps, not the wrapped error itself.
        next = match link
            .downcast_ref::<io::Error>()
            .and_then(io::Error::get_ref)
        {
            Some(inner) => Some(inner),
            None => link.source(),
        };
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An endpoint, with `authority` as its own CA.
    fn open(registry: &str, authority: Option<&str>, insecure: bool) -> Endpoint {
        let dir = tempfile::tempdir().unwrap();
        let registry: RegistryName = registry.parse().unwrap();
        if let Some(authority) = authority {
            let own = dir.path().join(registry.as_str());
            std::fs::create_dir(&own).unwrap();
            std::fs::write(own.join("ca.crt"), authority).unwrap();
        }
        let options = Options {
            certs_dir: dir.path().to_owned(),
            insecure: insecure.then(|| registry.clone()).into_iter().collect(),
            ..Options::default()
        };
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let credentials = Credentials::default();
        runtime
            .block_on(Endpoint::open(&options, &credentials, &registry))
            .unwrap()
    }

    #[test]
    fn attack_41_plain_http_is_spoken_on_loopback_or_by_name_and_never_beside_a_ca() {
        const AUTHORITY: &str = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
        // Nobody answers there, so TLS fails.
        let closed = listener.local_addr().unwrap().to_string();
        drop(listener);
        for (registry, authority, insecure, scheme) in [
            (closed.as_str(), None, false, "http"),
            (&closed, Some(AUTHORITY), false, "https"),
            (&closed, Some(AUTHORITY), true, "https"),
            ("registry.invalid:1", None, false, "https"),
        ] {
            let endpoint = open(registry, authority, insecure);
            assert_eq!(endpoint.base.scheme(), scheme, "{registry} {authority:?}");
        }
    }

    #[test]
    fn attack_42_an_address_that_a_registry_gives_stays_with_the_registry() {
        let endpoint = open("r.example:5000", None, false);
        for (address, url) in [
            ("/v2/x", Some("https://r.example:5000/v2/x")),
            ("http://r.example/v2/x", Some("https://r.example:5000/v2/x")),
            ("https://other.example/v2/x", None),
            ("https://u@r.example:5000/v2/x", None),
            ("https://", None),
        ] {
            let found = endpoint.own_url("an upload", address).ok();
            assert_eq!(found.as_ref().map(Url::as_str), url, "{address}");
        }
    }

    #[test]
    fn a_base_url_has_scheme_and_host_and_nothing_to_hide() {
        assert!(base_url("https://mirror.example/hub").is_some());
        for bad in [
            "mirror.example",
            "ftp://m",
            "https://u@m",
            "https://m/?a=b",
            "https://m/#x",
        ] {
            assert!(base_url(bad).is_none(), "{bad}");
        }
    }
}
