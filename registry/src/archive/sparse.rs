//! Members with holes, as GNU tar, bsdtar and others write them for files with runs of zeros:
//! GNU's old entry type `S`, and the PAX forms 0.0, 0.1 and 1.0 (GNU tar manual, "Storing Sparse
//! Files"). The tar crate reads the first, and does not give the offsets of the bytes.

use std::collections::BTreeMap;
use std::io::{self, Read};

use onedock_common::types::decimal::parse_whole;
use tar::{GnuExtSparseHeader, GnuHeader, GnuSparseHeader};

use super::member::Part;

/// The most runs of bytes of one member.
const PARTS: usize = 500_000;
/// A block of an archive, in bytes.
const BLOCK: usize = 512;

/// The runs of a member, and its size.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Map {
    pub(super) size: u64,
    pub(super) parts: Vec<Part>,
}

/// What PAX headers say of a member with holes.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Pax {
    /// Its real name; the entry's own is a substitute for programs that do not know this form.
    pub(super) name: Option<String>,
    size: u64,
    /// The map of the forms 0.0 and 0.1; `None`: it is before the data.
    runs: Option<Vec<(u64, u64)>>,
}

impl Pax {
    /// From the keys and values of an entry's PAX header; `None` when they say nothing of holes.
    pub(super) fn of<'a>(
        headers: impl Iterator<Item = (&'a str, &'a str)>,
    ) -> io::Result<Option<Self>> {
        let mut found = BTreeMap::new();
        let (mut runs, mut offset) = (Vec::new(), None);
        for (key, value) in headers {
            let Some(key) = key.strip_prefix("GNU.sparse.") else {
                continue;
            };
            match (key, offset) {
                // Form 0.0 repeats them, which no other form may.
                ("offset", None) => offset = Some(number(value)?),
                ("numbytes", Some(start)) => {
                    runs.push((start, number(value)?));
                    offset = None;
                }
                _ => drop(found.insert(key, value)),
            }
            if runs.len() > PARTS {
                return Err(wrong());
            }
        }
        if found.is_empty() {
            return Ok(None);
        }
        let size = found.get("realsize").or(found.get("size"));
        let runs = match found.get("map") {
            Some(map) => Some(pairs(map)?),
            None if found.get("major") == Some(&"1") => None,
            None => Some(runs),
        };
        Ok(Some(Self {
            name: found.get("name").map(|name| (*name).to_owned()),
            size: number(size.ok_or_else(wrong)?)?,
            runs,
        }))
    }

    /// The map of an entry whose data begins at `offset` and has `length` bytes. `data` is read
    /// when the map is before the data.
    pub(super) fn map(self, offset: u64, length: u64, data: &mut dyn Read) -> io::Result<Map> {
        let (runs, before) = match self.runs {
            Some(runs) => (runs, 0),
            None => leading_map(data)?,
        };
        let held = length.checked_sub(before).ok_or_else(wrong)?;
        map(&runs, offset + before, held, self.size)
    }
}

/// The map of an old GNU entry of `size` bytes, whose header was followed by `offset`. Where the
/// header says so its map goes on in `blocks`, which are before the data.
pub(super) fn old_gnu(
    header: &GnuHeader,
    offset: u64,
    size: u64,
    blocks: &mut dyn Read,
) -> io::Result<Map> {
    let mut runs = Vec::new();
    add(&mut runs, &header.sparse)?;
    let (mut continued, mut before) = (header.is_extended(), 0);
    while continued {
        let mut block = GnuExtSparseHeader::new();
        blocks.read_exact(block.as_mut_bytes())?;
        before += BLOCK as u64;
        add(&mut runs, &block.sparse)?;
        continued = block.is_extended();
    }
    // The tar crate has compared the runs with the length in the header.
    map(&runs, offset + before, u64::MAX, size)
}

fn add(runs: &mut Vec<(u64, u64)>, entries: &[GnuSparseHeader]) -> io::Result<()> {
    for entry in entries.iter().filter(|entry| !entry.is_empty()) {
        runs.push((entry.offset()?, entry.length()?));
    }
    if runs.len() > PARTS {
        return Err(wrong());
    }
    Ok(())
}

/// Form 1.0: the number of runs and each run's offset and length, a line each, filled up to a
/// whole block. Answers how many bytes it takes, too.
fn leading_map(data: &mut dyn Read) -> io::Result<(Vec<(u64, u64)>, u64)> {
    let (mut numbers, mut wanted, mut line) = (Vec::new(), None, String::new());
    let mut before = 0;
    loop {
        let mut block = [0; BLOCK];
        data.read_exact(&mut block)?;
        before += BLOCK as u64;
        for byte in block {
            match byte {
                b'\n' => {
                    let value = number(&line)?;
                    line.clear();
                    match wanted {
                        None if value <= PARTS as u64 => wanted = Some(value * 2),
                        None => return Err(wrong()),
                        Some(_) => numbers.push(value),
                    }
                }
                byte if line.len() < 20 => line.push(char::from(byte)),
                _ => return Err(wrong()),
            }
            if wanted == Some(numbers.len() as u64) {
                let runs = numbers.chunks_exact(2);
                let run = |pair: &[u64]| Some((*pair.first()?, *pair.get(1)?));
                return Ok((runs.filter_map(run).collect(), before));
            }
        }
    }
}

/// `offset,length,offset,length…` of form 0.1.
fn pairs(text: &str) -> io::Result<Vec<(u64, u64)>> {
    let numbers: Vec<u64> = text
        .split(',')
        .filter(|number| !number.is_empty())
        .take(2 * PARTS + 1)
        .map(number)
        .collect::<io::Result<_>>()?;
    if !numbers.len().is_multiple_of(2) || numbers.len() > 2 * PARTS {
        return Err(wrong());
    }
    let run = |pair: &[u64]| Some((*pair.first()?, *pair.get(1)?));
    Ok(numbers.chunks_exact(2).filter_map(run).collect())
}

