//! Names and addresses that reach the kernel: interface names, MAC addresses, host names.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// Why a name or an address was refused.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum BadName {
    /// Not a name that the kernel would give an interface.
    #[error(
        "\"{0}\" is not an interface name (1 to 15 bytes, no blank, slash, colon or percent sign)"
    )]
    Interface(String),
    /// Not six octets in hexadecimal.
    #[error("\"{0}\" is not a MAC address (six pairs of hexadecimal digits with colons)")]
    Mac(String),
    /// An address of a group, or none: the kernel gives it to no interface.
    #[error(
        "\"{0}\" cannot be the MAC address of a NIC: it is {1}; use one whose first octet is even, such as 02:…"
    )]
    NotUnicast(String, &'static str),
    /// Not a name that a disk has.
    #[error(
        "\"{0}\" is not the name of a disk (sd, vd, hd or xvd and one to three letters, or sr and a number)"
    )]
    Device(String),
    /// Not a place where a disk can be shown.
    #[error(
        "\"{0}\" is no place for a disk: an absolute path without \"..\", not /mnt, not beneath /proc, /sys, /dev or /context, and not the root itself"
    )]
    Mount(String),
    /// Not a host name of RFC 1123.
    #[error("\"{0}\" is not a host name (letters, digits, hyphens and dots, at most 63)")]
    Host(String),
}

fn shown(text: &str) -> String {
    text.chars().take(80).collect()
}

/// A network interface's or bridge's name as the kernel accepts it (`dev_valid_name`):
/// 1 to 15 bytes, not `.` or `..`, without slash, colon, blank or control character. A percent
/// sign is refused too: the kernel takes `x%d` for a pattern and gives another name.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct IfName(String);

