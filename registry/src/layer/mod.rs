//! The bytes of a layer: compression, tar archives, sizes. Nothing here talks to a registry.

pub(crate) mod chunk_reader;
pub(crate) mod chunk_writer;
pub(crate) mod counted;
pub(crate) mod decompress;
pub(crate) mod gzip;
pub(crate) mod packer;
pub(crate) mod recompress;
pub(crate) mod size;
pub(crate) mod stream;
pub(crate) mod tar_check;
