//! One repository of a registry: manifests, tags, blobs (OCI distribution specification).

mod artifact;
mod delete;
pub(crate) mod download;
pub(crate) mod remote;
mod tags;
mod untag;
pub(crate) mod upload;
