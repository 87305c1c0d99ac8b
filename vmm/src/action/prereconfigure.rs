//! `prereconfigure`: before the context of a running VM is written anew. The folder is shown
//! inside, so that there is nothing to prepare; what could not be put into force by `reconfigure` is
//! refused here, where `oned` still takes back the attach of a NIC or an alias.

use onedock_common::opennebula::answer::Answer;
use onedock_common::opennebula::vm::Vm;

use super::running;
use crate::request::DeployedRequest;
use crate::{Host, plan};

pub(super) fn run<E, R>(
    host: &Host<E, R>,
    request: &DeployedRequest,
    document: &[u8],
) -> anyhow::Result<Answer> {
    let vm = Vm::from_action_with(document, host.config.default_prefix)?;
    running::ensure_same(&vm, request.name)?;
    plan::nics(&vm)?;
    Ok(Answer::done())
}
