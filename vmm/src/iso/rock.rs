//! The extensions of a directory record: the System Use Sharing Protocol, and Rock Ridge in it,
//! read as the kernel reads them (`fs/isofs/rock.c`).

use super::record::{modified, u32_at};

/// How many continuations a record may have, as in the kernel.
const CONTINUATIONS: usize = 32;
/// The longest name, as in the kernel.
const NAME: usize = 254;
/// The longest target of a link: the kernel reads it into one page.
const LINK: usize = 4096;

/// What the extensions say of one record. What they do not say is `None`.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Rock {
    /// NM: the name.
    pub(super) name: Vec<u8>,
    /// PX: the mode with the kind of file, as `st_mode`.
    pub(super) mode: Option<u32>,
    /// PX: the owner and the group.
    pub(super) owner: Option<(u32, u32)>,
    /// TF: seconds since 1970.
    pub(super) modified: Option<i64>,
    /// SL: where the symbolic link leads.
    pub(super) link: Vec<u8>,
    /// CL: the block of the folder that stands here and lies elsewhere.
    pub(super) child: Option<u32>,
    /// RE: a folder that stands elsewhere.
    pub(super) relocated: bool,
    /// ZF: the content is compressed.
    pub(super) compressed: bool,
    /// ER: the volume says that it has extensions.
    pub(super) announced: bool,
    /// SP: how many bytes of the other records' system use are somebody else's.
    pub(super) skip: Option<usize>,
}

/// Reads the system use area of a record. `block` reads that many bytes at an offset of a block;
/// `None` where the volume has none there.
pub(super) fn read(area: &[u8], block: impl Fn(u32, u32, u32) -> Option<Vec<u8>>) -> Rock {
    let mut rock = Rock::default();
    let mut area = area.to_vec();
    for _ in 0..=CONTINUATIONS {
        let Some(Some((at, offset, size))) = one_area(&area, &mut rock) else {
            break;
        };
        match block(at, offset, size) {
            Some(next) => area = next,
            None => break,
        }
    }
    rock
}

/// Reads the entries of one area. `None` where something is wrong with it: what stands before
/// that counts, as in the kernel. Else where it is continued.
fn one_area(area: &[u8], rock: &mut Rock) -> Option<Option<(u32, u32, u32)>> {
    let mut rest = area;
    let mut next = None;
    // There may be one byte of padding.
    while let [a, b, length, _version, ..] = rest {
        let length = usize::from(*length);
        if length < 4 {
            return None;
        }
        let entry = rest.get(..length)?;
        let data = entry.get(4..)?;
        match (*a, *b) {
            (b'S', b'P') => match data {
                [0xbe, 0xef, skip, ..] => rock.skip = Some(usize::from(*skip)),
                _ => return None,
            },
            (b'C', b'E') => {
                next = Some((u32_at(data, 0)?, u32_at(data, 8)?, u32_at(data, 16)?));
            }
            (b'E', b'R') => {
                let id = usize::from(*data.first()?);
                data.get(4..4 + id)?;
                rock.announced = true;
            }
            (b'P', b'X') => {
                rock.mode = Some(u32_at(data, 0)?);
                rock.owner = Some((u32_at(data, 16)?, u32_at(data, 24)?));
            }
            (b'T', b'F') => rock.modified = time(data)?.or(rock.modified),
            (b'N', b'M') => name(data, &mut rock.name)?,
            (b'S', b'L') => link(data, &mut rock.link)?,
            (b'C', b'L') => rock.child = Some(u32_at(data, 0)?),
            (b'R', b'E') => rock.relocated = true,
            (b'Z', b'F') => rock.compressed = true,
            _ => {}
        }
        rest = rest.get(length..)?;
    }
    Some(next)
}

/// The time of the last change, in the short form; the kernel reads no other.
fn time(data: &[u8]) -> Option<Option<i64>> {
    const CREATED: u8 = 1;
    const MODIFIED: u8 = 2;
    const LONG: u8 = 0x80;
    let flags = *data.first()?;
    if flags & MODIFIED == 0 || flags & LONG != 0 {
        return Some(None);
    }
    let before = if flags & CREATED == 0 { 0 } else { 7 };
    let at = 1 + before;
    Some(Some(modified(data.get(at..at + 7)?)))
}

/// A part of the name. Names of the current and the parent folder are left to the record.
fn name(data: &[u8], to: &mut Vec<u8>) -> Option<()> {
    const CONTINUES: u8 = 1;
    let (flags, text) = data.split_first()?;
    if flags & !CONTINUES == 0 && to.len() + text.len() < NAME {
        to.extend(text.iter().take_while(|b| **b != 0));
    }
    Some(())
}

