//! TEMPLATE/CONTEXT of a VM.

use std::collections::BTreeMap;

use crate::opennebula::xml::{Node, XmlError};
use crate::types::ids::DiskId;

/// What is applied inside the VM. Of FILES one may be `init.sh`, which is run.
const INSIDE: [&str; 18] = [
    "CRYPTED_PASSWORD",
    "CRYPTED_PASSWORD_BASE64",
    "EC2_PUBLIC_KEY",
    "FILES",
    "FILES_DS",
    "INIT_SCRIPTS",
    "PASSWORD",
    "PASSWORD_BASE64",
    "READY_SCRIPT",
    "READY_SCRIPT_PATH",
    "REPORT_READY",
    "SSH_PUBLIC_KEY",
    "START_SCRIPT",
    "START_SCRIPT_BASE64",
    "TIMEZONE",
    "USERNAME",
    "USERNAME_PASSWORD_RESET",
    "USERNAME_SUDO",
];

/// TEMPLATE/CONTEXT: the variables as users and `oned` wrote them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Context {
    /// DISK_ID: the context files are `disk.<this>` of the VM's folder.
    pub disk: DiskId,
    values: BTreeMap<String, String>,
}

impl Context {
    pub(super) fn from_node(node: &Node<'_>) -> Result<Self, XmlError> {
        Ok(Self {
            disk: node.required("DISK_ID")?,
            values: node
                .entries()
                .map(|(key, value)| (key.to_owned(), value.to_owned()))
                .collect(),
        })
    }

    /// Whether it asks for something that is done inside the VM, by `onedock-init` (`init/program`).
    pub fn asks_inside(&self) -> bool {
        INSIDE.iter().any(|key| self.get(key).is_some())
    }

    /// A variable's value; empty is absent.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.values
            .get(key)
            .map(|v| v.trim())
            .filter(|v| !v.is_empty())
    }
}
