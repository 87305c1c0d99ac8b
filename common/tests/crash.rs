//! A file that was replaced is there after a crash of the host; needs root.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Result, ensure};
use onedock_common::state::files;
use onedock_tests::machine::{Machine, Setting};

fn run(program: &str, arguments: &[&str]) -> Result<()> {
    let output = Command::new(program).args(arguments).output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{program} {arguments:?}: {said}");
    Ok(())
}

/// On xfs, which writes neither a new file's content nor a rename before somebody asks for it, and
/// can be told to stop as at a power failure.
#[test]
fn a_replaced_file_has_its_new_content_after_a_crash() -> Result<()> {
    let machine = Machine::start(Setting::default())?;
    let image = machine.folder().join("image");
    let place = machine.folder().join("disk");
    fs::create_dir(&place)?;
    fs::File::create(&image)?.set_len(320 << 20)?;
    let (image, place) = (image.display().to_string(), place.display().to_string());
    run("mkfs.xfs", &["-q", &image])?;
    machine.inside(|| {
        let mounted = || run("mount", &["-o", "loop", &image, &place]);
        let file = Path::new(&place).join("disk.0");
        mounted()?;
        files::replace(&file, b"old", 0o600)?;
        run("sync", &[])?;
        for content in ["new", "newer"] {
            files::replace(&file, content.as_bytes(), 0o600)?;
            run("xfs_io", &["-x", "-c", "shutdown", &place])?;
            run("umount", &[&place])?;
            mounted()?;
            ensure!(fs::read(&file)? == content.as_bytes(), "not {content}");
        }
        run("umount", &[&place])
    })
}
