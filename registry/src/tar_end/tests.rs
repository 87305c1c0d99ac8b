use super::*;

fn file(builder: &mut tar::Builder<Vec<u8>>, name: &str, content: &[u8]) {
    let mut header = tar::Header::new_gnu();
    header.set_size(content.len() as u64);
    header.set_mode(0o644);
    header.set_cksum();
    builder.append_data(&mut header, name, content).unwrap();
}

fn archive() -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    file(&mut builder, "a", b"content");
    builder
        .append_pax_extensions([("SCHILY.xattr.user.x", &b"a\nb"[..]), ("size", b"3000")])
        .unwrap();
    let mut header = tar::Header::new_ustar();
    header.set_path("big").unwrap();
    // What an extended header says counts, as where a file has more than 8 GiB.
    header.set_size(0);
    header.set_cksum();
    builder.append(&header, &[0u8; 3072][..]).unwrap();
    file(&mut builder, &"long/".repeat(40), &[0; 4096]);
    file(&mut builder, "zeros", &[0; 4096]);
    builder.into_inner().unwrap()
}

fn look(bytes: &[u8], piece: usize) -> Result<u64, String> {
    let mut end = TarEnd::new();
    for piece in bytes.chunks(piece.max(1)) {
        end.pass(piece)?;
    }
    end.finish()?;
    Ok(end.entries())
}

#[test]
fn a_whole_archive_passes_in_pieces_of_any_size() {
    let bytes = archive();
    let whole = look(&bytes, usize::MAX).unwrap();
    assert!(whole >= 4, "{whole}");
    for piece in [1, 7, 511, 512, 513, 4096] {
        assert_eq!(look(&bytes, piece), Ok(whole));
    }
}

#[test]
fn fault_24_an_archive_that_breaks_off_anywhere_is_refused() {
    let bytes = archive();
    // The last block may be missing from the padding only.
    for end in (1..bytes.len() - 512).step_by(256) {
        assert!(look(&bytes[..end], 1000).is_err(), "{end}");
    }
}

#[test]
fn an_archive_of_nothing_has_no_entries() {
    assert_eq!(look(&[], 1), Ok(0));
    assert_eq!(look(&[0; 1024], 512), Ok(0));
    assert_eq!(look(&[0; 10240], 512), Ok(0));
    assert!(look(&[0; 100], 512).is_err());
}

#[test]
fn attack_19_damaged_headers_and_what_follows_the_end_are_refused() {
    let bytes = archive();
    let mut bad = bytes.clone();
    bad[0] ^= 1;
    assert!(look(&bad, 512).is_err());
    let mut bad = bytes.clone();
    bad.extend_from_slice(&bytes);
    assert!(look(&bad, 512).unwrap_err().contains("behind its end"));
    assert!(look(&[b'x'; 5000], 512).is_err());
    for record in [
        "5 size=1",
        "99 size=1\n",
        "x size=1\n",
        "10 size=+1\n",
        "9 size=1\n ",
    ] {
        assert!(size_record(record.as_bytes()).is_err(), "{record}");
    }
    assert_eq!(size_record(b"9 size=1\n9 size=2\n"), Ok(Some(2)));
}

#[test]
fn sizes_are_octal_or_binary() {
    assert_eq!(number(b"00000000017\0"), Some(15));
    assert_eq!(number(b"        \0"), Some(0));
    assert_eq!(
        number(&[0x80, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0]),
        Some(2 << 32)
    );
    assert_eq!(number(&[0x80, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]), None);
    assert_eq!(number(b"0000000008\0\0"), None);
}
