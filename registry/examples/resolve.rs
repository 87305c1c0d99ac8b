//! Prints the digest and the type of what an image's name means:
//! `cargo run -p onedock-registry --example resolve -- registry.local:5000/busybox`.

use onedock_common::types::reference::Reference;
use onedock_registry::{Client, Options};

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let name = std::env::args().nth(1).unwrap_or_default();
    let reference: Reference = name.parse()?;
    let resolved = Client::new(Options::default())?.resolve(&reference).await?;
    std::io::Write::write_all(
        &mut std::io::stdout(),
        format!("{} {}\n", resolved.digest, resolved.media_type).as_bytes(),
    )?;
    Ok(())
}
