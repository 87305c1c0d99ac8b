//! What a recorded document asks for, read with a few lines of text search: not with the drivers'
//! own parser, which would agree with itself.

use anyhow::{Context as _, Result};
use onedock_common::opennebula::oned::context::context_sh;

/// A VM as its document describes it.
#[derive(Debug, Clone, PartialEq)]
pub struct Expected {
    /// VM/ID.
    pub vm: u32,
    /// The system datastore that it lives in (HISTORY/DS_ID).
    pub datastore: u32,
    /// That datastore's transfer manager (HISTORY/TM_MAD): `onedock`, or a stock one.
    pub transfer_manager: String,
    /// The name inside.
    pub hostname: String,
    /// TEMPLATE/CPU.
    pub cpu: f64,
    /// TEMPLATE/VCPU.
    pub vcpu: Option<u32>,
    /// TEMPLATE/MEMORY in MiB.
    pub memory: u64,
    /// The NICs in the order of the document.
    pub nics: Vec<Nic>,
    /// The disks in the order of the document.
    pub disks: Vec<Disk>,
    /// CONTEXT as the variables that a file for the guest has.
    pub context: Option<Vec<(String, String)>>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Disk {
    /// DISK_ID.
    pub id: u32,
    /// TYPE: `FILE`, `CDROM`, `fs`, `swap`.
    pub kind: String,
    /// The transfer manager whose scripts make it (DISK/TM_MAD).
    pub transfer_manager: String,
    /// SIZE in MiB.
    pub size: u64,
}

/// A NIC with its aliases' addresses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Nic {
    /// NIC_ID.
    pub id: u32,
    /// The name of its host end.
    pub target: String,
    /// BRIDGE, to which its host end belongs.
    pub bridge: String,
    /// Its MAC address.
    pub mac: String,
    /// Its IPv4 address and those of its aliases.
    pub addresses: Vec<String>,
    /// Its MTU.
    pub mtu: u32,
    /// Whether it is being attached or detached.
    pub attach: bool,
}

impl Expected {
    /// Reads the document of a `deploy`.
    pub fn of(document: &str) -> Result<Self> {
        // RESIZE tells what was before.
        let before = element(document, "RESIZE").map(|old| format!("<RESIZE>{old}</RESIZE>"));
        let document = &match before {
            Some(before) => document.replacen(&before, "", 1),
            None => document.to_owned(),
        };
        let template = element(document, "TEMPLATE").context("TEMPLATE")?;
        let must = |name: &str| value(template, name).with_context(|| name.to_owned());
        let context = element(template, "CONTEXT");
        let aliases = elements(template, "NIC_ALIAS");
        let mut nics = Vec::new();
        for nic in elements(template, "NIC") {
            let field = |name: &str| value(nic, name).with_context(|| format!("NIC/{name}"));
            let id: u32 = field("NIC_ID")?.parse()?;
            let mut addresses = vec![field("IP")?];
            for alias in &aliases {
                if value(alias, "PARENT_ID") == Some(id.to_string()) {
                    addresses.push(value(alias, "IP").context("NIC_ALIAS/IP")?);
                }
            }
            nics.push(Nic {
                id,
                target: field("TARGET")?,
                bridge: field("BRIDGE")?,
                mac: field("MAC")?,
                addresses,
                mtu: field("MTU")?.parse()?,
                attach: value(nic, "ATTACH").as_deref() == Some("YES"),
            });
        }
        let mut disks = Vec::new();
        for disk in elements(template, "DISK") {
            let field = |name: &str| value(disk, name).with_context(|| format!("DISK/{name}"));
            disks.push(Disk {
                id: field("DISK_ID")?.parse()?,
                kind: field("TYPE")?,
                transfer_manager: field("TM_MAD")?,
                size: field("SIZE")?.parse()?,
            });
        }
        let hostname = context
            .and_then(|c| value(c, "SET_HOSTNAME"))
            .or_else(|| value(document, "NAME"));
        let history = element(document, "HISTORY").context("HISTORY")?;
        let placed = |name: &str| value(history, name).with_context(|| format!("HISTORY/{name}"));
        Ok(Self {
            vm: value(document, "ID").context("ID")?.parse()?,
            datastore: placed("DS_ID")?.parse()?,
            transfer_manager: placed("TM_MAD")?,
            hostname: hostname.context("NAME")?,
            cpu: must("CPU")?.parse()?,
            vcpu: value(template, "VCPU").map(|n| n.parse()).transpose()?,
            memory: must("MEMORY")?.parse()?,
            nics,
            disks,
            context: context.map(variables),
        })
    }

