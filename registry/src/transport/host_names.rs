//! The host names of registries, token services and proxies, looked up without the C library.

use std::net::SocketAddr;
use std::sync::Arc;

use onedock_common::resolver::{LookupError, Resolver};
use reqwest::Url;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};

use super::reach::Inward;

/// The variables that name the proxies of this machine, which may be on it (curl(1), ENVIRONMENT).
const PROXIES: [&str; 6] = [
    "http_proxy",
    "HTTP_PROXY",
    "https_proxy",
    "HTTPS_PROXY",
    "all_proxy",
    "ALL_PROXY",
];

/// The resolver as the HTTP client calls it.
#[derive(Debug)]
pub(crate) struct HostNames {
    resolver: Arc<Resolver>,
    /// Whether a name may have an address of this machine and its links.
    inward: bool,
}

impl HostNames {
    /// As this machine is set up now.
    pub(crate) fn from_system(inward: bool) -> Result<Self, LookupError> {
        let resolver = Arc::new(Resolver::from_system()?);
        Ok(Self { resolver, inward })
    }
}

/// Whether the administrator sends requests by way of this host.
pub(super) fn is_proxy(host: &str) -> bool {
    is_one_of(
        PROXIES.iter().filter_map(|name| std::env::var(name).ok()),
        host,
    )
}

fn is_one_of(mut proxies: impl Iterator<Item = String>, host: &str) -> bool {
    proxies.any(|text| {
        let url = match text.contains("://") {
            true => text,
            false => format!("http://{text}"),
        };
        Url::parse(&url).is_ok_and(|url| url.host_str() == Some(host))
    })
}

impl Resolve for HostNames {
    fn resolve(&self, name: Name) -> Resolving {
        let resolver = Arc::clone(&self.resolver);
        let checked = !self.inward && !is_proxy(name.as_str());
        Box::pin(async move {
            let addresses = resolver.lookup(name.as_str()).await?;
            if checked {
                Inward::check(name.as_str(), &addresses)?;
            }
            // Port 0 stands for the one of the URL.
            let addresses = addresses.into_iter().map(|ip| SocketAddr::new(ip, 0));
            Ok(Box::new(addresses) as Addrs)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::is_one_of;

    #[test]
    fn a_proxy_is_known_by_its_host_with_and_without_a_scheme() {
        let is_proxy = |text: &str, host: &str| is_one_of([text.to_owned()].into_iter(), host);
        assert!(is_proxy("http://cache.lan:3128", "cache.lan"));
        assert!(is_proxy("cache.lan:3128", "cache.lan"));
        assert!(!is_proxy("http://cache.lan:3128", "other.lan"));
        assert!(!is_proxy("", "cache.lan"));
    }
}
