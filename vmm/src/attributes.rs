//! What a template can ask, and what becomes of it: one table. An attribute that this version
//! does not support is noted in the VM's log, or the VM is refused; it is never passed over.
//!
//! The rule (`docs/decisions/0031-attributes-that-are-not-served.md`): an attribute is **refused**
//! where the VM would run without something that guards its data, its secrets or its way to the
//! network, or where a device of the host was set aside for it. It is **logged** where the VM works
//! with less than was asked for. It is **without meaning** where it describes a machine that a
//! container does not have, and nothing that a user counts on is missing.
//!
//! An attribute that is empty, `0`, `NO`, `FALSE` or `NONE` asks for nothing.

mod devices;
mod guest;
mod machine;
mod row;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Display;
use std::str::FromStr;

use anyhow::bail;
use onedock_common::opennebula::vm::Vm;
use onedock_common::opennebula::xml::Node;
use onedock_common::{DiskId, NicId};

pub use row::{Row, Section, Verdict};

/// The table. The first row that has an attribute's name is the one that counts.
pub fn table() -> impl Iterator<Item = &'static Row> {
    [machine::ROWS, devices::ROWS, guest::ROWS]
        .into_iter()
        .flatten()
}

/// The row of an attribute.
pub fn of(section: Section, name: &str) -> Option<&'static Row> {
    table().find(|row| row.is_about(section, name))
}

/// What a template asks for that is not supported, row by row.
type Found = BTreeMap<usize, Mentions>;

/// The attributes of one row that a template has, and the sections that they are in.
#[derive(Debug, Default)]
struct Mentions {
    names: BTreeSet<String>,
    ids: BTreeSet<String>,
}

/// Lines for the VM's log about all that the VM asks for and that is not supported; an error where
/// it is to be refused.
pub fn at_start(action: &str, vm: &Vm) -> anyhow::Result<Vec<String>> {
    judge(action, &all(vm))
}

/// The same for a VM that was started before, and only goes on: nothing is refused any more.
pub fn at_restore(action: &str, vm: &Vm) -> Vec<String> {
    let found = all(vm);
    found
        .iter()
        .filter_map(|(row, mentions)| Some(line(action, table().nth(*row)?, mentions)))
        .collect()
}

/// The same about one disk.
pub fn of_disk(action: &str, vm: &Vm, disk: DiskId) -> anyhow::Result<Vec<String>> {
    of_one(action, vm, Section::Disk, disk)
}

/// The same about one NIC.
pub fn of_nic(action: &str, vm: &Vm, nic: NicId) -> anyhow::Result<Vec<String>> {
    of_one(action, vm, Section::Nic, nic)
}

fn of_one<I: FromStr<Err: Display> + PartialEq>(
    action: &str,
    vm: &Vm,
    section: Section,
    id: I,
) -> anyhow::Result<Vec<String>> {
    let mut found = Found::new();
    let template = vm.template.node();
    if let (Some(name), Some(key)) = (section.name(), section.id()) {
        for node in template.children(name) {
            if node.value::<I>(key)?.is_some_and(|other| other == id) {
                collect(section, &node, &mut found);
            }
        }
    }
    judge(action, &found)
}

/// The same about the context, which was written anew while the VM runs.
pub fn of_context(action: &str, vm: &Vm) -> anyhow::Result<Vec<String>> {
    let mut found = Found::new();
    for node in vm.template.node().children("CONTEXT") {
        collect(Section::Context, &node, &mut found);
    }
    judge(action, &found)
}

fn all(vm: &Vm) -> Found {
    let mut found = Found::new();
    let template = vm.template.node();
    collect(Section::Template, &template, &mut found);
    for section in [
        Section::Disk,
        Section::Nic,
        Section::Alias,
        Section::Context,
        Section::Os,
        Section::Topology,
    ] {
        for node in section.name().into_iter().flat_map(|n| {
            // The iterator borrows the name; the list ends that.
            template.children(n).collect::<Vec<_>>()
        }) {
            collect(section, &node, &mut found);
        }
    }
    if let Some(user) = &vm.user_template {
        collect(Section::User, &user.node(), &mut found);
    }
    found
}

fn collect(section: Section, node: &Node<'_>, found: &mut Found) {
    let id = section
        .id()
        .and_then(|name| node.text(name).ok().flatten())
        .unwrap_or_default();
    for child in node.all() {
        let mut rows = table().enumerate();
        let Some((at, row)) = rows.find(|(_, row)| row.is_about(section, child.name())) else {
            continue;
        };
        let unsupported = matches!(row.verdict, Verdict::Refused | Verdict::Logged);
        if unsupported && asks(row, &child) {
            let mentions = found.entry(at).or_default();
            mentions.names.insert(child.name().to_owned());
            if !id.is_empty() {
                mentions.ids.insert(id.to_owned());
            }
        }
    }
}

fn asks(row: &Row, attribute: &Node<'_>) -> bool {
    match attribute.value_text() {
        // A section.
        None => !attribute.is_empty(),
        Some(value) => {
            let off = ["0", "NO", "FALSE", "NONE"]
                .iter()
                .any(|off| value.eq_ignore_ascii_case(off));
            !off && (row.asks)(value)
        }
    }
}

fn judge(action: &str, found: &Found) -> anyhow::Result<Vec<String>> {
    let rows = || {
        found
            .iter()
            .filter_map(|(at, mentions)| Some((table().nth(*at)?, mentions)))
    };
    let refused: Vec<String> = rows()
        .filter(|(row, _)| row.verdict == Verdict::Refused)
        .map(|(row, mentions)| format!("{} ({})", subject(row, mentions), row.effect))
        .collect();
    if !refused.is_empty() {
        bail!(
            "the template asks for what this version of the driver does not support: {}; take it out of the template, or run the VM on another hypervisor",
            refused.join(", ")
        );
    }
    Ok(rows()
        .map(|(row, mentions)| line(action, row, mentions))
        .collect())
}

fn line(action: &str, row: &Row, mentions: &Mentions) -> String {
    format!(
        "{action}: {} is not supported by this version of the driver: {}",
        subject(row, mentions),
        row.effect
    )
}

/// `INBOUND_AVG_BW, INBOUND_PEAK_BW of NIC 0, 2`.
fn subject(row: &Row, mentions: &Mentions) -> String {
    let join = |set: &BTreeSet<String>| set.iter().cloned().collect::<Vec<_>>().join(", ");
    match row.section.name() {
        None => join(&mentions.names),
        Some(section) if mentions.ids.is_empty() => {
            let names: Vec<_> = mentions
                .names
                .iter()
                .map(|n| format!("{section}/{n}"))
                .collect();
            names.join(", ")
        }
        Some(section) => format!(
            "{} of {section} {}",
            join(&mentions.names),
            join(&mentions.ids)
        ),
    }
}

#[cfg(test)]
mod tests;
