//! Which registries users may name, as an administrator writes it: `*` for all, `*.example.com` for all
//! below a domain, or one by its name.

use std::str::FromStr;

use crate::types::reference::{BadReference, RegistryName};

/// A set of registries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RegistryPattern {
    /// `*`: all.
    All,
    /// `*.example.com`, `*.example.com:5000`: those below a domain, with this port or with none.
    Below(RegistryName),
    /// One.
    One(RegistryName),
}

impl RegistryPattern {
    /// Whether a registry is one of the set.
    pub fn has(&self, registry: &RegistryName) -> bool {
        match self {
            Self::All => true,
            Self::One(one) => one == registry,
            Self::Below(domain) => registry
                .as_str()
                .strip_suffix(domain.as_str())
                .is_some_and(|rest| rest.ends_with('.')),
        }
    }
}

impl FromStr for RegistryPattern {
    type Err = BadReference;
    fn from_str(text: &str) -> Result<Self, BadReference> {
        match text.strip_prefix("*.") {
            _ if text == "*" => Ok(Self::All),
            Some(domain) => domain.parse().map(Self::Below),
            None => text.parse().map(Self::One),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_registry_is_named_by_itself_its_domain_or_with_all() {
        let has = |pattern: &str, registry: &str| {
            let pattern: RegistryPattern = pattern.parse().unwrap();
            pattern.has(&registry.parse().unwrap())
        };
        for (pattern, registry, expected) in [
            ("*", "r.example.com", true),
            ("r.example.com", "r.example.com", true),
            ("r.example.com", "r.example.com:5000", false),
            ("*.example.com", "r.example.com", true),
            ("*.example.com", "a.r.example.com", true),
            ("*.example.com", "example.com", false),
            ("*.example.com", "badexample.com", false),
            ("*.example.com", "r.example.com:5000", false),
            ("*.example.com:5000", "r.example.com:5000", true),
            ("*.example.com:5000", "r.example.com", false),
            ("docker.io", "index.docker.io", true),
        ] {
            assert_eq!(has(pattern, registry), expected, "{pattern} {registry}");
        }
        for bad in ["", "*example.com", "r.*.com", "*.", "**"] {
            assert!(bad.parse::<RegistryPattern>().is_err(), "{bad}");
        }
    }
}
