//! One directory record (ECMA-119, 9.1), and the names in it as the kernel shows them.

/// A record up to its name.
const HEAD: usize = 33;

/// A directory record.
#[derive(Debug, Clone, Copy)]
pub(super) struct Record<'a> {
    bytes: &'a [u8],
}

impl<'a> Record<'a> {
    /// The record that begins here; `None` where it is damaged.
    pub(super) fn first(bytes: &'a [u8]) -> Option<Self> {
        let length = usize::from(*bytes.first()?);
        let bytes = bytes.get(..length)?;
        let name = usize::from(*bytes.get(HEAD - 1)?);
        (name >= 1 && HEAD + name <= length).then_some(Self { bytes })
    }

    pub(super) fn length(&self) -> usize {
        self.bytes.len()
    }

    fn byte(&self, at: usize) -> u8 {
        self.bytes.get(at).copied().unwrap_or(0)
    }

    fn number(&self, at: usize) -> u32 {
        u32_at(self.bytes, at).unwrap_or(0)
    }

    /// The block at which its data begins, behind its own attributes.
    pub(super) fn block(&self) -> u64 {
        u64::from(self.number(2)) + u64::from(self.byte(1))
    }

    /// In bytes.
    pub(super) fn size(&self) -> u64 {
        self.number(10).into()
    }

    pub(super) fn modified(&self) -> i64 {
        modified(self.bytes.get(18..25).unwrap_or_default())
    }

    pub(super) fn is_folder(&self) -> bool {
        self.byte(25) & 2 != 0
    }

    /// Belongs to another file, whose name it has.
    pub(super) fn is_associated(&self) -> bool {
        self.byte(25) & 4 != 0
    }

    /// The next record has more of the same file.
    pub(super) fn goes_on(&self) -> bool {
        self.byte(25) & 0x80 != 0
    }

    pub(super) fn is_interleaved(&self) -> bool {
        self.byte(26) != 0 || self.byte(27) != 0
    }

    fn raw_name(&self) -> &'a [u8] {
        let length = usize::from(self.byte(HEAD - 1));
        self.bytes.get(HEAD..HEAD + length).unwrap_or_default()
    }

    /// The folder itself, or the one above.
    pub(super) fn is_dot(&self) -> bool {
        matches!(self.raw_name(), [0 | 1])
    }

    /// What follows the name, less what is somebody else's.
    pub(super) fn system_use(&self, skip: usize) -> &'a [u8] {
        let end = HEAD + self.raw_name().len();
        let area = self.bytes.get(end + end % 2..).unwrap_or_default();
        area.get(skip..).unwrap_or_default()
    }

    /// The name without extensions: in lower case, without version 1, other versions behind a
    /// dot (`isofs_name_translate`, option map=normal).
    pub(super) fn plain_name(&self) -> Vec<u8> {
        let raw = self.raw_name();
        let raw = raw.split(|b| *b == 0).next().unwrap_or_default();
        let raw = raw
            .strip_suffix(b".;1")
            .or_else(|| raw.strip_suffix(b";1"))
            .unwrap_or(raw);
        raw.iter()
            .map(|b| match b {
                b';' | b'/' => b'.',
                other => other.to_ascii_lowercase(),
            })
            .collect()
    }

    /// The name of Joliet, without version 1 and without dots at its end
    /// (`get_joliet_filename`), in UTF-8.
    pub(super) fn joliet_name(&self) -> Vec<u8> {
        let units = self
            .raw_name()
            .chunks_exact(2)
            .filter_map(|pair| <[u8; 2]>::try_from(pair).ok())
            .map(u16::from_be_bytes)
            .take_while(|unit| *unit != 0);
        let text: String = char::decode_utf16(units)
            .map(|unit| unit.unwrap_or('?'))
            .collect();
        let text = match text.strip_suffix(";1") {
            Some(name) if !name.is_empty() => name,
            _ => &text,
        };
        let kept = text.trim_end_matches('.');
        // One that is dots alone keeps the first.
        let kept = if kept.is_empty() {
            text.get(..1)
        } else {
            Some(kept)
        };
        kept.unwrap_or_default().as_bytes().to_vec()
    }
}

