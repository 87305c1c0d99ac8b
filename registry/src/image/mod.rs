//! Container images in registries.

pub(crate) mod append;
pub(crate) mod complete;
pub(crate) mod copy;
pub(crate) mod repack;
pub(crate) mod resolve;
pub(crate) mod save;
pub(crate) mod select;
pub(crate) mod size;
pub(crate) mod time;
