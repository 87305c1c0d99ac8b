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
    let mut end = TarCheck::new();
    for piece in bytes.chunks(piece.max(1)) {
        end.read(piece)?;
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

/// A header of an entry, with its checksum.
fn header(kind: u8, size: u64) -> tar::Header {
    let mut header = tar::Header::new_gnu();
    header.set_path("x").unwrap();
    header.set_entry_type(tar::EntryType::new(kind));
    header.set_size(size);
    header.set_mode(0o644);
    header.set_cksum();
    header
}

fn blocks(all: &[&[u8]]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for block in all {
        bytes.extend_from_slice(block);
        bytes.resize(bytes.len().next_multiple_of(BLOCK), 0);
    }
    bytes
}

const END: &[u8] = &[0; 1024];

#[test]
fn an_archive_ends_with_two_blocks_of_zeros_where_a_header_could_stand() {
    let entry = header(b'0', 700);
    let content = [b'c'; 700];
    let whole = blocks(&[entry.as_bytes(), &content, END]);
    assert_eq!(look(&whole, 512), Ok(1));
    assert!(look(&whole[..whole.len() - 512], 512).is_err(), "one block");
    assert!(look(&whole[..whole.len() - 1], 512).is_err(), "cut block");
    assert!(look(&[&whole[..], &[0; 100]].concat(), 512).is_err());
    // Zeros that are content are no end.
    let zeros = blocks(&[header(b'0', 4096).as_bytes(), &[0; 2048]]);
    assert!(look(&zeros, 512).is_err());
    // Blocks of zeros that are followed by content only.
    let early = blocks(&[END, header(b'0', 0).as_bytes()]);
    assert!(look(&early, 512).is_err());
}

#[test]
fn what_has_no_content_has_none_whatever_its_size_says() {
    for kind in b'1'..=b'6' {
        let link = header(kind, 4096);
        let whole = blocks(&[link.as_bytes(), header(b'0', 0).as_bytes(), END]);
        assert_eq!(look(&whole, 512), Ok(2), "{}", char::from(kind));
    }
    // The size that was said for a link is not that of the entry behind it.
    let text = b"13 size=4096\n";
    let extended = header(b'x', text.len() as u64);
    let (link, file) = (header(b'2', 0), header(b'0', 512));
    let whole = blocks(&[
        extended.as_bytes(),
        text,
        link.as_bytes(),
        file.as_bytes(),
        &[b'c'; 512],
        END,
    ]);
    assert_eq!(look(&whole, 512), Ok(3));
}

#[test]
fn a_long_name_has_its_own_size_and_the_entry_behind_it_the_one_that_was_said() {
    let text = b"13 size=1024\n";
    let extended = header(b'x', text.len() as u64);
    let name = [b'n'; 600];
    let (long, file) = (header(b'L', 600), header(b'0', 0));
    let whole = blocks(&[
        extended.as_bytes(),
        text,
        long.as_bytes(),
        &name,
        file.as_bytes(),
        &[b'c'; 1024],
        END,
    ]);
    assert_eq!(look(&whole, 512), Ok(3));
}

#[test]
fn an_extended_header_may_be_empty_or_longer_than_a_block_but_has_a_limit() {
    let (empty, file) = (header(b'x', 0), header(b'0', 0));
    let whole = blocks(&[empty.as_bytes(), file.as_bytes(), END]);
    assert_eq!(look(&whole, 512), Ok(2));
    let mut text = format!("1000 SCHILY.xattr.user.x={}", "v".repeat(1000 - 26)).into_bytes();
    text.push(b'\n');
    assert_eq!(text.len(), 1000);
    text.extend_from_slice(b"13 size=1024\n");
    let extended = header(b'x', text.len() as u64);
    let whole = blocks(&[extended.as_bytes(), &text, file.as_bytes(), &[1; 1024], END]);
    assert_eq!(look(&whole, 512), Ok(2));
    let huge = header(b'x', EXTENDED_LIMIT + 1);
    assert!(look(huge.as_bytes(), 512).unwrap_err().contains("damaged"));
    let most = header(b'x', EXTENDED_LIMIT);
    assert!(
        look(most.as_bytes(), 512)
            .unwrap_err()
            .contains("breaks off")
    );
}

#[test]
fn the_map_of_a_file_with_holes_goes_on_over_as_many_blocks_as_say_so() {
    let mut sparse = header(b'S', 512);
    sparse.as_gnu_mut().unwrap().set_is_extended(true);
    sparse.set_cksum();
    let (mut more, last) = ([1; 512], [1; 504]);
    more[504] = 1;
    let whole = blocks(&[sparse.as_bytes(), &more, &last, &[b'c'; 512], END]);
    assert_eq!(look(&whole, 512), Ok(1));
}

#[test]
fn a_tar_archive_is_known_by_the_checksum_of_its_first_header_alone() {
    let mut old = tar::Header::new_old();
    old.set_path("x").unwrap();
    old.set_size(0);
    old.set_cksum();
    assert!(is_tar(old.as_bytes()));
    assert!(is_tar(&archive()));
    assert!(!is_tar(&old.as_bytes()[..511]));
    assert!(!is_tar(&[0; 512]));
    assert!(!is_tar(&[b' '; 512]));
}