/// Runs that follow each other in the archive from `offset` on, where `held` bytes lie.
fn map(runs: &[(u64, u64)], offset: u64, held: u64, size: u64) -> io::Result<Map> {
    let (mut parts, mut end, mut used) = (Vec::new(), 0, 0_u64);
    for (start, length) in runs.iter().filter(|(_, length)| *length > 0) {
        let stop = start.checked_add(*length).ok_or_else(wrong)?;
        if *start < end || stop > size {
            return Err(wrong());
        }
        parts.push(Part {
            at: *start,
            offset: offset.checked_add(used).ok_or_else(wrong)?,
            length: *length,
        });
        end = stop;
        used = used.checked_add(*length).ok_or_else(wrong)?;
    }
    if used > held {
        return Err(wrong());
    }
    Ok(Map { size, parts })
}

fn number(text: &str) -> io::Result<u64> {
    parse_whole(text).map_err(|_| wrong())
}

fn wrong() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "a map of holes is damaged")
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOTHING: &[u8] = b"";

    fn pax(headers: &[(&str, &str)]) -> io::Result<Option<Pax>> {
        Pax::of(headers.iter().copied())
    }

    fn part(at: u64, offset: u64, length: u64) -> Part {
        Part { at, offset, length }
    }

    #[test]
    fn the_three_pax_forms_say_the_same() {
        let whole = Map {
            size: 5000,
            parts: vec![part(0, 10_000, 10), part(4096, 10_010, 100)],
        };
        for headers in [
            &[
                ("GNU.sparse.size", "5000"),
                ("GNU.sparse.numblocks", "3"),
                ("GNU.sparse.offset", "0"),
                ("GNU.sparse.numbytes", "10"),
                ("GNU.sparse.offset", "4096"),
                ("GNU.sparse.numbytes", "100"),
                ("GNU.sparse.offset", "5000"),
                ("GNU.sparse.numbytes", "0"),
            ][..],
            &[
                ("GNU.sparse.size", "5000"),
                ("GNU.sparse.name", "a"),
                ("GNU.sparse.map", "0,10,4096,100,5000,0"),
            ],
        ] {
            let found = pax(headers).unwrap().unwrap();
            assert_eq!(found.map(10_000, 110, &mut &*NOTHING).unwrap(), whole);
        }
        let headers = [
            ("GNU.sparse.major", "1"),
            ("GNU.sparse.minor", "0"),
            ("GNU.sparse.name", "layer.tar"),
            ("GNU.sparse.realsize", "5000"),
        ];
        let found = pax(&headers).unwrap().unwrap();
        assert_eq!(found.name.as_deref(), Some("layer.tar"));
        let mut data = b"3\n0\n10\n4096\n100\n5000\n0\n".to_vec();
        data.resize(512, 0);
        let map = found.map(10_000 - 512, 512 + 110, &mut &data[..]).unwrap();
        assert_eq!(map, whole);
        assert_eq!(pax(&[("path", "x"), ("size", "5")]).unwrap(), None);
    }

    #[test]
    fn attack_19_maps_that_contradict_themselves_are_refused() {
        let with = |size, map, held| {
            let headers = [("GNU.sparse.size", size), ("GNU.sparse.map", map)];
            pax(&headers)?.unwrap().map(0, held, &mut &*NOTHING)
        };
        assert!(with("100", "0,10,20,10", 20).is_ok());
        for (size, map, held) in [
            ("100", "0,10,5,10", 20),
            ("100", "20,10,0,10", 20),
            ("100", "95,10", 20),
            ("100", "0,10,20", 20),
            ("100", "0,10,20,11", 20),
            ("100", "0,x", 20),
            ("x", "0,10", 20),
            ("100", "18446744073709551615,10", 20),
        ] {
            assert!(with(size, map, held).is_err(), "{size} {map}");
        }
        assert!(pax(&[("GNU.sparse.major", "1")]).is_err());
        let headers = [("GNU.sparse.major", "1"), ("GNU.sparse.realsize", "1")];
        for data in ["9999999\n", "1\n0\n", "x\n", "000000000000000000001\n"] {
            let found = pax(&headers).unwrap().unwrap();
            let mut data = data.as_bytes().to_vec();
            data.resize(1024, b'0');
            assert!(found.map(0, 4096, &mut &data[..]).is_err());
        }
    }

    #[test]
    fn an_old_map_goes_on_in_further_blocks() {
        let mut header = tar::Header::new_gnu();
        let gnu = header.as_gnu_mut().unwrap();
        let set = |entry: &mut GnuSparseHeader, n: u64| {
            entry.set_offset(4096 * n);
            entry.set_length(512);
        };
        for (entry, n) in gnu.sparse.iter_mut().zip(0..) {
            set(entry, n);
        }
        gnu.set_is_extended(true);
        let (mut block, mut last) = (GnuExtSparseHeader::new(), GnuExtSparseHeader::new());
        for (entry, n) in block.sparse.iter_mut().zip(4..) {
            set(entry, n);
        }
        block.set_is_extended(true);
        for (entry, n) in last.sparse.iter_mut().zip(25..).take(5) {
            set(entry, n);
        }
        let blocks = [&block.as_bytes()[..], last.as_bytes()].concat();
        let map = old_gnu(gnu, 1024, 200_000, &mut &blocks[..]).unwrap();
        assert_eq!(map.parts.len(), 4 + 21 + 5);
        assert_eq!(map.parts[0], part(0, 1024 + 1024, 512));
        assert_eq!(map.parts[29], part(4096 * 29, 2048 + 29 * 512, 512));
    }
}
