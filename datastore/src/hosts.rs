//! The platforms of the hosts that OpenNebula knows, for images that are built for several.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use onedock_common::opennebula::config::Config;
use onedock_common::opennebula::xml::Element;
use onedock_common::process::Command;
use onedock_registry::Platform;

/// How long `oned` may take to list its hosts: it is the one who waits for this driver.
pub(crate) const LIMIT: Duration = Duration::from_secs(20);
/// The longest list that is read, in bytes: a host takes about 10 KB of it.
const LARGEST: usize = 64 << 20;
/// How much of a reason is logged, in bytes.
const QUOTED: usize = 500;

/// ONEDOCK_PLATFORMS, else what the hosts of VM_MAD onedock report as ARCH, else this machine's.
async fn platforms(config: &Config) -> anyhow::Result<Vec<Platform>> {
    if !config.platforms.is_empty() {
        return config
            .platforms
            .iter()
            .map(|p| p.parse().context("ONEDOCK_PLATFORMS"))
            .collect();
    }
    // As oneadmin; where there is no oned, or no host yet, the front-end's own is the best guess.
    let mut found = of_program(&onehost(std::env::var_os("ONE_LOCATION").as_deref())).await;
    if found.is_empty() {
        found.insert(Platform::here());
    }
    Ok(found.into_iter().collect())
}

/// The platform that the user names, else [`platforms`].
pub(crate) async fn wanted(
    platform: Option<Platform>,
    config: &Config,
) -> anyhow::Result<Vec<Platform>> {
    match platform {
        Some(platform) => Ok(vec![platform]),
        None => platforms(config).await,
    }
}

/// `onehost`, of a self-contained OpenNebula where the driver was started by one.
fn onehost(one_location: Option<&OsStr>) -> PathBuf {
    match one_location.filter(|location| !location.is_empty()) {
        Some(location) => Path::new(location).join("bin/onehost"),
        None => PathBuf::from("onehost"),
    }
}

async fn of_program(onehost: &Path) -> BTreeSet<Platform> {
    let answer = Command::local(onehost)
        .args(["list", "-x"])
        // A host's name may have any letter, which Ruby refuses to print under C; and which Ruby it is
        // `oned`'s PATH says.
        .env("LC_ALL", "C.UTF-8")
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .within(LIMIT)
        .keeping(LARGEST)
        .output();
    match answer.await {
        Ok(output) if output.succeeded() => of_hosts(output.stdout.as_bytes()),
        Ok(output) => {
            tracing::warn!("onehost list: {}", output.reason(QUOTED));
            BTreeSet::new()
        }
        Err(error) => {
            tracing::warn!("the hosts cannot be listed: {error}");
            BTreeSet::new()
        }
    }
}

fn of_hosts(xml: &[u8]) -> BTreeSet<Platform> {
    let Ok(pool) = Element::list(xml, "HOST_POOL") else {
        return BTreeSet::new();
    };
    let node = pool.node();
    node.children("HOST")
        .filter(|host| host.text("VM_MAD").is_ok_and(|mad| mad == Some("onedock")))
        .filter_map(|host| {
            let template = host.child("TEMPLATE").ok()??;
            Platform::of_machine(template.text("ARCH").ok()??)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fault_40_an_oned_that_does_not_list_its_hosts_is_not_waited_for() {
        use std::os::unix::fs::PermissionsExt as _;
        let dir = tempfile::tempdir().unwrap();
        let program = onehost(Some(dir.path().as_os_str()));
        std::fs::create_dir(dir.path().join("bin")).unwrap();
        std::fs::write(&program, "#!/bin/sh\nexec sleep 600\n").unwrap();
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .start_paused(true)
            .build()
            .unwrap();
        assert!(runtime.block_on(of_program(&program)).is_empty());
        assert_eq!(onehost(None), Path::new("onehost"));
    }

    #[test]
    fn the_platforms_are_those_of_our_hosts_each_once() {
        let host = |mad, arch| {
            format!("<HOST><VM_MAD>{mad}</VM_MAD><TEMPLATE><ARCH>{arch}</ARCH></TEMPLATE></HOST>")
        };
        let xml = format!(
            "<HOST_POOL>{}{}{}{}{}</HOST_POOL>",
            host("onedock", "x86_64"),
            host("onedock", "aarch64"),
            host("onedock", "x86_64"),
            host("kvm", "ppc64le"),
            "<HOST><VM_MAD>onedock</VM_MAD><TEMPLATE/></HOST>"
        );
        let names: Vec<String> = of_hosts(xml.as_bytes())
            .iter()
            .map(ToString::to_string)
            .collect();
        assert_eq!(names, ["linux/amd64", "linux/arm64"]);
        assert!(of_hosts(b"garbage").is_empty());
    }
}
