//! The container that is a VM.

use super::{ContainerInfo, Engine, EngineError, labels};
use crate::types::ids::{ContainerName, VmId};

/// A VM's own container: by its name, else by its labels alone, because an administrator may have
/// renamed it. What has the name without the labels is foreign, and left alone.
///
/// # Errors
///
/// Those of the engine.
pub async fn own(engine: &impl Engine, vm: VmId) -> Result<Option<ContainerInfo>, EngineError> {
    let name = ContainerName::of(vm);
    if let Some(container) = engine.named(name).await? {
        if labels::is_of_vm(&container, vm) {
            return Ok(Some(container));
        }
        let container = container.id.short();
        tracing::warn!(container, "{name} is a foreign container, left alone");
    }
    let mut others = engine.of_vm(vm).await?;
    // Only a copy made by hand could be a second one; what runs is the VM.
    others.sort_by_key(|container| !container.running);
    let found = others.into_iter().next();
    if let Some(container) = &found {
        let container = container.id.short();
        tracing::warn!(container, "{name} was renamed, and is known by its labels");
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::engine::fake::FakeEngine;

    const VM: VmId = VmId::new(5);

    fn of_vm(vm: &str) -> BTreeMap<String, String> {
        [(labels::DRIVER, labels::ONEDOCK), (labels::VM, vm)]
            .map(|(label, value)| (label.to_owned(), value.to_owned()))
            .into()
    }

    async fn found(engine: &FakeEngine) -> Option<String> {
        let found = own(engine, VM).await.unwrap()?;
        let all = engine.containers().into_iter();
        let names = all.filter(|one| one.info.id == found.id);
        names.map(|one| one.name).next()
    }

    #[tokio::test]
    async fn fault_48_a_renamed_container_is_the_vm_and_a_foreign_one_of_the_name_is_not() {
        let engine = FakeEngine::default();
        assert_eq!(found(&engine).await, None);
        engine.add("one-6", of_vm("6"));
        engine.add("one-5", BTreeMap::new());
        assert_eq!(found(&engine).await, None);
        engine.add("stopped-copy", of_vm("5"));
        engine.add("renamed", of_vm("5"));
        engine.change("renamed", |one| one.info.running = true);
        assert_eq!(found(&engine).await.as_deref(), Some("renamed"));
    }

    #[tokio::test]
    async fn one_that_has_its_name_is_found_by_one_call() {
        let engine = FakeEngine::default();
        engine.add("one-5", of_vm("5"));
        assert_eq!(found(&engine).await.as_deref(), Some("one-5"));
        assert_eq!(engine.calls(), ["named"]);
    }
}
