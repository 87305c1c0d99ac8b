//! Platforms as an index names them (OCI image specification, image-index.md).

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use thiserror::Error;

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

    /// Whether an image for `os`, `architecture` and `variant` runs here. A variant that this
    /// platform does not name does not matter; arm64 is v8 where nothing is said.
    pub(crate) fn runs(&self, os: &str, architecture: &str, variant: Option<&str>) -> bool {
        let said = |v: Option<&str>| match v.filter(|v| !v.is_empty()) {
            None if architecture == "arm64" => Some("v8".to_owned()),
            v => v.map(str::to_owned),
        };
        self.os == os
            && self.architecture == architecture
            && (self.variant.is_none() || said(self.variant.as_deref()) == said(variant))
    }
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
        let arm64: Platform = "linux/arm64/v8".parse().unwrap();
        assert!(arm64.runs("linux", "arm64", None));
        assert!(arm64.runs("linux", "arm64", Some("v8")));
        let v7: Platform = "linux/arm/v7".parse().unwrap();
        assert!(!v7.runs("linux", "arm", Some("v6")));
        let amd64: Platform = "linux/amd64".parse().unwrap();
        assert!(amd64.runs("linux", "amd64", Some("v2")));
        assert!(!amd64.runs("windows", "amd64", None));
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
    fn a_variant_that_is_empty_is_none() {
        let v7: Platform = "linux/arm/v7".parse().unwrap();
        assert!(!v7.runs("linux", "arm", Some("")));
        let v8: Platform = "linux/arm64/v8".parse().unwrap();
        assert!(v8.runs("linux", "arm64", Some("")));
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
