//! `onedock run`: plays a VM template on this machine through the drivers.

use std::path::PathBuf;

use onedock::error::{Error, Result};

/// What the administrator says.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// The VM template
    template: PathBuf,
}

/// Refuses, as long as there are no drivers to play it.
pub(crate) fn run(options: &Options) -> Result<()> {
    Err(Error::refused(format!(
        "{} cannot be played yet: `onedock run` comes with the drivers",
        options.template.display()
    )))
}
