//! TEMPLATE/CONTEXT of a VM.

use std::collections::BTreeMap;

use crate::opennebula::xml::{Node, XmlError};
use crate::types::ids::DiskId;

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

    /// A variable's value; empty is absent.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.values
            .get(key)
            .map(|v| v.trim())
            .filter(|v| !v.is_empty())
    }
}
