//! Waiting in a test: a question with a limit.

use std::time::Duration;

use anyhow::{Context as _, Result};
use onedock_common::wait::until_ok;

/// An engine on a busy machine cleans up behind its answer within this time.
const LIMIT: Duration = Duration::from_secs(10);

/// Repeats a question until the answer is yes; after ten seconds `failure` is the error.
pub fn wait_until(failure: &str, mut question: impl FnMut() -> Result<bool>) -> Result<()> {
    let answer = until_ok(LIMIT, || Ok::<_, anyhow::Error>(question()?.then_some(())))?;
    answer.with_context(|| failure.to_owned())
}
