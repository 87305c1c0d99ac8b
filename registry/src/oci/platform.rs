//! Platforms: those that are wanted, and those that indexes and configurations name (OCI image
//! specification, image-index.md).

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::error::one_line;

/// Text that is not a platform.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("\"{0}\" is not a platform (such as linux/amd64 or linux/arm/v7)")]
pub struct BadPlatform(String);

/// `os/architecture[/variant]` with Go's names, such as `linux/amd64`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Platform {
    os: String,
    architecture: String,
    variant: Option<String>,
}

impl Platform {
    /// Linux on `uname -m`'s machine; `None` for one that no image is built for.
    pub fn of_machine(machine: &str) -> Option<Self> {
        let text = match machine {
            "x86_64" => "linux/amd64",
            "aarch64" => "linux/arm64",
            "armv7l" => "linux/arm/v7",
            "ppc64le" => "linux/ppc64le",
            "s390x" => "linux/s390x",
            "riscv64" => "linux/riscv64",
            _ => return None,
        };
        text.parse().ok()
    }

    /// The platform that this program was built for.
    pub fn here() -> Self {
        Self::of_machine(std::env::consts::ARCH).unwrap_or_else(|| Self {
            os: "linux".to_owned(),
            architecture: std::env::consts::ARCH.to_owned(),
            variant: None,
        })
    }

    /// Whether an image for `built_for` runs on this platform. A variant that this platform does
    /// not name does not matter; arm64 without a variant is v8.
    pub(crate) fn runs(&self, built_for: &EntryPlatform) -> bool {
        let variant = |v: Option<&str>| match v.filter(|v| !v.is_empty()) {
            None if self.architecture == "arm64" => Some("v8".to_owned()),
            v => v.map(str::to_owned),
        };
        self.os == built_for.os
            && self.architecture == built_for.architecture
            && (self.variant.is_none()
                || variant(self.variant.as_deref()) == variant(built_for.variant.as_deref()))
    }
}

/// The platform that an index's entry or a configuration names, as written.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct EntryPlatform {
    #[serde(default, deserialize_with = "or_default")]
    pub(crate) os: String,
    #[serde(default, deserialize_with = "or_default")]
    pub(crate) architecture: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) variant: Option<String>,
}

impl EntryPlatform {
    /// `os/architecture[/variant]`, for messages.
    pub(crate) fn text(&self) -> String {
        let variant = self.variant.as_deref().filter(|v| !v.is_empty());
        let parts = [Some(self.os.as_str()), Some(&self.architecture), variant];
        one_line(&parts.into_iter().flatten().collect::<Vec<_>>().join("/"))
    }
}

/// Whether an image runs on one of the platforms; on any when none is wanted. An image without a
/// platform is assumed to run.
pub(crate) fn runs(built_for: Option<&EntryPlatform>, wanted: &[Platform]) -> bool {
    let Some(built_for) = built_for else {
        return true;
    };
    wanted.is_empty() || wanted.iter().any(|platform| platform.runs(built_for))
}

impl FromStr for Platform {
    type Err = BadPlatform;
    fn from_str(text: &str) -> Result<Self, BadPlatform> {
        let bad = || BadPlatform(text.chars().take(80).collect());
        let word = |w: &str| {
            (1..=32).contains(&w.len())
                && w.starts_with(|c: char| c.is_ascii_alphanumeric())
                && w.bytes()
                    .all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b))
        };
        let parts: Vec<&str> = text.split('/').collect();
        if !parts.iter().all(|p| word(p)) {
            return Err(bad());
        }
        match parts.as_slice() {
            [os, architecture] => Ok((os, architecture, None)),
            [os, architecture, variant] => Ok((os, architecture, Some(variant))),
            _ => Err(bad()),
        }
        .map(|(os, architecture, variant)| Self {
            os: (*os).to_owned(),
            architecture: (*architecture).to_owned(),
            variant: variant.map(|v| (*v).to_owned()),
        })
    }
}

impl TryFrom<String> for Platform {
    type Error = BadPlatform;
    fn try_from(text: String) -> Result<Self, BadPlatform> {
        text.parse()
    }
}

impl From<Platform> for String {
    fn from(platform: Platform) -> Self {
        platform.to_string()
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        match &self.variant {
            Some(variant) => write!(f, "/{variant}"),
            None => Ok(()),
        }
    }
}

/// `null` where Go's encoder writes it for what is empty.
pub(super) fn or_default<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: serde::Deserializer<'de>,
    T: Default + Deserialize<'de>,
{
    Option::deserialize(deserializer).map(Option::unwrap_or_default)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_platform_is_two_or_three_words() {
        for good in ["linux/amd64", "linux/arm/v7"] {
            assert_eq!(good.parse::<Platform>().unwrap().to_string(), good);
        }
        for bad in ["", "linux", "linux/", "a/b/c/d", "linux/amd 64", "../x"] {
            assert!(bad.parse::<Platform>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_variant_matters_only_where_both_name_one() {
        for (platform, built_for, good) in [
            ("linux/arm64/v8", ("linux", "arm64", None), true),
            ("linux/arm64/v8", ("linux", "arm64", Some("v8")), true),
            ("linux/arm/v7", ("linux", "arm", Some("v6")), false),
            ("linux/amd64", ("linux", "amd64", Some("v2")), true),
            ("linux/amd64", ("windows", "amd64", None), false),
            // An empty variant is none.
            ("linux/arm/v7", ("linux", "arm", Some("")), false),
            ("linux/arm64/v8", ("linux", "arm64", Some("")), true),
        ] {
            let platform: Platform = platform.parse().unwrap();
            let (os, architecture, variant) = built_for;
            let built_for = EntryPlatform {
                os: os.to_owned(),
                architecture: architecture.to_owned(),
                variant: variant.map(str::to_owned),
            };
            assert_eq!(platform.runs(&built_for), good, "{platform} {built_for:?}");
        }
    }

    #[test]
    fn each_machine_has_its_platform() {
        for (machine, platform) in [
            ("x86_64", "linux/amd64"),
            ("aarch64", "linux/arm64"),
            ("armv7l", "linux/arm/v7"),
            ("ppc64le", "linux/ppc64le"),
            ("s390x", "linux/s390x"),
            ("riscv64", "linux/riscv64"),
        ] {
            let found = Platform::of_machine(machine).unwrap();
            assert_eq!(found.to_string(), platform);
        }
        assert_eq!(Platform::of_machine("vax"), None);
    }

    #[test]
    fn the_words_of_a_platform_have_at_most_32_letters() {
        let word = "a".repeat(32);
        assert!(format!("linux/{word}").parse::<Platform>().is_ok());
        assert!(format!("linux/{word}a").parse::<Platform>().is_err());
        assert!("linux/a._-b".parse::<Platform>().is_ok());
        assert!("linux/-a".parse::<Platform>().is_err());
    }
}
