//! The name of the registry: every host has to resolve it, because it is part of every image's
//! name.

use onedock_common::types::reference::RegistryName;
use std::net::IpAddr;

use super::Options;
use crate::error::{Error, Result};
use crate::host::Host;
use crate::setup::join::{self, Join};
use onedock_common::process::Command;

/// The name that is given; else the one it has had so far; else this machine's full name, if
/// that resolves to an address that others can reach; else such an address itself.
pub(super) fn choose(host: &Host, options: &Options) -> Result<RegistryName> {
    if let Some(name) = &options.name {
        return compose(name, options.port);
    }
    if let Ok(join) = Join::read(&host.path(join::PATH)) {
        let port = format!(":{}", options.port);
        if join.registry.as_str().ends_with(&port) {
            return Ok(join.registry);
        }
    }
    let full = ask("hostname", &["-f"]).unwrap_or_default();
    let full = full.trim();
    if !full.is_empty() && addresses_of(full).iter().any(is_reachable) {
        return compose(full, options.port);
    }
    let own = own_addresses();
    let address = own.iter().find(|a| a.is_ipv4()).or_else(|| own.first());
    match address {
        Some(address) => compose(&address.to_string(), options.port),
        None => Err(Error::refused(
            "this machine has no name and no address that other hosts reach; give --name HOST",
        )),
    }
}

fn compose(host: &str, port: u16) -> Result<RegistryName> {
    let text = match host.parse::<IpAddr>() {
        Ok(IpAddr::V6(address)) => format!("[{address}]:{port}"),
        _ => format!("{host}:{port}"),
    };
    text.parse()
        .map_err(|e| Error::refused(format!("\"{text}\" cannot name a registry: {e}")))
}

/// The addresses a name has on this machine, by every way that the system knows (`getent`).
pub(crate) fn addresses_of(name: &str) -> Vec<IpAddr> {
    let answer = ask("getent", &["ahosts", "--", name]).unwrap_or_default();
    answer
        .lines()
        .filter_map(|line| line.split_whitespace().next()?.parse().ok())
        .collect()
}

/// This machine's addresses that others may reach.
pub(super) fn own_addresses() -> Vec<IpAddr> {
    let answer = ask("hostname", &["-I"]).unwrap_or_default();
    answer
        .split_whitespace()
        .filter_map(|a| a.parse().ok())
        .filter(is_reachable)
        .collect()
}

fn is_reachable(address: &IpAddr) -> bool {
    let local = match address {
        IpAddr::V4(a) => a.is_link_local(),
        IpAddr::V6(a) => (a.segments()[0] & 0xffc0) == 0xfe80,
    };
    !address.is_loopback() && !address.is_unspecified() && !local
}

fn ask(program: &str, arguments: &[&str]) -> Result<String> {
    Ok(Command::local(program)
        .args(arguments)
        .checked()
        .map(|answer| answer.stdout)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_and_link_local_addresses_reach_nobody() {
        for (address, reaches) in [
            ("127.0.1.1", false),
            ("::1", false),
            ("fe80::1", false),
            ("169.254.0.1", false),
            ("10.0.0.1", true),
            ("2001:db8::1", true),
        ] {
            assert_eq!(
                is_reachable(&address.parse().unwrap()),
                reaches,
                "{address}"
            );
        }
    }

    #[test]
    fn a_name_gets_its_port_and_nonsense_is_refused() {
        assert_eq!(compose("frontend", 5000).unwrap().as_str(), "frontend:5000");
        for bad in ["a b", "", "a/b", "a\nb", "$(id)"] {
            assert!(compose(bad, 5000).is_err(), "{bad}");
        }
    }
}
