use super::*;

#[test]
fn a_member_is_found_whatever_leads_to_it_and_nothing_above() {
    for name in ["a/b", "./a/b", "/a/b", "//a//b", "././a/./b", "a/b/"] {
        assert_eq!(key(name.as_bytes()).as_deref(), Some("a/b"), "{name}");
    }
    for name in ["", "/", ".", "..", "../a", "a/../b", "a/.."] {
        assert_eq!(key(name.as_bytes()), None, "{name}");
    }
    let long = "a".repeat(512);
    assert_eq!(key(long.as_bytes()), Some(long.clone()));
    assert_eq!(key(format!("{long}a").as_bytes()), None);
}

/// An archive of one member, plain or with gzip.
fn archive(name: &str, content: &[u8], gzip: bool) -> tempfile::NamedTempFile {
    let mut builder = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_size(content.len() as u64);
    header.set_mode(0o644);
    builder.append_data(&mut header, name, content).unwrap();
    let mut bytes = builder.into_inner().unwrap();
    if gzip {
        let level = flate2::Compression::fast();
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), level);
        std::io::Write::write_all(&mut encoder, &bytes).unwrap();
        bytes = encoder.finish().unwrap();
    }
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), bytes).unwrap();
    file
}

fn later() -> Instant {
    Instant::now() + std::time::Duration::from_secs(600)
}

fn reason<T>(result: Result<T, Error>) -> String {
    result.err().map(|e| e.to_string()).unwrap_or_default()
}

#[test]
fn an_archive_has_a_length_and_a_time() {
    for gzip in [false, true] {
        let file = archive("a", b"x", gzip);
        // Two blocks, and the end.
        let read = |limit, until| Table::read(file.path(), limit, until);
        assert!(read(2048, later()).is_ok(), "{gzip}");
        // Nothing behind the end is unpacked.
        let error = reason(read(if gzip { 1023 } else { 2047 }, later()));
        assert!(error.contains("supported"), "{gzip}: {error}");
        let error = reason(read(2048, Instant::now()));
        assert!(error.contains("took too long"), "{gzip}: {error}");
    }
}

#[test]
fn documents_are_read_within_the_time_and_again_a_few_times_only() {
    let file = archive("a", b"no json", true);
    let mut table = Table::read(file.path(), 1 << 20, later()).unwrap();
    assert!(table.cached.is_empty());
    for _ in 0..AGAIN {
        assert_eq!(table.document("a").unwrap(), &b"no json"[..]);
    }
    let error = reason(table.document("a"));
    assert!(error.contains("took too long"), "{error}");
    table.again.set(0);
    table.until = Instant::now();
    let error = reason(table.document("a"));
    assert!(error.contains("took too long"), "{error}");
}

#[test]
fn a_document_has_a_limit() {
    let limit = usize::try_from(CONFIG_LIMIT).unwrap();
    for (length, good) in [(limit, true), (limit + 1, false)] {
        let file = archive("a", &vec![b'x'; length], false);
        let table = Table::read(file.path(), 1 << 30, later()).unwrap();
        assert_eq!(table.document("a").is_ok(), good, "{length}");
    }
}

#[test]
fn what_looks_like_a_document_is_cached_to_a_limit() {
    let mut json = vec![b' '; usize::try_from(CACHED).unwrap() + 1];
    json[0] = b'{';
    for (length, count) in [(json.len(), 0), (json.len() - 1, 1)] {
        let file = archive("a", &json[..length], true);
        let table = Table::read(file.path(), 1 << 30, later()).unwrap();
        assert_eq!(table.cached.len(), count, "{length}");
    }
}

#[test]
fn a_document_is_known_behind_white_space_and_a_mark() {
    for text in [&b"{"[..], b"[1", b"\xef\xbb\xbf{", b" \n\t{"] {
        assert!(looks_like_json(text));
    }
    for text in [&b""[..], b"x", b"\x1f\x8b", b"      "] {
        assert!(!looks_like_json(text));
    }
}
