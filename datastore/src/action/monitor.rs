//! `monitor`: the room of the registry's storage (ONEDock's DATASTORE_DATA_PATH), or what
//! LIMIT_MB says where the registry is on another machine.

use anyhow::{Context as _, bail};
use nix::sys::statvfs::statvfs;
use onedock_common::opennebula::answer::Answer;
use onedock_common::opennebula::config::Config;
use onedock_common::opennebula::image::Datastore;

pub(crate) fn run(config: &Config, datastore: &Datastore) -> anyhow::Result<Answer> {
    let path = &config.data_path;
    let (used, total, free) = if path.exists() {
        let stat =
            statvfs(path).with_context(|| format!("{} cannot be measured", path.display()))?;
        let mb = |blocks: u64| blocks.saturating_mul(stat.fragment_size()) >> 20;
        (
            mb(stat.blocks().saturating_sub(stat.blocks_free())),
            mb(stat.blocks()),
            mb(stat.blocks_available()),
        )
    } else if let Some(limit) = datastore.limit_mb {
        (0, limit, limit)
    } else {
        bail!(
            "the registry's storage {} is not on this machine; set DATASTORE_DATA_PATH in onedock.conf, or LIMIT_MB in the datastore where the registry is elsewhere",
            path.display()
        );
    };
    Ok(Answer::line(format!(
        "USED_MB={used}\nTOTAL_MB={total}\nFREE_MB={free}"
    )))
}
