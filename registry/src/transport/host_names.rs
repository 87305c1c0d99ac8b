//! The host names of registries, token services and proxies, looked up without the C library.

use std::net::SocketAddr;
use std::sync::Arc;

use onedock_common::resolver::{LookupError, Resolver};
use reqwest::dns::{Addrs, Name, Resolve, Resolving};

/// The resolver as the HTTP client calls it.
#[derive(Debug)]
pub(crate) struct HostNames(Arc<Resolver>);

impl HostNames {
    /// As this machine is set up now.
    pub(crate) fn from_system() -> Result<Self, LookupError> {
        Ok(Self(Arc::new(Resolver::from_system()?)))
    }
}

impl Resolve for HostNames {
    fn resolve(&self, name: Name) -> Resolving {
        let resolver = Arc::clone(&self.0);
        Box::pin(async move {
            let addresses = resolver.lookup(name.as_str()).await?;
            // Port 0 stands for the one of the URL.
            let addresses = addresses.into_iter().map(|ip| SocketAddr::new(ip, 0));
            Ok(Box::new(addresses) as Addrs)
        })
    }
}
