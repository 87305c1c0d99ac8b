//! The documents of the OCI image specification and of the engine's image format (schema 2), read
//! as untrusted input: manifests, indexes, configurations, platforms. Nothing here talks to a
//! registry or reads a file.

pub(crate) mod config;
pub(crate) mod manifest;
pub(crate) mod platform;
