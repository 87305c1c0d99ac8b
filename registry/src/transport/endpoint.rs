//! Where a registry answers: its base URL, the trust in its certificate, one pool of connections,
//! and the login.

use std::error::Error as StdError;
use std::path::PathBuf;
use std::time::Duration;

use onedock_common::types::reference::RegistryName;
use reqwest::{Method, RequestBuilder, Response, Url, redirect};
use tokio::time::timeout;

use super::auth::Auth;
use super::credentials::Credentials;
use super::host_names::{HostNames, is_proxy};
use super::reach::Inward;
use super::tls::{self, Trust};
use crate::error::{Error, causes};
use crate::options::{Options, Reach};

/// One registry, as this client reaches it.
#[derive(Debug)]
pub(crate) struct Endpoint {
    pub(crate) registry: RegistryName,
    pub(super) base: Url,
    pub(super) http: reqwest::Client,
    pub(super) auth: Auth,
    pub(crate) idle: Duration,
    /// How long it may send less than the least.
    pub(crate) slow: Duration,
    pub(crate) request_limit: Duration,
    certs: PathBuf,
    /// Whether it may be at an address of this machine and its links.
    inward: bool,
    /// The administrator's registries, to which one that a user names must not lead.
    others: Vec<RegistryName>,
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
        let authority = match base.port() {
            Some(port) => format!("{host}:{port}"),
            None => host.clone(),
        };
        let login = credentials.of(registry, given.then_some(authority.as_str()));
        let named = insecure || given || has_own || login.is_some();
        let (inward, others) = match &options.reach {
            Reach::Anywhere => (true, Vec::new()),
            Reach::Outward(others) => (named || others.contains(registry), others.clone()),
        };
        let names = HostNames::from_system(inward).map_err(|e| prepare(Box::new(e)))?;
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
        let token_hosts = options.token_hosts.get(registry).cloned();
        let mut endpoint = Self {
            registry: registry.clone(),
            base,
            http,
            auth: Auth::new(login.cloned(), token_hosts.unwrap_or_default()),
            idle: options.idle_timeout,
            slow: options.slow_limit,
            request_limit: options.request_timeout,
            certs: options.certs_dir.join(registry.as_str()),
            inward,
            others,
        };
        endpoint.check_reach(&endpoint.base)?;
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

    /// An error where the URL has an address that this registry must not lead to.
    pub(super) fn check_reach(&self, url: &Url) -> Result<(), Error> {
        if self.inward {
            return Ok(());
        }
        let host = url.host_str().unwrap_or_default();
        // Requests to a proxy's own name may pass by it.
        if is_proxy(host) {
            return Err(self.refuse(format!("it leads to {host}, a proxy of this machine")));
        }
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let port = url.port_or_known_default();
        let is_there = |other: &&RegistryName| other.host() == host && Some(other.port()) == port;
        if let Some(other) = self.others.iter().find(is_there) {
            return Err(self.refuse(format!(
                "it leads to {other}, which is no registry of users"
            )));
        }
        Inward::check_url(url).map_err(|inward| self.is_inward(inward))
    }

    fn is_inward(&self, inward: Inward) -> Error {
        Error::Inward {
            registry: self.registry.clone(),
            host: inward.host,
            address: inward.address,
        }
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

    /// The error of a call whose requests have taken too long together.
    pub(super) fn over_budget(&self, what: &str) -> Error {
        self.refuse(format!(
            "with {what} it has taken too long for requests that carry no layer"
        ))
    }

    /// The error of an answer that comes too slowly to wait for its end.
    pub(crate) fn too_slow(&self, what: &str) -> Error {
        self.refuse(format!("{what} comes with less than 16 KiB a second"))
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
        if let Some(inward) = Inward::found_in(&source) {
            return self.is_inward(inward.clone());
        }
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
    causes(error).any(|link| {
        matches!(
            link.downcast_ref::<rustls::Error>(),
            Some(rustls::Error::InvalidCertificate(_))
        )
    })
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
    fn attack_20_a_registry_that_users_name_leads_to_nothing_of_this_machine() {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let named: RegistryName = "127.0.0.1:1".parse().unwrap();
        let options = |change: fn(&mut Options)| {
            let mut options = Options {
                certs_dir: "/nonexistent".into(),
                reach: Reach::Outward(vec![named.clone(), "front.example:5000".parse().unwrap()]),
                ..Options::default()
            };
            change(&mut options);
            options
        };
        let open = |registry: &str, options: &Options| {
            let (registry, none) = (registry.parse().unwrap(), Credentials::default());
            runtime.block_on(Endpoint::open(options, &none, &registry))
        };
        let usual = options(|_| {});
        for registry in [
            "127.0.0.1:2",
            "169.254.169.254",
            "[fe80::1]:5000",
            "0.0.0.0",
        ] {
            let error = open(registry, &usual).unwrap_err();
            assert!(matches!(error, Error::Inward { .. }), "{error}");
        }
        // What the administrator has named leads where it leads.
        open("127.0.0.1:1", &usual).unwrap();
        let insecure = options(|o| o.insecure = vec!["127.0.0.1:2".parse().unwrap()]);
        open("127.0.0.1:2", &insecure).unwrap();
        let mirrored = options(|o| {
            let mirror = "https://127.0.0.1:3".to_owned();
            o.endpoints = [("r.example".parse().unwrap(), mirror)].into();
        });
        open("r.example", &mirrored).unwrap();
        let logins = br#"{"auths":{"127.0.0.1:4":{"auth":"dTpw"}}}"#;
        let logins = Credentials::parse(logins).unwrap();
        let fourth: RegistryName = "127.0.0.1:4".parse().unwrap();
        let with_login = Endpoint::open(&usual, &logins, &fourth);
        runtime.block_on(with_login).unwrap();
        let endpoint = open("198.51.100.7", &usual).unwrap();
        let own = onedock_common::resolver::own_addresses();
        let [own, ..] = own.as_slice() else {
            panic!("this machine has no address");
        };
        for (to, good) in [
            ("https://198.51.100.8/x".to_owned(), true),
            (format!("https://{own}:2375/x"), false),
            ("https://[::ffff:127.0.0.1]/x".to_owned(), false),
            ("https://localhost/x".to_owned(), false),
            // Another registry of the administrator's.
            (
                "https://front.example:5000/v2/onedock/img-6".to_owned(),
                false,
            ),
            ("https://front.example:5001/x".to_owned(), true),
        ] {
            let url = Url::parse(&to).unwrap();
            let lead = endpoint.check_lead("redirect", &endpoint.base, &url);
            assert_eq!(lead.is_ok(), good, "{to}");
        }
        let asked = endpoint.http.get("https://localhost:1/").send();
        let error = endpoint.unreachable(runtime.block_on(asked).unwrap_err());
        assert!(matches!(error, Error::Inward { .. }), "{error}");
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
