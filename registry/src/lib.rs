//! Registry v2: references resolved and verified, images copied from registry to registry and
//! pushed from archives, disks stored as artifacts, all of it deleted, tagged and measured, without
//! an engine.
//!
//! [`Client`] is the way in. Each of its calls ends within [`Options::total_timeout`], retries
//! what is transient within it, verifies every byte by its digest and has no layer whole in
//! memory or on disk. It must be used inside a tokio runtime; one thread is enough.
//!
//! What a registry or an archive contains is untrusted input: sizes, counts, depths, names and
//! redirects have limits, and URLs within manifests are never followed.
//!
//! The modules are layers. Each uses only those above it in this table, and its own folder
//! (`tests/tests/layers.rs` checks it):
//!
//! | module | what it is |
//! | --- | --- |
//! | `error`, `options` | what callers see and decide |
//! | `chunks`, `blocking`, `new_file` | streams of bytes, work that blocks, files that are written |
//! | `oci` | manifests, indexes, configurations, platforms, media types, compression methods |
//! | `layer` | the bytes of a layer: gzip, decompression, tar archives, sizes |
//! | `transport` | HTTP to one registry: TLS, login, redirects, retries, deadlines |
//! | `repository` | one repository: manifests, tags, blobs, deletion |
//! | `client` | the front: known registries, the deadline of a call, calls about one repository |
//! | `image` | copy, append, save and measure container images |
//! | `disk` | disks as artifacts: put, get, duplicate |
//! | `archive` | archives of `docker save`: push and measure |
//! | `image_store` | what belongs to an OpenNebula image: versions, snapshots, attributes |

mod archive;
mod blocking;
mod chunks;
mod client;
mod disk;
mod error;
mod image;
mod image_store;
mod layer;
mod new_file;
mod oci;
mod options;
mod repository;
mod transport;

pub use archive::push::archive_size;
pub use client::Client;
pub use disk::kind::Kind;
pub use error::Error;
pub use image::append::Appended;
pub use image_store::{Attributes, ImageStore, ImageStoreError};
pub use layer::size::Size;
pub use layer::tar_check::is_tar;
pub use oci::compression::is_compressed;
pub use oci::platform::{BadPlatform, Platform};
pub use onedock_common::state::disk_image::DiskMeta;
pub use options::{Options, Reach};
pub use repository::remote::{Deleted, Resolved};
pub use transport::credentials::credential;
