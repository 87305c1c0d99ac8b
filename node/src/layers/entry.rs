//! Headers of archive entries: ustar, with a PAX header before it for whatever ustar cannot hold
//! (POSIX.1-2001, "pax Interchange Format"). Names, targets and attributes are bytes: readers of
//! layers take them as they are.

/// The size of a block; everything in an archive is filled up to it.
pub(super) const BLOCK: usize = 512;

/// The end of an archive.
pub(super) const END: [u8; 2 * BLOCK] = [0; 2 * BLOCK];

/// The most that seven octal digits hold.
const SEVEN_DIGITS: u64 = 0o7_777_777;
/// The most that eleven octal digits hold: 8 GiB less one byte.
const ELEVEN_DIGITS: u64 = 0o77_777_777_777;
/// The longest name or target in a ustar header.
const NAME: usize = 100;

/// What an entry is.
#[derive(Debug, Clone, Copy)]
pub(super) enum Kind<'a> {
    /// A regular file, followed by so many bytes.
    File(u64),
    /// Another name of an entry before.
    Link(&'a [u8]),
    /// A symbolic link with its target.
    Symlink(&'a [u8]),
    /// A character device: major, minor.
    Char(u64, u64),
    /// A block device: major, minor.
    Block(u64, u64),
    /// A folder.
    Folder,
    Fifo,
}

/// An extended attribute: its full name and its value.
pub(super) type Attribute = (Vec<u8>, Vec<u8>);

/// One entry.
#[derive(Debug, Clone, Copy)]
pub(super) struct Entry<'a> {
    /// Relative to the root, without `./`; a folder's without the final slash.
    pub(super) path: &'a [u8],
    pub(super) kind: Kind<'a>,
    /// The twelve lowest bits.
    pub(super) mode: u32,
    pub(super) uid: u32,
    pub(super) gid: u32,
    /// Seconds since 1970 and nanoseconds.
    pub(super) mtime: (i64, i64),
    pub(super) attributes: &'a [Attribute],
}

impl Entry<'_> {
    /// The blocks before the contents.
    pub(super) fn header(&self) -> Vec<u8> {
        let mut path = self.path.to_vec();
        if matches!(self.kind, Kind::Folder) {
            path.push(b'/');
        }
        let (flag, target, size, device) = match self.kind {
            Kind::File(size) => (b'0', &[][..], size, (0, 0)),
            Kind::Link(target) => (b'1', target, 0, (0, 0)),
            Kind::Symlink(target) => (b'2', target, 0, (0, 0)),
            Kind::Char(major, minor) => (b'3', &[][..], 0, (major, minor)),
            Kind::Block(major, minor) => (b'4', &[][..], 0, (major, minor)),
            Kind::Folder => (b'5', &[][..], 0, (0, 0)),
            Kind::Fifo => (b'6', &[][..], 0, (0, 0)),
        };
        let mut records = Vec::new();
        if path.len() > NAME {
            record(&mut records, b"path", &path);
        }
        if target.len() > NAME {
            record(&mut records, b"linkpath", target);
        }
        for (key, value, limit) in [
            (&b"size"[..], size, ELEVEN_DIGITS),
            (b"uid", self.uid.into(), SEVEN_DIGITS),
            (b"gid", self.gid.into(), SEVEN_DIGITS),
        ] {
            if value > limit {
                record(&mut records, key, value.to_string().as_bytes());
            }
        }
        let seconds = u64::try_from(self.mtime.0)
            .ok()
            .filter(|s| *s <= ELEVEN_DIGITS);
        if self.mtime.1 != 0 || seconds.is_none() {
            record(&mut records, b"mtime", decimal(self.mtime).as_bytes());
        }
        for (name, value) in self.attributes {
            // An equals sign would end the name: such an attribute has no form in an archive.
            if !name.contains(&b'=') {
                record(&mut records, &[b"SCHILY.xattr.", &name[..]].concat(), value);
            }
        }
        let mut out = Vec::with_capacity(BLOCK * 4 + records.len());
        if !records.is_empty() {
            let size = records.len() as u64;
            out.extend(block(
                b"PaxHeader",
                b'x',
                &[],
                size,
                0o644,
                (0, 0),
                0,
                (0, 0),
            ));
            out.extend(&records);
            out.resize(out.len().next_multiple_of(BLOCK), 0);
        }
        let owner = (self.uid.into(), self.gid.into());
        let mtime = seconds.unwrap_or(0);
        out.extend(block(
            &path, flag, target, size, self.mode, owner, mtime, device,
        ));
        out
    }
}

/// `<length> <key>=<value>\n`, where the length counts itself.
fn record(out: &mut Vec<u8>, key: &[u8], value: &[u8]) {
    let rest = key.len() + value.len() + 3;
    let mut length = rest + digits(rest);
    if digits(length) > digits(rest) {
        length = rest + digits(length);
    }
    out.extend(length.to_string().as_bytes());
    out.push(b' ');
    out.extend(key);
    out.push(b'=');
    out.extend(value);
    out.push(b'\n');
}

fn digits(number: usize) -> usize {
    number.checked_ilog10().map_or(1, |log| log as usize + 1)
}

/// A time as PAX writes it. The kernel's nanoseconds count upwards also before 1970.
fn decimal((seconds, nanos): (i64, i64)) -> String {
    if seconds < 0 && nanos > 0 {
        let (seconds, nanos) = (seconds + 1, 1_000_000_000 - nanos);
        format!("-{}.{nanos:09}", seconds.unsigned_abs())
    } else {
        format!("{seconds}.{nanos:09}")
    }
}

