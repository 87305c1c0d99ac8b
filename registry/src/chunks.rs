//! Bytes that come piece by piece, from a registry or out of an archive.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;

use crate::error::Error;
use crate::repository::download::Download;

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

/// Says to several transfers that the work of all of them is for nothing. They end by
/// themselves, so that each can tidy up behind it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Stop(Arc<AtomicBool>);

impl Stop {
    pub(crate) fn now(&self) {
        self.0.store(true, Ordering::Relaxed);
    }
    pub(crate) fn is_wanted(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}
