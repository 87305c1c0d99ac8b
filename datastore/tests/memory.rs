//! What a driver takes of memory for what a tenant can write. A program of its own, so that no other
//! child counts, and which takes little itself: the kernel counts for a child what its parent had.
#![allow(
    clippy::unwrap_used,
    reason = "helpers of tests stand outside of #[test]"
)]

use std::fs::File;
use std::io::Write as _;
use std::process::{Command, Stdio};

use base64::engine::general_purpose::STANDARD;
use base64::write::EncoderWriter;
use nix::sys::resource::{UsageWho, getrusage};
use onedock_common::opennebula::xml::LIMIT;

/// The most that a driver may ever have used, in KiB.
const MOST: i64 = 64 << 10;

const BEGIN: &str = "<DS_DRIVER_ACTION_DATA><IMAGE>";
const END: &str = "</IMAGE><DATASTORE/></DS_DRIVER_ACTION_DATA>";
/// How many bytes IMAGE may have.
const ROOM: usize = LIMIT - BEGIN.len() - END.len();

/// Gives the driver a document with these pieces in IMAGE, and so many bytes behind it; its error.
fn refused<'a>(pieces: impl Iterator<Item = &'a str>, behind: usize) -> String {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("request");
    let mut packed = EncoderWriter::new(File::create(&path).unwrap(), &STANDARD);
    for piece in std::iter::once(BEGIN).chain(pieces).chain([END]) {
        packed.write_all(piece.as_bytes()).unwrap();
    }
    for _ in 0..behind / 1024 {
        packed.write_all(&[b' '; 1024]).unwrap();
    }
    packed.finish().unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_onedock-datastore"))
        .args(["cp", "7"])
        .env("ONEDOCK_CONF", dir.path().join("none"))
        .stdin(Stdio::from(File::open(&path).unwrap()))
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    String::from_utf8(output.stderr).unwrap()
}

#[test]
fn attack_7_a_document_costs_little_memory_whatever_is_in_it() {
    let crowd = || std::iter::repeat_n("<A/>", ROOM / 4);
    let line = refused(crowd(), 0);
    assert!(line.contains("more than 50000 elements"), "{line}");
    let line = refused(crowd(), LIMIT);
    assert!(line.contains("has more than"), "{line}");
    let value = std::iter::once("<PATH>")
        .chain(std::iter::repeat_n("x", ROOM - 13))
        .chain(["</PATH>"]);
    let line = refused(value, 0);
    assert!(line.contains("IMAGE/PATH"), "{line}");
    let name = "A".repeat(ROOM / 49_000 - 3);
    let long = ["<", name.as_str(), "/>"];
    let line = refused(std::iter::repeat_n(long, 49_000).flatten(), 0);
    assert!(line.contains("IMAGE/ID is missing"), "{line}");
    let most = getrusage(UsageWho::RUSAGE_CHILDREN).unwrap().max_rss();
    assert!(most < MOST, "{most} KiB");
}
