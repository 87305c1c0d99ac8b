//! Notes for the VM's log about a template before a start: what is not supported, and what was
//! left out.

use std::path::Path;

use onedock_common::opennebula::vm::Vm;

use crate::{attributes, bridges};

/// Before a VM is started; an error where the template asks for what is refused.
pub(super) fn before_start(action: &str, vm: &Vm) -> anyhow::Result<Vec<String>> {
    let mut lines = attributes::at_start(action, vm)?;
    lines.extend(odd(action, vm));
    Ok(lines)
}

/// Before a VM goes on that was started before.
pub(super) fn before_restore(action: &str, vm: &Vm) -> Vec<String> {
    let mut lines = attributes::at_restore(action, vm);
    lines.extend(odd(action, vm));
    lines
}

fn odd(action: &str, vm: &Vm) -> impl Iterator<Item = String> {
    let larger = bridges::larger_mtu(&vm.nics, Path::new(bridges::LINKS));
    let lines = vm.left_out.iter().cloned().chain(larger);
    lines.map(move |line| format!("{action}: {line}"))
}