impl IfName {
    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for IfName {
    type Err = BadName;
    fn from_str(text: &str) -> Result<Self, BadName> {
        let good = |b: u8| b.is_ascii_graphic() && !matches!(b, b'/' | b':' | b'%');
        if (1..=15).contains(&text.len())
            && text != "."
            && text != ".."
            && !text.starts_with('-')
            && text.bytes().all(good)
        {
            Ok(Self(text.to_owned()))
        } else {
            Err(BadName::Interface(shown(text)))
        }
    }
}

impl TryFrom<String> for IfName {
    type Error = BadName;
    fn try_from(text: String) -> Result<Self, BadName> {
        text.parse()
    }
}

impl From<IfName> for String {
    fn from(name: IfName) -> Self {
        name.0
    }
}

impl fmt::Display for IfName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

macro_rules! text_name {
    ($name:ident) => {
        impl $name {
            /// The text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl TryFrom<String> for $name {
            type Error = BadName;
            fn try_from(text: String) -> Result<Self, BadName> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> Self {
                name.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

/// A disk's device as a template's TARGET names it: `sda`, `vdb`, `xvdc`, `hdd`, `sr0`. Nothing
/// else, so that no device of the container's own can be named.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct DeviceName(String);
text_name!(DeviceName);

impl FromStr for DeviceName {
    type Err = BadName;
    fn from_str(text: &str) -> Result<Self, BadName> {
        let letters = |rest: &str| {
            (1..=3).contains(&rest.len()) && rest.bytes().all(|b| b.is_ascii_lowercase())
        };
        let disk = ["xvd", "sd", "vd", "hd"]
            .iter()
            .any(|kind| text.strip_prefix(kind).is_some_and(letters));
        let rom = text.strip_prefix("sr").is_some_and(|rest| {
            (1..=2).contains(&rest.len()) && rest.bytes().all(|b| b.is_ascii_digit())
        });
        if disk || rom {
            Ok(Self(text.to_owned()))
        } else {
            Err(BadName::Device(shown(text)))
        }
    }
}

/// Where a disk is shown in a container: an absolute path of plain names, kept without double
/// slashes. The kernel's own trees, `/dev` and the context's place are refused.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct MountPath(String);
text_name!(MountPath);

impl FromStr for MountPath {
    type Err = BadName;
    fn from_str(text: &str) -> Result<Self, BadName> {
        let bad = || BadName::Mount(shown(text));
        if !text.starts_with('/') || text.len() > 1024 || text.bytes().any(|b| b < b' ') {
            return Err(bad());
        }
        let names: Vec<&str> = text.split('/').filter(|n| !n.is_empty()).collect();
        let plain = names
            .iter()
            .all(|n| *n != "." && *n != ".." && n.len() <= 255);
        let reserved = match names.as_slice() {
            [] => true,
            ["proc" | "sys" | "dev" | "context", ..] => true,
            // The context is shown there too.
            ["mnt"] => true,
            _ => false,
        };
        if plain && !reserved {
            Ok(Self(format!("/{}", names.join("/"))))
        } else {
            Err(bad())
        }
    }
}

/// The MAC address of one interface: not all zeros, and not that of a group (the kernel's
/// `is_valid_ether_addr`). Printed in lower case, as OpenNebula's filters compare it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Mac([u8; 6]);

impl Mac {
    /// The six octets.
    pub const fn octets(self) -> [u8; 6] {
        self.0
    }
}

impl FromStr for Mac {
    type Err = BadName;
    fn from_str(text: &str) -> Result<Self, BadName> {
        let bad = || BadName::Mac(shown(text));
        let mut octets = [0u8; 6];
        let mut parts = text.split(':');
        for octet in &mut octets {
            let part = parts.next().ok_or_else(bad)?;
            if part.len() != 2 || !part.bytes().all(|b| b.is_ascii_hexdigit()) {
                return Err(bad());
            }
            *octet = u8::from_str_radix(part, 16).map_err(|_| bad())?;
        }
        if parts.next().is_some() {
            return Err(bad());
        }
        let [first, ..] = octets;
        if octets == [0; 6] {
            Err(BadName::NotUnicast(shown(text), "all zeros"))
        } else if first & 1 == 1 {
            Err(BadName::NotUnicast(shown(text), "a multicast address"))
        } else {
            Ok(Self(octets))
        }
    }
}

impl TryFrom<String> for Mac {
    type Error = BadName;
    fn try_from(text: String) -> Result<Self, BadName> {
        text.parse()
    }
}

impl From<Mac> for String {
    fn from(mac: Mac) -> Self {
        mac.to_string()
    }
}

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

/// A host name of one or more labels (RFC 1123), at most 63 bytes: the kernel's limit for
/// a UTS name is 64 and the engine's is 63.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Hostname(String);

impl Hostname {
    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Makes a valid name of any text, as OpenNebula's guest package does with SET_HOSTNAME
    /// (invalid characters become hyphens); `None` when nothing of it is left.
    pub fn made_valid(text: &str) -> Option<Self> {
        let replaced: String = text
            .trim()
            .chars()
            .map(|c| {
                if c.is_ascii_alphanumeric() || c == '.' {
                    c
                } else {
                    '-'
                }
            })
            .collect();
        let labels: Vec<&str> = replaced
            .split('.')
            .map(|label| label.trim_matches('-'))
            .filter(|label| !label.is_empty())
            .collect();
        let mut name = labels.join(".");
        name.truncate(63);
        name.trim_end_matches(['-', '.']).parse().ok()
    }
}

impl Hostname {
    /// `localhost`.
    pub fn localhost() -> Self {
        Self("localhost".to_owned())
    }
}

impl FromStr for Hostname {
    type Err = BadName;
    fn from_str(text: &str) -> Result<Self, BadName> {
        let label = |l: &str| {
            !l.is_empty()
                && !l.starts_with('-')
                && !l.ends_with('-')
                && l.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
        };
        if text.len() <= 63 && text.split('.').all(label) {
            Ok(Self(text.to_owned()))
        } else {
            Err(BadName::Host(shown(text)))
        }
    }
}

impl TryFrom<String> for Hostname {
    type Error = BadName;
    fn try_from(text: String) -> Result<Self, BadName> {
        text.parse()
    }
}

impl From<Hostname> for String {
    fn from(name: Hostname) -> Self {
        name.0
    }
}

impl fmt::Display for Hostname {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn interface_names_follow_the_kernel_in_bytes() {
        for good in ["one-5-0", "a", "123456789012345", "br.100", "onebr0"] {
            let name: IfName = good.parse().unwrap();
            assert_eq!((name.as_str(), name.to_string()), (good, good.to_owned()));
            assert_eq!(String::from(name), good);
        }
        for bad in [
            "",
            ".",
            "..",
            "1234567890123456",
            "a/b",
            "a:b",
            "a b",
            "-x",
            "x%d",
            "é",
            "a\0",
        ] {
            assert!(bad.parse::<IfName>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_bad_name_is_quoted_up_to_80_characters() {
        let error = "x".repeat(1000).parse::<IfName>().unwrap_err();
        assert_eq!(error, BadName::Interface("x".repeat(80)));
    }

    #[test]
    fn names_and_addresses_are_written_as_they_are_read() {
        let host: Hostname = "web-1.example".parse().unwrap();
        assert_eq!(host.as_str(), "web-1.example");
        assert_eq!(host.to_string(), "web-1.example");
        let mac: Mac = "02:00:0A:4d:00:2a".parse().unwrap();
        assert_eq!(String::from(mac), "02:00:0a:4d:00:2a");
    }

    #[test]
    fn a_disk_has_a_name_of_letters_or_the_number_of_a_drive() {
        for good in ["sda", "vdb", "hdc", "xvda", "sdaa", "sdaaa", "sr0", "sr11"] {
            assert_eq!(good.parse::<DeviceName>().unwrap().as_str(), good);
        }
        for bad in [
            "", "sd", "sdA", "sd1", "sda1", "sdaaaa", "sr", "sra", "sr123", "nvme0", "../sda",
        ] {
            assert!(bad.parse::<DeviceName>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_disk_is_shown_at_an_absolute_path_that_is_neither_the_kernel_s_nor_the_context_s() {
        let part = "a".repeat(255);
        let longest = format!("/{part}/{part}/{part}/{part}");
        assert_eq!(longest.len(), 1024);
        for (good, shown) in [
            ("/srv", "/srv"),
            ("/srv//my data/", "/srv/my data"),
            ("/mnt/data", "/mnt/data"),
            ("/processes", "/processes"),
            (&longest, &longest),
        ] {
            assert_eq!(good.parse::<MountPath>().unwrap().as_str(), shown);
        }
        for bad in [
            "",
            "srv",
            "/",
            "//",
            "/mnt",
            "/proc",
            "/proc/x",
            "/sys/x",
            "/dev/sda",
            "/context",
            "/srv/../etc",
            "/srv/./x",
            "/a\tb",
            "/a\nb",
            &format!("/{part}a"),
            &format!("{longest}/"),
        ] {
            assert!(bad.parse::<MountPath>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_mac_is_two_hexadecimal_digits_an_octet_and_prints_lower_case() {
        let mac: Mac = "02:00:0A:4D:00:2a".parse().unwrap();
        assert_eq!(mac.to_string(), "02:00:0a:4d:00:2a");
        assert_eq!(mac.octets(), [2, 0, 0x0a, 0x4d, 0, 0x2a]);
        for bad in [
            "",
            "02:00:0a:4d:00",
            "02:00:0a:4d:00:2a:01",
            "2:0:a:4d:0:2a",
            "+2:00:0a:4d:00:2a",
            "02-00-0a-4d-00-2a",
        ] {
            assert!(bad.parse::<Mac>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_mac_that_no_interface_can_have_is_refused_with_the_reason() {
        for (text, reason) in [
            ("00:00:00:00:00:00", "all zeros"),
            ("01:00:5e:00:00:01", "a multicast address"),
            ("ff:ff:ff:ff:ff:ff", "a multicast address"),
            ("03:00:0a:4d:00:2a", "a multicast address"),
        ] {
            let error = text.parse::<Mac>().unwrap_err().to_string();
            assert!(error.contains(reason), "{error}");
        }
        for good in ["00:00:00:00:00:01", "fe:00:00:00:00:00"] {
            assert!(good.parse::<Mac>().is_ok(), "{good}");
        }
    }

    #[test]
    fn any_text_becomes_a_valid_host_name_or_none() {
        let made = |t: &str| Hostname::made_valid(t).map(String::from);
        assert_eq!(made("web01"), Some("web01".into()));
        assert_eq!(made("my VM; rm -rf /"), Some("my-VM--rm--rf".into()));
        assert_eq!(made("-a-.b..c-"), Some("a.b.c".into()));
        assert_eq!(made("日本"), None);
        assert_eq!(made(&"x".repeat(200)).map(|n| n.len()), Some(63));
    }
}