/// A part of a link: components, each with flags and a length.
fn link(data: &[u8], to: &mut Vec<u8>) -> Option<()> {
    const CONTINUES: u8 = 1;
    let (flags, mut rest) = data.split_first()?;
    while let [kind, length, ..] = rest {
        let text = rest.get(2..2 + usize::from(*length))?;
        let is_root = kind & !CONTINUES == 8;
        match kind & !CONTINUES {
            0 => to.extend_from_slice(text),
            2 => to.push(b'.'),
            4 => to.extend_from_slice(b".."),
            8 => to.push(b'/'),
            _ => {}
        }
        rest = rest.get(2 + usize::from(*length)..)?;
        let is_last = rest.len() < 2;
        let goes_on = !is_last || flags & CONTINUES != 0;
        if goes_on && !is_root && kind & CONTINUES == 0 {
            to.push(b'/');
        }
        if to.len() > LINK {
            return None;
        }
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(name: &[u8; 2], data: &[u8]) -> Vec<u8> {
        let length = u8::try_from(4 + data.len()).unwrap();
        [name.as_slice(), &[length, 1], data].concat()
    }

    fn both(number: u32) -> Vec<u8> {
        [number.to_le_bytes(), number.to_be_bytes()].concat()
    }

    fn nothing(_: u32, _: u32, _: u32) -> Option<Vec<u8>> {
        None
    }

    #[test]
    fn a_name_and_a_link_come_in_parts_over_continuations() {
        let second = [
            entry(b"NM", &[0, b'd', b'e']),
            entry(b"SL", &[0, 0, 1, b'c']),
        ]
        .concat();
        let size = u32::try_from(second.len()).unwrap();
        let first = [
            entry(b"NM", &[1, b'a', b'b', b'c']),
            entry(b"SL", &[1, 8, 0, 4, 0, 1, 1, b'a', 0, 1, b'b']),
            entry(b"CE", &[both(7), both(40), both(size)].concat()),
        ]
        .concat();
        let rock = read(&first, |at, offset, length| {
            assert_eq!((at, offset, length), (7, 40, size));
            Some(second.clone())
        });
        assert_eq!(rock.name, b"abcde");
        assert_eq!(rock.link, b"/../ab/c");
    }

    #[test]
    fn attributes_and_relocations_are_read() {
        let px = [both(0o100_640), both(1), both(1000), both(50)].concat();
        let mut tf = vec![3];
        tf.extend([100, 1, 1, 0, 0, 0, 0]);
        tf.extend([70, 1, 2, 0, 0, 1, 4]);
        let area = [entry(b"PX", &px), entry(b"TF", &tf), entry(b"CL", &both(9))].concat();
        let rock = read(&area, nothing);
        assert_eq!((rock.mode, rock.owner), (Some(0o100_640), Some((1000, 50))));
        assert_eq!(rock.modified, Some(86_401 - 3600));
        assert_eq!(rock.child, Some(9));
        assert!(read(&entry(b"RE", &[]), nothing).relocated);
        // Names of folders themselves are none.
        assert_eq!(read(&entry(b"NM", &[2]), nothing).name, b"");
    }

    #[test]
    fn what_is_damaged_ends_the_reading_and_what_stands_before_counts() {
        let good = entry(b"NM", b"\0a");
        for bad in [
            vec![b'P', b'X', 200, 1],
            vec![b'N', b'M', 1, 1],
            entry(b"PX", &[1, 2, 3]),
            entry(b"SP", &[1, 2, 3]),
            entry(b"SL", &[0, 0, 200, b'x']),
            entry(b"ER", &[200, 0, 0, 1]),
            entry(b"TF", &[2, 1]),
            entry(b"CE", &[1]),
        ] {
            let area = [good.clone(), bad, entry(b"NM", b"\0b")].concat();
            assert_eq!(read(&area, nothing).name, b"a");
        }
        // One that continues in itself ends.
        let round = entry(b"CE", &[both(1), both(0), both(28)].concat());
        let rock = read(&round, |_, _, _| Some(round.clone()));
        assert_eq!(rock, Rock::default());
        let long = entry(b"NM", &[vec![1], vec![b'x'; 200]].concat());
        assert_eq!(
            read(&[long.clone(), long].concat(), nothing).name.len(),
            200
        );
    }
}
