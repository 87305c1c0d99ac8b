//! HTTP to one registry: names, TLS, login, redirects, retries and deadlines.

pub(crate) mod answer;
pub(crate) mod auth;
pub(crate) mod credentials;
pub(crate) mod endpoint;
pub(crate) mod host_names;
pub(crate) mod request;
pub(crate) mod tls;
