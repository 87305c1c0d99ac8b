//! A container's layer, packed by the real program and unpacked by a real engine.
#![allow(clippy::unwrap_used, reason = "fixed values of a test")]

mod changes;
mod hostile;
mod image;
mod quota;
mod tree;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use anyhow::{Result, ensure};
use onedock_common::ContainerId;
use onedock_tests::engine_server::PrivateEngine;
use onedock_tests::test_host::{CRUN, TestHost, boot_spec};

use tree::Tree;

/// Creates and starts a VM of `image`, which sleeps.
fn run(host: &TestHost, name: &str, image: &str) -> Result<ContainerId> {
    let id = host.create(&["--name", name], image)?;
    host.write_boot_spec(&id, &boot_spec(1)?)?;
    host.start_container(&id)?;
    Ok(id)
}

/// A running container's root, as its overlay shows it.
fn tree_of(host: &TestHost, container: &ContainerId) -> Result<Tree> {
    let root = host.root(container)?;
    host.engine.inside(|| tree::read(&root))
}

fn same(expected: &Tree, found: &Tree) -> Result<()> {
    let differences = tree::differences(expected, found);
    ensure!(differences.is_empty(), "{}", differences.join("\n"));
    ensure!(
        found.len() > 30,
        "only {} entries were compared",
        found.len()
    );
    Ok(())
}

fn host(arguments: &[&str]) -> Result<TestHost> {
    TestHost::start(env!("CARGO_BIN_EXE_onedock-runtime"), CRUN, arguments)
}

/// A base with a shell and files to change.
fn base(engine: &PrivateEngine) -> Result<()> {
    engine.busybox("shell:1", &["CMD [\"/bin/sleep\", \"1000\"]"])?;
    let root = engine.busybox_root(&["sleep"])?;
    changes::base(root.path())?;
    engine.import("base:1", root.path(), &["CMD [\"/bin/sleep\", \"1000\"]"])
}

/// Changes, packs, loads, runs and compares, twice over; then the whole tree in one layer.
fn survives(host: &TestHost, shift: u32) -> Result<ContainerId> {
    let engine = &host.engine;
    base(engine)?;
    let first = run(host, "first", "base:1")?;
    let untouched = image::pack(engine, &first, false)?;
    ensure!(
        fs::read(&untouched)? == [0; 1024],
        "an unchanged layer has entries"
    );

    let root = host.root(&first)?;
    engine.inside(|| changes::first(&root, shift))?;
    let expected = tree_of(host, &first)?;
    let archive = image::pack(engine, &first, false)?;
    image::load(engine, "base:1", &archive, false, "next:1")?;
    let then = run(host, "then", "next:1")?;
    same(&expected, &tree_of(host, &then)?)?;

    let root = host.root(&then)?;
    engine.inside(|| changes::second(&root, shift))?;
    let expected = tree_of(host, &then)?;
    for (name, whole) in [("third", false), ("whole", true)] {
        let archive = image::pack(engine, &then, whole)?;
        if whole {
            let names = engine.run("tar", &["-tf", archive.to_str().unwrap()])?;
            ensure!(!names.contains(".wh."), "{names}");
            ensure!(!names.contains("dockerenv"), "{names}");
        }
        let tag = format!("{name}:1");
        image::load(engine, "next:1", &archive, whole, &tag)?;
        let again = run(host, name, &tag)?;
        same(&expected, &tree_of(host, &again)?)?;
        let layers = engine.docker(&["inspect", "--format", "{{len .RootFS.Layers}}", &tag])?;
        ensure!(layers == if whole { "1" } else { "3" }, "{layers} layers");
    }
    no_mounts(engine, &host.upper(&then)?)?;
    Ok(first)
}

/// No overlay of ours is left in the engine's mount namespace.
fn no_mounts(engine: &PrivateEngine, upper: &Path) -> Result<()> {
    let mounts = engine.run("cat", &["/proc/self/mounts"])?;
    let own = format!(" {} ", upper.display());
    ensure!(!mounts.contains(&own), "{mounts}");
    Ok(())
}

#[test]
fn a_layer_of_every_kind_of_file_is_the_same_in_the_container_of_its_image() -> Result<()> {
    let host = host(&[])?;
    let driver = host.engine.docker(&["info", "--format", "{{.Driver}}"])?;
    ensure!(
        matches!(driver.as_str(), "overlay2" | "overlayfs"),
        "the engine's storage is {driver}"
    );
    survives(&host, 0).map(drop)
}

/// The engine makes its user in the `/etc` that is its own.
#[test]
fn under_userns_remap_the_layer_has_the_containers_owners() -> Result<()> {
    let data = tempfile::tempdir()?;
    // The container's root must reach its own files.
    fs::set_permissions(data.path(), fs::Permissions::from_mode(0o711))?;
    let host = host(&[
        "--userns-remap=default",
        &format!("--data-root={}", data.path().display()),
    ])?;
    let engine = &host.engine;
    let shift = engine.inside(|| {
        let table = fs::read_to_string("/etc/subuid")?;
        let line = table.lines().find(|line| line.starts_with("dockremap:"));
        Ok(line.unwrap().split(':').nth(1).unwrap().parse()?)
    })?;
    let first = survives(&host, shift)?;

    // A capability that the container's root has set is a plain one in the image.
    let root = host.root(&first)?;
    let own = [
        &[1, 0, 0, 3][..],
        &changes::CAPABILITY[4..],
        &u32::to_le_bytes(shift),
    ]
    .concat();
    engine.inside(|| {
        let flags = rustix::fs::XattrFlags::empty();
        let file = root.join("capable");
        fs::write(&file, "")?;
        std::os::unix::fs::chown(&file, Some(shift + 5), Some(0))?;
        Ok(rustix::fs::setxattr(
            &file,
            "security.capability",
            &own,
            flags,
        )?)
    })?;
    let archive = image::pack(engine, &first, false)?;
    let mut archive = tar::Archive::new(fs::File::open(archive)?);
    let found = archive.entries()?.find_map(|entry| {
        let mut entry = entry.ok()?;
        (&*entry.path_bytes() == b"capable").then_some(())?;
        let owner = (entry.header().uid().ok()?, entry.header().gid().ok()?);
        let records = entry.pax_extensions().ok()??;
        let capability = records
            .flatten()
            .find(|r| r.key() == Ok("SCHILY.xattr.security.capability"))?;
        Some((owner, capability.value_bytes().to_vec()))
    });
    ensure!(
        found == Some(((5, 65_534), changes::CAPABILITY.to_vec())),
        "{found:?}"
    );
    Ok(())
}