/// The number at an offset, which is there in both byte orders.
pub(super) fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    let four = bytes.get(at..at.checked_add(4)?)?;
    Some(u32::from_le_bytes(four.try_into().ok()?))
}

/// The seven bytes of a time, in seconds since 1970 (`iso_date`).
pub(super) fn modified(bytes: &[u8]) -> i64 {
    let [year, month, day, hour, minute, second, zone] = *bytes else {
        return 0;
    };
    let (year, month, day) = (1900 + i64::from(year), i64::from(month), i64::from(day));
    // Days since 1970 of a date of the Gregorian calendar, with years that begin in March.
    let shifted = if month <= 2 { year - 1 } else { year };
    let era = shifted.div_euclid(400);
    let of_era = shifted.rem_euclid(400);
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let days = era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468;
    let time = i64::from(hour) * 3600 + i64::from(minute) * 60 + i64::from(second);
    // Quarters of an hour east of Greenwich.
    let zone = i64::from(zone.cast_signed());
    let east = if (-52..=52).contains(&zone) {
        zone * 900
    } else {
        0
    };
    days * 86_400 + time - east
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(name: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0; HEAD];
        bytes[HEAD - 1] = u8::try_from(name.len()).unwrap();
        bytes.extend_from_slice(name);
        if bytes.len() % 2 == 1 {
            bytes.push(0);
        }
        bytes[0] = u8::try_from(bytes.len()).unwrap();
        bytes
    }

    #[test]
    fn names_without_extensions_are_as_the_kernel_s_option_map_normal_shows_them() {
        for (raw, shown) in [
            ("README.TXT;1", "readme.txt"),
            ("NODOT.;1", "nodot"),
            ("NODOT;1", "nodot"),
            ("OLD.TXT;2", "old.txt.2"),
            ("A/B;1", "a.b"),
            ("SUB", "sub"),
            ("a_b.c", "a_b.c"),
        ] {
            let bytes = record(raw.as_bytes());
            let name = Record::first(&bytes).unwrap().plain_name();
            assert_eq!(String::from_utf8(name).unwrap(), shown);
        }
    }

    #[test]
    fn joliet_names_keep_their_case_and_lose_version_1_and_dots_at_the_end() {
        for (text, shown) in [
            ("Read Me.txt;1", "Read Me.txt"),
            ("Grüße €", "Grüße €"),
            ("dots...", "dots"),
            ("v.txt;2", "v.txt;2"),
            ("..", "."),
        ] {
            let raw: Vec<u8> = text.encode_utf16().flat_map(u16::to_be_bytes).collect();
            let bytes = record(&raw);
            let name = Record::first(&bytes).unwrap().joliet_name();
            assert_eq!(String::from_utf8(name).unwrap(), shown);
        }
    }

    #[test]
    fn times_are_counted_from_1970_with_their_zone() {
        assert_eq!(modified(&[70, 1, 1, 0, 0, 0, 0]), 0);
        assert_eq!(modified(&[100, 2, 29, 12, 30, 15, 0]), 951_827_415);
        assert_eq!(modified(&[126, 11, 28, 1, 0, 0, 4]), 1_795_824_000);
        assert_eq!(modified(&[69, 12, 31, 23, 59, 59, 0]), -1);
        assert_eq!(modified(&[70, 1, 1, 0, 0, 0, 0xfc]), 3600);
        assert_eq!(modified(&[1]), 0);
    }

    #[test]
    fn a_record_that_is_damaged_is_none() {
        let good = record(b"A");
        assert!(Record::first(&good).is_some());
        assert!(Record::first(&good[..33]).is_none());
        let mut longer = good.clone();
        longer[HEAD - 1] = 200;
        assert!(Record::first(&longer).is_none());
        let mut unnamed = good;
        unnamed[HEAD - 1] = 0;
        assert!(Record::first(&unnamed).is_none());
        assert!(Record::first(&[]).is_none());
    }
}
