//! The documents of the OCI image specification and of the engine's image format (schema 2), read
//! as untrusted input. Nothing here talks to a registry or reads a file.

pub(crate) mod compression;
pub(crate) mod config;
pub(crate) mod descriptor;
pub(crate) mod index;
pub(crate) mod manifest;
pub(crate) mod media_type;
pub(crate) mod platform;

#[cfg(test)]
mod tests;
