//! The node half: one request on standard input, done as oneadmin with the host's engine.

use std::io::{BufRead, Read as _, stdin};

use anyhow::{Context as _, Result, ensure};
use onedock_common::opennebula::answer::Answer;
use onedock_common::opennebula::config::Config;

use crate::action;
use crate::request::{Call, LIMIT};

pub(crate) async fn run(config: &Config) -> Result<Answer> {
    // What follows the first line is the request's content, so the reader is used on.
    let mut input = stdin().lock();
    let mut line = Vec::new();
    input
        .by_ref()
        .take(LIMIT)
        .read_until(b'\n', &mut line)
        .context("the request cannot be read")?;
    ensure!(
        line.ends_with(b"\n"),
        "the request is not one line of at most {LIMIT} bytes"
    );
    action::answer(Call::parse(&line)?, config, &mut input).await
}
