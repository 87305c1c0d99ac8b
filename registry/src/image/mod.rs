//! Container images in registries.

pub(crate) mod append;
pub(crate) mod copy;
mod resolve;
mod save;
mod select;
mod size;
