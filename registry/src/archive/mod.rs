//! `docker save` archives: read as a table of members, never unpacked; names inside are keys
//! of that table and never paths of this machine.
//!
//! There are three forms: OCI's (`index.json`), the engine's (`manifest.json`) and the engine's
//! oldest (`repositories`). OCI's is pushed as it is when its layers are compressed; otherwise the
//! layers are packed with gzip on the way, as the engine's own push does. Layers that are
//! compressed in another way than with gzip are packed again
//! (`docs/decisions/0020-what-every-engine-takes.md`).

mod docker_archive;
mod legacy;
mod member;
mod oci_layout;
mod plain_image;
pub(crate) mod push;
mod select;
mod sparse;
mod table;
mod upload;
