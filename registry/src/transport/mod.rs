//! HTTP to one registry: names, TLS, login, redirects, retries and deadlines.

pub(crate) mod answer;
mod auth;
mod authorize;
mod challenge;
pub(crate) mod credentials;
pub(crate) mod endpoint;
mod host_names;
pub(crate) mod pace;
pub(crate) mod reach;
mod redirect;
pub(crate) mod request;
pub(crate) mod retry;
mod tls;
pub(crate) mod token;
