//! Registry v2: references resolved and verified, images copied from registry to registry and
//! pushed from archives, deleted, tagged and measured, without an engine.
//!
//! [`Client`] is the way in. Each of its calls holds to [`Options::total_timeout`], retries
//! what is transient within it, verifies every byte by its digest and keeps no layer whole in
//! memory or on disk. It must be used inside a tokio runtime; one thread is enough.
//!
//! What a registry or an archive says is hostile input: sizes, counts, depths, names and
//! redirects have limits, and URLs within manifests are never followed.

mod append;
mod archive;
mod artifact;
mod auth;
mod body;
mod choice;
mod client;
mod complete;
mod compression;
mod config;
mod copy;
mod credentials;
mod disk;
mod disk_file;
mod disk_manifest;
mod download;
mod duplicate;
mod endpoint;
mod error;
mod from_config;
mod gzip;
mod host_names;
mod image;
mod image_store;
mod kind;
mod layer_stream;
mod manifest;
mod options;
mod outlet;
mod pieces;
mod platform;
mod remote;
mod repack;
mod save;
mod size;
mod sweep;
mod tar_end;
mod time;
mod tls;
mod transport;
mod untag;
mod upload;

pub use append::Appended;
pub use client::{Client, Deleted, Resolved, Size, archive_size};
pub use compression::is_compressed;
pub use config::ImageConfig;
pub use credentials::credential;
pub use error::Error;
pub use image_store::{Attributes, ImageStore, ImageStoreError};
pub use kind::Kind;
pub use onedock_common::state::disk_image::DiskMeta;
pub use options::Options;
pub use platform::{BadPlatform, Platform};
pub use tar_end::is_tar;
