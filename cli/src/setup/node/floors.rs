//! Known container escapes through the runtime, and the versions that fix them. Distributions fix older
//! versions too: the package's changelog lists the CVE then.

use std::fmt;
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use flate2::read::MultiGzDecoder;
use onedock_common::process::Command;

/// One of them.
struct Escape {
    cve: &'static str,
    runtime: &'static str,
    /// The first fixed version of each series.
    fixed: &'static [Version],
}

const fn version(major: u32, minor: u32, patch: u32) -> Version {
    Version(major, minor, patch)
}

const ESCAPES: &[Escape] = &[
    Escape {
        cve: "CVE-2024-21626",
        runtime: "runc",
        fixed: &[version(1, 1, 12)],
    },
    Escape {
        cve: "CVE-2025-31133",
        runtime: "runc",
        fixed: RUNC_2025,
    },
    Escape {
        cve: "CVE-2025-52565",
        runtime: "runc",
        fixed: RUNC_2025,
    },
    Escape {
        cve: "CVE-2025-52881",
        runtime: "runc",
        fixed: RUNC_2025,
    },
    Escape {
        cve: "CVE-2026-41579",
        runtime: "runc",
        fixed: &[version(1, 3, 6), version(1, 4, 3), version(1, 5, 0)],
    },
    Escape {
        cve: "CVE-2026-47766",
        runtime: "crun",
        fixed: &[version(1, 28, 0)],
    },
];

const RUNC_2025: &[Version] = &[version(1, 2, 8), version(1, 3, 3), version(1, 4, 0)];

/// The packages that bring a runtime, by the names of their folders in `/usr/share/doc`. Docker's own
/// containerd.io has runc in it.
const PACKAGES: [&str; 3] = ["runc", "crun", "containerd.io"];

/// A runtime's version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Version(u32, u32, u32);

impl FromStr for Version {
    type Err = ();

    /// From what a runtime answers to `--version`: `runc version 1.1.5+ds1`, `crun version 1.8`.
    fn from_str(text: &str) -> Result<Self, ()> {
        let line = text.lines().next().ok_or(())?;
        let (_, version) = line.split_once(" version ").ok_or(())?;
        let mut numbers = version.split(|c: char| !c.is_ascii_digit());
        let mut next = || numbers.next().and_then(|number| number.parse().ok());
        let (major, minor) = (next().ok_or(())?, next().ok_or(())?);
        Ok(Self(major, minor, next().unwrap_or(0)))
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.0, self.1, self.2)
    }
}

impl Version {
    /// Whether this version has a fix: its own series has, or it is newer than all that have.
    fn has(self, fixed: &[Self]) -> bool {
        let series = |version: &Self| (version.0, version.1);
        match fixed.iter().find(|first| series(first) == series(&self)) {
            Some(first) => self >= *first,
            None => fixed.iter().all(|first| self > *first),
        }
    }
}

/// The remark about the runtime that was chosen, where a fix is missing.
pub(super) fn notes(runtime: &Path) -> Option<String> {
    // crun makes its folder of states even for this.
    let states = tempfile::tempdir().ok()?;
    let answer = Command::local(runtime)
        .args([Path::new("--root"), states.path(), Path::new("--version")])
        .run()
        .ok()?;
    let name = runtime.file_name()?.to_str()?;
    describe(name, answer.stdout.parse().ok()?, &changelogs())
}

fn describe(runtime: &str, version: Version, changelogs: &str) -> Option<String> {
    let missing: Vec<&str> = ESCAPES
        .iter()
        .filter(|escape| escape.runtime == runtime && !version.has(escape.fixed))
        .map(|escape| escape.cve)
        .filter(|cve| !changelogs.contains(cve))
        .collect();
    if missing.is_empty() {
        return None;
    }
    Some(format!(
        "WARNING: {runtime} {version} does not have the fix of {}, nor does the changelog of its package \
         list it: a container may escape. Update it (docs/engines.md says what concerns VMs).",
        missing.join(", ")
    ))
}

/// The changelogs of the runtimes' packages, where the distribution keeps them.
fn changelogs() -> String {
    let mut all = String::new();
    for package in PACKAGES {
        let path = PathBuf::from(format!("/usr/share/doc/{package}/changelog.Debian.gz"));
        if let Ok(file) = fs::File::open(path) {
            let mut text = Vec::new();
            let _ = MultiGzDecoder::new(file)
                .take(1 << 24)
                .read_to_end(&mut text);
            all.push_str(&String::from_utf8_lossy(&text));
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_is_read_as_the_runtimes_write_it() {
        for (text, read) in [
            ("runc version 1.1.5+ds1\ncommit: x", version(1, 1, 5)),
            ("runc version 1.4.0-rc.3", version(1, 4, 0)),
            ("crun version 1.28\ncommit: x", version(1, 28, 0)),
            ("crun version 1.8.1", version(1, 8, 1)),
        ] {
            assert_eq!(text.parse(), Ok(read), "{text}");
        }
        for odd in ["", "runc", "runc version x"] {
            assert!(odd.parse::<Version>().is_err(), "{odd}");
        }
    }

    #[test]
    fn a_fix_is_in_a_series_from_its_version_on_and_in_all_newer_series() {
        let fixed = [version(1, 2, 8), version(1, 3, 3), version(1, 4, 0)];
        for has in [
            (1, 2, 8),
            (1, 2, 9),
            (1, 3, 3),
            (1, 4, 0),
            (1, 5, 0),
            (2, 0, 0),
        ] {
            assert!(Version(has.0, has.1, has.2).has(&fixed), "{has:?}");
        }
        for lacks in [(1, 1, 99), (1, 2, 7), (1, 3, 2), (0, 9, 9)] {
            assert!(!Version(lacks.0, lacks.1, lacks.2).has(&fixed), "{lacks:?}");
        }
    }

    #[test]
    fn what_a_package_has_fixed_is_not_blamed_on_its_version() {
        let debian = "runc (1.1.5+ds1-1+deb12u1) bookworm-security\n  * CVE-2024-21626: several\n";
        let note = describe("runc", version(1, 1, 5), debian).unwrap();
        assert!(
            note.contains("runc 1.1.5 does not have the fix of CVE-2025-31133, CVE-2025-52565, CVE-2025-52881, CVE-2026-41579,"),
            "{note}"
        );
        let note = describe("runc", version(1, 1, 5), "").unwrap();
        assert!(note.contains("CVE-2024-21626"), "{note}");
        assert_eq!(describe("runc", version(1, 3, 6), ""), None);
        assert_eq!(describe("crun", version(1, 28, 0), ""), None);
        let note = describe("crun", version(1, 27, 1), "").unwrap();
        assert!(
            note.contains("crun 1.27.1 does not have the fix of CVE-2026-47766,"),
            "{note}"
        );
        assert_eq!(
            describe("crun", version(1, 21, 0), "  * CVE-2026-47766\n"),
            None
        );
        assert_eq!(describe("another", version(0, 1, 0), ""), None);
    }
}
