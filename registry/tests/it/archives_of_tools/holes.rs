//! Members with holes.

use std::fs;
use std::io::Write as _;
use std::process::Command;

use crate::images::{gzip, noise, tar_of};

use super::*;

#[tokio::test]
async fn archives_of_tar_with_holes_and_pax_headers_are_read() {
    let dir = tempfile::tempdir().unwrap();
    let mut image = small(1);
    // More runs than an old GNU header and one further block hold.
    let mut content = vec![0; 8 << 20];
    for n in 0..60 {
        let run = noise(n + 1, 4096);
        let start = usize::try_from(n).unwrap() * 131_072;
        content[start..start + 4096].copy_from_slice(&run);
    }
    image.layers = vec![tar_of("disk", &content, 0o644)];
    let folder = dir.path().join("image");
    for (name, bytes) in image.saved() {
        let path = folder.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        let mut file = fs::File::create(&path).unwrap();
        // Holes where there are zeros.
        for (n, block) in bytes.chunks(4096).enumerate() {
            if block.iter().any(|byte| *byte != 0) {
                use std::os::unix::fs::FileExt as _;
                file.write_all_at(block, n as u64 * 4096).unwrap();
            }
        }
        file.set_len(bytes.len() as u64).unwrap();
        file.flush().unwrap();
    }
    for format in [
        &["--format=gnu", "--sparse"][..],
        &["--format=posix", "--sparse"],
        &["--sparse-version=0.1"],
        &["--sparse-version=0.0"],
        &["--format=posix"],
        &["--format=v7"],
    ] {
        let path = dir.path().join("x.tar");
        let made = Command::new("tar")
            .args(format)
            .args(["-C", folder.to_str().unwrap(), "-cf"])
            .arg(&path)
            .arg(".")
            .output()
            .unwrap();
        assert!(made.status.success(), "{format:?} {made:?}");
        let bytes = fs::read(&path).unwrap();
        if format.iter().any(|word| word.contains("sparse")) {
            assert!(
                bytes.len() < 4 << 20,
                "{format:?}: there are no holes in it"
            );
        }
        is_registered(&path, &image).await;
        let packed = dir.path().join("x.tar.gz");
        fs::write(&packed, gzip(&bytes)).unwrap();
        is_registered(&packed, &image).await;
    }
}

#[tokio::test]
async fn attack_17_holes_have_limits() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("holes.tar");
    let big = fs::File::create(dir.path().join("layer.tar")).unwrap();
    big.set_len(2 << 40).unwrap();
    let made = Command::new("tar")
        .args(["--sparse", "-C", dir.path().to_str().unwrap(), "-cf"])
        .arg(&path)
        .arg("layer.tar")
        .output()
        .unwrap();
    assert!(made.status.success(), "{made:?}");
    let text = reason(&path, &[]).await;
    assert!(text.contains("larger than is supported"), "{text}");
}
