//! A container's layer as an archive, copied to a file while the VM is frozen.

use std::path::Path;

use anyhow::Context as _;
use onedock_node::client::Archive;
use tokio::io::{AsyncSeekExt as _, AsyncWriteExt as _};

/// Writes the whole archive to a file without a name in `folder`, so that nothing of it outlives
/// this process.
pub(crate) async fn spool(mut archive: Archive, folder: &Path) -> anyhow::Result<tokio::fs::File> {
    let failed = || {
        format!(
            "the layer cannot be written to {} on this host",
            folder.display()
        )
    };
    let file = tempfile::tempfile_in(folder).with_context(failed)?;
    let mut file = tokio::fs::File::from_std(file);
    tokio::io::copy(&mut archive, &mut file)
        .await
        .with_context(failed)?;
    file.flush().await.with_context(failed)?;
    file.rewind().await.with_context(failed)?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use onedock_node::client::Helper;

    use super::*;

    #[tokio::test]
    async fn a_program_that_fails_leaves_no_file_and_no_archive() {
        let dir = tempfile::tempdir().unwrap();
        for program in ["/bin/false", "/bin/true"] {
            let archive = Helper::at(program)
                .pack_layer(&"ab".repeat(32).parse().unwrap(), false)
                .unwrap();
            let spooled = spool(archive, dir.path()).await;
            // As another user sudo refuses, which is an error as well.
            let root = nix::unistd::geteuid().is_root();
            assert_eq!(spooled.is_ok(), root && program == "/bin/true", "{program}");
        }
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    }
}
