//! The bytes of a layer: compression, tar archives, sizes.

pub(crate) mod chunk_writer;
pub(crate) mod compression;
pub(crate) mod gzip;
pub(crate) mod stream;
pub(crate) mod tar_end;
