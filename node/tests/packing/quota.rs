//! The bound of a layer where the storage keeps none. Where it keeps one: the walk in the virtual
//! machine, whose kernel has quotas on xfs.

use std::fs;

use anyhow::{Result, ensure};
use onedock_node::request::{Answer, Request};
use onedock_tests::engine_server::uses_containerd;
use onedock_tests::test_host::IMAGE;

use crate::{host, image, run};

#[test]
fn a_layer_on_storage_without_quotas_is_not_bound() -> Result<()> {
    let host = host(&[])?;
    let engine = &host.engine;
    let request = Request::BoundLayer {
        container: run(&host, "box", IMAGE)?,
        size_mib: 100,
    };
    let answer = engine.folder().join("answer");
    let out = fs::File::create(&answer)?;
    let error = engine.inside(|| image::call(&request, out.into()))?;
    ensure!(error.is_empty(), "{error}");
    let answer: Answer = serde_json::from_slice(&fs::read(answer)?)?;
    ensure!(answer.done && answer.unbounded, "{answer:?}");

    // What the engine says to a container that asks for one: containerd's store takes it in silence.
    if uses_containerd() {
        return Ok(());
    }
    let arguments = ["create", "--storage-opt", "size=20M", IMAGE];
    let output = engine.output("docker", &arguments)?;
    let error = String::from_utf8(output.stderr)?;
    ensure!(!output.status.success());
    ensure!(
        error.contains("--storage-opt is supported only for overlay over xfs"),
        "{error}"
    );
    Ok(())
}
