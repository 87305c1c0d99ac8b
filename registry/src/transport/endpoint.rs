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

    /// Resolves a Location that this registry gave for an upload. It must be on the same host;
    /// scheme and port are taken from the base, because a registry behind a proxy that ends TLS
    /// often does not know them.
    pub(crate) fn upload_location(&self, location: &str) -> Result<Url, Error> {
        let no_url = || self.refuse("its upload Location is not a URL");
        let mut url = self.base.join(location).map_err(|_| no_url())?;
        if url.host_str() != self.base.host_str() || !url.username().is_empty() {
            return Err(self.refuse("it sends the upload to another host"));
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
