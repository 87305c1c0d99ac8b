//! Where a registry answers: its base URL, the trust in its certificate, one pool of
//! connections and what it was told about who we are.

use std::error::Error as StdError;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use onedock_common::types::reference::RegistryName;
use reqwest::{Method, Url, redirect};
use tokio::time::timeout;

use crate::error::Error;
use crate::options::Options;
use crate::transport::auth::Auth;
use crate::transport::credentials::Credentials;
use crate::transport::host_names::HostNames;
use crate::transport::tls::{self, Trust};

/// One registry, as this client reaches it.
#[derive(Debug)]
pub(crate) struct Endpoint {
    pub(crate) registry: RegistryName,
    pub(crate) base: Url,
    pub(crate) http: reqwest::Client,
    pub(crate) auth: Auth,
    pub(crate) idle: Duration,
    pub(crate) request_limit: Duration,
    certs: PathBuf,
}

impl Endpoint {
    /// Finds out how the registry is spoken to. Plain HTTP is tried only where it is allowed,
    /// only when TLS fails for another reason than the certificate, and never where the
    /// administrator has laid down a CA for this registry.
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
        let what = "the first greeting";
        let failed = match timeout(self.request_limit, request.send()).await {
            Err(_) => return Err(self.late(what)),
            Ok(Ok(_)) => return Ok(()),
            Ok(Err(e)) if e.is_timeout() => return Err(self.late(what)),
            Ok(Err(e)) => e,
        };
        if is_certificate(&failed) {
            return Err(self.unreachable(failed));
        }
        let plain = self.base.as_str().replacen("https:", "http:", 1);
        if let Ok(url) = Url::parse(&plain) {
            self.base = url;
        }
        Ok(())
    }

    /// The URL of `path` beneath `/v2/`. Paths are made of checked names only.
    pub(crate) fn at(&self, path: &str) -> Result<Url, Error> {
        let base = self.base.as_str().trim_end_matches('/');
        Url::parse(&format!("{base}/v2/{path}")).map_err(|_| Error::Answer {
            registry: self.registry.clone(),
            reason: format!("{base}/v2/{path} is not a URL"),
        })
    }

    /// Resolves a Location that this registry gave for an upload. It must be on the same host;
    /// scheme and port are taken from the base, because a registry behind a proxy that ends TLS
    /// often does not know them.
    pub(crate) fn upload_location(&self, location: &str) -> Result<Url, Error> {
        let refused = |reason: &str| Error::Answer {
            registry: self.registry.clone(),
            reason: reason.to_owned(),
        };
        let mut url = self
            .base
            .join(location)
            .map_err(|_| refused("its upload Location is not a URL"))?;
        if url.host_str() != self.base.host_str() || !url.username().is_empty() {
            return Err(refused("it sends the upload to another host"));
        }
        let same =
            url.set_scheme(self.base.scheme()).is_ok() && url.set_port(self.base.port()).is_ok();
        if same {
            Ok(url)
        } else {
            Err(refused("its upload Location is not a URL"))
        }
    }

    pub(crate) fn late(&self, what: &str) -> Error {
        Error::Timeout {
            registry: self.registry.clone(),
            what: what.to_owned(),
            limit: self.request_limit,
        }
    }

    pub(crate) fn idle_for(&self, what: &str) -> Error {
        Error::Timeout {
            registry: self.registry.clone(),
            what: what.to_owned(),
            limit: self.idle,
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

/// Whether an answer of `from` may lead to `to`, be it by redirect or as a token's realm: not
/// from TLS to plain HTTP, and not into this machine or its link (cloud metadata), unless the
/// registry itself is there.
pub(crate) fn may_lead(from: &Url, to: &Url) -> Result<(), String> {
    let host = |url: &Url| url.host_str().unwrap_or_default().to_owned();
    let (near, far) = (host(from), host(to));
    if !matches!(to.scheme(), "http" | "https") || far.is_empty() || !to.username().is_empty() {
        return Err(format!(
            "it points to {}, which is no web address",
            to.scheme()
        ));
    }
    if from.scheme() == "https" && to.scheme() == "http" {
        return Err(format!("it leads from TLS to plain HTTP at {far}"));
    }
    if near != far && !tls::is_loopback(&near) && is_inward(&far) {
        return Err(format!(
            "it leads to {far}, an address of this machine or link"
        ));
    }
    Ok(())
}

fn is_inward(host: &str) -> bool {
    if tls::is_loopback(host) || host.ends_with(".localhost") {
        return true;
    }
    let host = host.trim_start_matches('[').trim_end_matches(']');
    match host.parse::<std::net::IpAddr>() {
        Ok(std::net::IpAddr::V4(ip)) => ip.is_link_local() || ip.is_unspecified(),
        Ok(std::net::IpAddr::V6(ip)) => {
            let mapped = ip.to_ipv4_mapped();
            ip.is_unspecified()
                || ip.is_unicast_link_local()
                || mapped.is_some_and(|v4| v4.is_loopback() || v4.is_link_local())
        }
        Err(_) => false,
    }
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
        ] {
            assert_eq!(may_lead(&url(from), &url(to)).is_ok(), good, "{from} {to}");
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