    /// What the swap disks hold, in MiB.
    pub fn swap(&self) -> u64 {
        let swap = self.disks.iter().filter(|d| d.kind == "swap");
        swap.map(|d| d.size).sum()
    }

    /// Whether a stock transfer manager has the VM's folder.
    pub fn is_in_stock_datastore(&self) -> bool {
        self.transfer_manager != "onedock"
    }

    /// DISK_ID of the context's disk.
    pub fn context_disk(&self) -> Option<u32> {
        let context = self.context.as_ref()?;
        let found = context.iter().find(|(name, _)| name == "DISK_ID")?;
        found.1.parse().ok()
    }

    /// The file that `oned` writes of the context (`VirtualMachineContext.cc`).
    pub fn context_sh(&self) -> Option<String> {
        let variables = self.context.as_ref()?;
        Some(context_sh(
            variables.iter().map(|(name, value)| (name, value)),
        ))
    }
}

/// The inner text of the first element of this name.
fn element<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    elements(text, name).into_iter().next()
}

/// The inner texts of all elements of this name.
fn elements<'a>(text: &'a str, name: &str) -> Vec<&'a str> {
    let (open, close) = (format!("<{name}>"), format!("</{name}>"));
    let mut found = Vec::new();
    let mut rest = text;
    while let Some((_, after)) = rest.split_once(&open) {
        let Some((inner, after)) = after.split_once(&close) else {
            break;
        };
        found.push(inner);
        rest = after;
    }
    found
}

/// The text of the first element of this name; an empty one has none.
fn value(text: &str, name: &str) -> Option<String> {
    let inner = element(text, name)?;
    let inner = inner
        .strip_prefix("<![CDATA[")
        .and_then(|i| i.strip_suffix("]]>"))
        .unwrap_or(inner);
    (!inner.is_empty()).then(|| inner.to_owned())
}

/// Every child of a flat element.
fn variables(context: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut rest = context;
    while let Some((_, after)) = rest.split_once('<') {
        let Some((name, after)) = after.split_once('>') else {
            break;
        };
        let close = format!("</{name}>");
        match after.split_once(&close) {
            Some((_, after)) => {
                let text = value(rest, name).unwrap_or_default();
                found.push((name.to_owned(), text));
                rest = after;
            }
            None => {
                found.push((name.trim_end_matches('/').to_owned(), String::new()));
                rest = after;
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::replay::recording::Recording;

    #[test]
    fn the_recorded_documents_say_what_is_looked_for() {
        let recording = Recording::read("7.4.0").unwrap();
        let read = |operation: &str, driver: &str| {
            let calls = recording.operation(operation).unwrap();
            let call = calls.iter().find(|c| c.driver == driver).unwrap().clone();
            Expected::of(&call.stdin).unwrap()
        };
        let web = read("create", "vmm");
        assert_eq!((web.vm, web.hostname.as_str()), (5, "web01"));
        assert_eq!(
            (web.datastore, web.transfer_manager.as_str()),
            (101, "onedock")
        );
        assert_eq!((web.cpu, web.vcpu, web.memory), (0.5, Some(1), 256));
        assert_eq!(web.nics.len(), 2);
        assert_eq!(web.nics[0].addresses, ["10.77.0.42", "10.77.0.24"]);
        let kinds: Vec<&str> = web.disks.iter().map(|d| d.kind.as_str()).collect();
        assert_eq!(kinds, ["FILE", "fs", "swap", "FILE", "CDROM"]);
        assert_eq!((web.disks[1].size, web.swap()), (50, 32));
        let context = web.context_sh().unwrap();
        assert!(context.contains("GREETING='with '\\''quotes'\\'' & <angles>'\n"));
        assert!(context.contains("ETH0_EXTERNAL=''\n"), "{context}");
        let stock = read("ssh-create", "vmm");
        assert_eq!(
            (stock.datastore, stock.transfer_manager.as_str()),
            (102, "ssh")
        );
        assert_eq!(
            (stock.context_disk(), web.context_disk()),
            (Some(5), Some(5))
        );
        let later = read("resume-poff", "vmm");
        assert_eq!((later.cpu, later.vcpu, later.memory), (1.0, Some(2), 300));
        let keep = read("create-persistent", "vmm");
        assert_eq!((keep.hostname.as_str(), keep.context_sh()), ("keep", None));
    }
}
