//! The OpenNebula contract: the documents that `oned` sends, the answers that it reads, and
//! `onedock.conf`.

pub mod answer;
pub mod config;
pub mod context;
pub mod image;
pub mod nic;
#[cfg(feature = "oned")]
pub mod oned;
pub mod vm;
pub mod xml;
