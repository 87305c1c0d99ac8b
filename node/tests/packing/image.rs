//! Images made by hand from a base and a packed layer, as `docker load` takes them.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use onedock_common::{ContainerId, Digest};
use onedock_node::request::Request;
use onedock_tests::engine_server::PrivateEngine;
use serde_json::{Value, json};

/// Packs with the real program into a file.
pub(crate) fn pack(
    engine: &PrivateEngine,
    container: &ContainerId,
    whole: bool,
) -> Result<PathBuf> {
    let archive = engine.folder().join("layer.tar");
    let request = Request::PackLayer {
        container: container.clone(),
        whole,
    };
    let output = engine.inside(|| call(&request, fs::File::create(&archive)?.into()))?;
    ensure!(output.is_empty(), "{output}");
    Ok(archive)
}

/// Runs `onedock-node`; answers what it complained about.
pub(crate) fn call(request: &Request, out: Stdio) -> Result<String> {
    send(&serde_json::to_string(request)?, out)
}

/// The same with any text for a request.
pub(crate) fn send(request: &str, out: Stdio) -> Result<String> {
    let (read, mut write) = std::io::pipe()?;
    let child = Command::new(env!("CARGO_BIN_EXE_onedock-node"))
        .stdin(read)
        .stdout(out)
        .stderr(Stdio::piped())
        .spawn()?;
    write.write_all(request.as_bytes())?;
    drop(write);
    let output = child.wait_with_output()?;
    let text = String::from_utf8(output.stderr)?;
    ensure!(output.status.success() == text.is_empty(), "{text}");
    Ok(text)
}

/// Loads `base` with the layer on top, or the layer alone, as `name`.
pub(crate) fn load(
    engine: &PrivateEngine,
    base: &str,
    layer: &Path,
    whole: bool,
    name: &str,
) -> Result<()> {
    let folder = engine.folder().join("image");
    fs::create_dir(&folder)?;
    let text = folder.to_str().context("not text")?;
    let saved = engine.folder().join("saved.tar");
    let saved = saved.to_str().context("not text")?;
    engine.docker(&["save", "-o", saved, base])?;
    engine.run("tar", &["-C", text, "-xf", saved])?;
    let read = |path: &Path| -> Result<Value> { Ok(serde_json::from_slice(&fs::read(path)?)?) };
    let mut manifest = read(&folder.join("manifest.json"))?;
    let file = folder.join(manifest[0]["Config"].as_str().context("no config")?);
    let mut config = read(&file)?;
    let diff_id = json!(Digest::of(&fs::read(layer)?));
    let (layers, ids) = (
        manifest[0]["Layers"].as_array_mut().context("no layers")?,
        config["rootfs"]["diff_ids"]
            .as_array_mut()
            .context("no rootfs")?,
    );
    if whole {
        layers.clear();
        ids.clear();
        config["history"] = json!([]);
    }
    let layers = manifest[0]["Layers"].as_array_mut().context("no layers")?;
    layers.push(json!("further.tar"));
    config["rootfs"]["diff_ids"]
        .as_array_mut()
        .context("no rootfs")?
        .push(diff_id);
    config["history"]
        .as_array_mut()
        .context("no history")?
        .push(json!({"created": "2026-01-01T00:00:00Z", "comment": name}));
    fs::rename(layer, folder.join("further.tar"))?;
    fs::write(folder.join("config.json"), serde_json::to_vec(&config)?)?;
    manifest[0]["Config"] = json!("config.json");
    manifest[0]["RepoTags"] = json!([name]);
    fs::write(folder.join("manifest.json"), serde_json::to_vec(&manifest)?)?;
    // An archive that is an OCI layout too is read as that.
    for name in ["repositories", "index.json", "oci-layout"] {
        let _ = fs::remove_file(folder.join(name));
    }
    engine.run("tar", &["-C", text, "-cf", saved, "."])?;
    engine.docker(&["load", "-q", "-i", saved])?;
    fs::remove_file(saved)?;
    Ok(fs::remove_dir_all(folder)?)
}