/// A ustar header; what does not fit stands in the PAX header before it.
#[expect(clippy::too_many_arguments, reason = "the fields of the format")]
fn block(
    path: &[u8],
    flag: u8,
    target: &[u8],
    size: u64,
    mode: u32,
    owner: (u64, u64),
    mtime: u64,
    device: (u64, u64),
) -> [u8; BLOCK] {
    let mut out = [0; BLOCK];
    text(&mut out[..NAME], path);
    octal(&mut out[100..108], u64::from(mode & 0o7777));
    octal(&mut out[108..116], owner.0);
    octal(&mut out[116..124], owner.1);
    octal(&mut out[124..136], size);
    octal(&mut out[136..148], mtime);
    out[148..156].fill(b' ');
    out[156] = flag;
    text(&mut out[157..257], target);
    text(&mut out[257..265], b"ustar\x0000");
    octal(&mut out[329..337], device.0);
    octal(&mut out[337..345], device.1);
    let sum = out.iter().map(|byte| u64::from(*byte)).sum();
    octal(&mut out[148..155], sum);
    out
}

/// As much of the bytes as there is room for.
fn text(field: &mut [u8], bytes: &[u8]) {
    for (place, byte) in field.iter_mut().zip(bytes) {
        *place = *byte;
    }
}

/// Octal digits with zeros before and a NUL behind; zero where the number has no room.
fn octal(field: &mut [u8], number: u64) {
    let width = field.len() - 1;
    let digits = format!("{number:0width$o}");
    if digits.len() <= width {
        text(field, digits.as_bytes());
    } else {
        field[..width].fill(b'0');
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read as _;

    fn entry<'a>(path: &'a [u8], kind: Kind<'a>) -> Entry<'a> {
        Entry {
            path,
            kind,
            mode: 0o4755,
            uid: 0,
            gid: 0,
            mtime: (1, 0),
            attributes: &[],
        }
    }

    #[test]
    fn what_fits_needs_one_block() {
        let long = [b'n'; 100];
        let header = entry(&long, Kind::File(ELEVEN_DIGITS)).header();
        assert_eq!(header.len(), BLOCK);
        assert_eq!(&header[..100], &long);
        assert_eq!(&header[257..265], b"ustar\x0000");
    }

    // Without line feeds in values, at which this reader stumbles; the engine's does not.
    #[test]
    fn another_reader_finds_everything_again() {
        let path = [&[0xff, 0x80][..], &[b'p'; 300]].concat();
        let target = vec![0xfe; 150];
        let attributes = [
            (b"user.a".to_vec(), vec![0, b'=', 0xff]),
            (b"user.wrong=name".to_vec(), vec![1]),
            (b"security.capability".to_vec(), vec![7; 20]),
        ];
        let mut archive = Entry {
            uid: 3_000_000_000,
            gid: 2_097_152,
            mtime: (-2, 250_000_000),
            attributes: &attributes,
            ..entry(&path, Kind::Symlink(&target))
        }
        .header();
        archive.extend(entry(b"d", Kind::Char(11, 0xf_ffff)).header());
        archive.extend(entry(b"f", Kind::Folder).header());
        archive.extend(END);
        let mut archive = tar::Archive::new(&archive[..]);
        let mut entries = archive.entries().unwrap();

        let mut first = entries.next().unwrap().unwrap();
        assert_eq!(&first.path_bytes()[..], path);
        assert_eq!(&first.link_name_bytes().unwrap()[..], target);
        let records: Vec<(String, Vec<u8>)> = first
            .pax_extensions()
            .unwrap()
            .unwrap()
            .map(|r| r.unwrap())
            .map(|r| (r.key().unwrap().to_owned(), r.value_bytes().to_vec()))
            .filter(|(key, _)| !key.ends_with("path"))
            .collect();
        let expected = [
            ("uid", b"3000000000".to_vec()),
            ("gid", b"2097152".to_vec()),
            ("mtime", b"-1.750000000".to_vec()),
            ("SCHILY.xattr.user.a", vec![0, b'=', 0xff]),
            ("SCHILY.xattr.security.capability", vec![7; 20]),
        ]
        .map(|(key, value)| (key.to_owned(), value));
        assert_eq!(records, expected);
        let mut none = Vec::new();
        first.read_to_end(&mut none).unwrap();
        assert!(none.is_empty());

        let second = entries.next().unwrap().unwrap();
        assert_eq!(second.header().device_minor().unwrap(), Some(0xf_ffff));
        assert_eq!(second.header().mode().unwrap(), 0o4755);
        let third = entries.next().unwrap().unwrap();
        assert_eq!(&third.path_bytes()[..], b"f/");
        assert!(entries.next().is_none());
    }

    #[test]
    fn a_record_counts_its_own_length_also_where_that_gains_a_digit() {
        for length in 1..2000 {
            let mut out = Vec::new();
            record(&mut out, b"k", &vec![b'v'; length]);
            let said = out.split(|b| *b == b' ').next().unwrap();
            let said: usize = String::from_utf8_lossy(said).parse().unwrap();
            assert_eq!(said, out.len(), "{length}");
        }
    }

    #[test]
    fn times_before_1970_count_backwards() {
        for (time, text) in [
            ((0, 5), "0.000000005"),
            ((-1, 0), "-1.000000000"),
            ((-1, 999_999_999), "-0.000000001"),
        ] {
            assert_eq!(decimal(time), text);
        }
    }
}
