//! One repository of a registry: manifests, tags, blobs (OCI distribution specification).

pub(crate) mod artifact;
pub(crate) mod delete;
pub(crate) mod download;
pub(crate) mod remote;
pub(crate) mod untag;
pub(crate) mod upload;
