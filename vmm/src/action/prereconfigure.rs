//! `prereconfigure`: before the context of a running VM is written anew. The folder is shown
//! inside, so that there is nothing to prepare. It is also all that is called of a VMM driver when
//! an alias is attached or detached (`one_vmm_exec.rb`, `attach_nic`), which this version cannot
//! do to a running VM: a failure here makes `oned` take the change back.

use anyhow::{Context as _, bail};
use onedock_common::opennebula::answer::Answer;
use onedock_common::opennebula::vm::Vm;

use super::running;
use crate::request::DeployedRequest;

pub(super) fn run(request: &DeployedRequest, document: &[u8]) -> anyhow::Result<Answer> {
    let vm = Vm::from_action(document)?;
    running::ensure_same(&vm, request.name)?;
    let template = vm.template.node();
    for alias in template.children("NIC_ALIAS") {
        if alias.switch("ATTACH")? {
            let id = alias.text("NIC_ID")?.context("an alias has no NIC_ID")?;
            bail!(
                "the alias NIC {id} cannot be attached to a running VM or detached from one by this version of the driver; power the VM off, change the alias, and resume the VM"
            );
        }
    }
    Ok(Answer::done())
}
