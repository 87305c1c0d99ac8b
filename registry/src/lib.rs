//! Registry v2: references resolved and verified, images copied from registry to registry and
//! pushed from archives, deleted, tagged and measured, without an engine.
//!
//! [`Client`] is the way in. Each of its calls holds to [`Options::total_timeout`], retries
//! what is transient within it, verifies every byte by its digest and keeps no layer whole in
//! memory or on disk. It must be used inside a tokio runtime; one thread is enough.
//!
//! What a registry or an archive says is hostile input: sizes, counts, depths, names and
//! redirects have limits, and URLs within manifests are never followed.

mod archive;
mod chunks;
mod client;
mod disk;
mod error;
mod from_config;
mod image;
mod image_store;
mod layer;
mod oci;
mod options;
mod repository;
mod transport;

pub use client::{Client, Deleted, Resolved, Size, archive_size};
pub use disk::kind::Kind;
pub use error::Error;
pub use image::append::Appended;
pub use image_store::{Attributes, ImageStore, ImageStoreError};
pub use layer::compression::is_compressed;
pub use layer::tar_end::is_tar;
pub use oci::config::ImageConfig;
pub use oci::platform::{BadPlatform, Platform};
pub use onedock_common::state::disk_image::DiskMeta;
pub use options::Options;
pub use transport::credentials::credential;
