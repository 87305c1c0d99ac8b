//! Streams of bytes from a registry, an archive or a file, and several of them at once.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use futures_util::stream::{self, StreamExt as _};

use crate::error::Error;

/// How many blobs of an image or a disk are transferred at once.
const AT_ONCE: usize = 3;

/// A stream of bytes that ends with `None`, or with an error when it is not what it should be.
pub(crate) trait Chunks: Send {
    /// The next chunk.
    fn next(&mut self) -> impl Future<Output = Result<Option<Bytes>, Error>> + Send;
}

/// Tells several transfers that one of them has failed. They end by themselves, so that each can
/// give its upload up.
#[derive(Debug, Clone, Default)]
pub(crate) struct Cancellation(Arc<AtomicBool>);

impl Cancellation {
    /// An error when one of the transfers has failed.
    pub(crate) fn check(&self) -> Result<(), Error> {
        match self.0.load(Ordering::Relaxed) {
            true => Err(Error::Cancelled),
            false => Ok(()),
        }
    }

    fn cancel(&self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Runs transfers, a few at once, and gives their results as they end. The first error cancels the
/// others, whose own errors then do not count.
pub(crate) async fn transfer_all<I, T, F>(
    items: impl IntoIterator<Item = I>,
    transfer: impl Fn(I, Cancellation) -> F,
) -> Result<Vec<T>, Error>
where
    F: Future<Output = Result<T, Error>>,
{
    let cancellation = &Cancellation::default();
    let transfer = &transfer;
    stream::iter(items)
        .map(|item| async move {
            cancellation.check()?;
            let result = transfer(item, cancellation.clone()).await;
            if result.is_err() {
                cancellation.cancel();
            }
            result
        })
        .buffer_unordered(AT_ONCE)
        // Not ended at the first error: the others give their uploads up first.
        .fold(Ok(Vec::new()), async |results, result| {
            match (results, result) {
                (Ok(mut results), Ok(result)) => {
                    results.push(result);
                    Ok(results)
                }
                (Ok(_) | Err(Error::Cancelled), Err(e)) | (Err(e), _) => Err(e),
            }
        })
        .await
}
