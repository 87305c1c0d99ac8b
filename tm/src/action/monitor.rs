//! `monitor datastore`: the size of a system datastore that hosts share. One of ours is local to
//! each host (SHARED=NO) and is measured there; this answers when it is called all the same.

use std::io::Read as _;

use anyhow::Context as _;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use nix::sys::statvfs::statvfs;
use onedock_common::opennebula::answer::Answer;
use onedock_common::opennebula::xml::Element;

pub(crate) fn run() -> anyhow::Result<Answer> {
    let mut packed = String::new();
    std::io::stdin()
        .take(4 << 20)
        .read_to_string(&mut packed)
        .context("standard input cannot be read")?;
    let xml = STANDARD
        .decode(packed.trim())
        .context("the request on standard input is not base64")?;
    let document = Element::document(&xml, "DS_DRIVER_ACTION_DATA")?;
    let path = document
        .node()
        .required_child("DATASTORE")?
        .required_text("BASE_PATH")?;
    let stat = statvfs(path).with_context(|| format!("{path} cannot be measured"))?;
    let mb = |blocks: u64| blocks.saturating_mul(stat.fragment_size()) >> 20;
    let (total, free) = (mb(stat.blocks()), mb(stat.blocks_available()));
    let used = mb(stat.blocks().saturating_sub(stat.blocks_free()));
    Ok(Answer::line(format!(
        "USED_MB={used}\nTOTAL_MB={total}\nFREE_MB={free}"
    )))
}
