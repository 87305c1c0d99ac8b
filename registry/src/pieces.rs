//! Bytes that come piece by piece, from a registry or out of an archive.

use std::future::Future;

use bytes::Bytes;

use crate::download::Download;
use crate::error::Error;

/// A stream of bytes that ends with `None`, or with an error when it is not what it should be.
pub(crate) trait Pieces: Send {
    /// The next piece.
    fn next(&mut self) -> impl Future<Output = Result<Option<Bytes>, Error>> + Send;
}

impl Pieces for Download {
    fn next(&mut self) -> impl Future<Output = Result<Option<Bytes>, Error>> + Send {
        Download::next(self)
    }
}
