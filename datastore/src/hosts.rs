//! The platforms of the hosts that OpenNebula knows, for images that are built for several.

use std::collections::BTreeSet;
use std::process::{Command, Stdio};

use anyhow::Context as _;
use onedock_common::config::Config;
use onedock_common::xml::Element;
use onedock_registry::Platform;

/// ONEDOCK_PLATFORMS, else what the hosts of VM_MAD onedock report as ARCH, else this machine's.
pub(crate) fn platforms(config: &Config) -> anyhow::Result<Vec<Platform>> {
    if !config.platforms.is_empty() {
        return config
            .platforms
            .iter()
            .map(|p| p.parse().context("ONEDOCK_PLATFORMS"))
            .collect();
    }
    // As oneadmin; where there is no oned, or no host yet, the front-end's own is the best guess.
    let mut found = match Command::new("onehost")
        .args(["list", "-x"])
        .stdin(Stdio::null())
        .output()
    {
        Ok(output) if output.status.success() => of_hosts(&output.stdout),
        _ => BTreeSet::new(),
    };
    if found.is_empty() {
        found.insert(Platform::here());
    }
    Ok(found.into_iter().collect())
}

fn of_hosts(xml: &[u8]) -> BTreeSet<Platform> {
    let Ok(pool) = Element::document(xml, "HOST_POOL") else {
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
