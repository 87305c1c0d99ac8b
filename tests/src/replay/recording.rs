//! The recorded calls, one JSON object a line as the recorder wrote them.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Deserializer};

/// The two recordings of a release (`tests/replay/README.md`).
const FILES: [&str; 2] = ["calls.jsonl", "disks.jsonl"];

/// One call of one driver script.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Call {
    /// Its number in the recording.
    pub seq: u32,
    /// What the user asked for.
    pub operation: String,
    /// `datastore`, `tm` or `vmm`.
    pub driver: String,
    /// The script's name.
    pub action: String,
    /// `front-end` or `host`.
    pub runs_on: String,
    /// Who ran it.
    pub user: String,
    /// The script's path.
    pub script: PathBuf,
    /// Where it was run.
    pub cwd: PathBuf,
    pub args: Vec<String>,
    /// Its standard input: base64 for a datastore, XML for a hypervisor, none (`null`) for most
    /// of a transfer manager's.
    #[serde(deserialize_with = "text_or_null")]
    pub stdin: String,
    /// Its environment, without what every process has.
    pub env: BTreeMap<String, String>,
    /// What the recorder answered, which is no model.
    pub recorder_replied: String,
}

impl Call {
    /// The document on standard input.
    pub fn document(&self) -> Result<String> {
        if self.driver == "datastore" {
            Ok(String::from_utf8(STANDARD.decode(self.stdin.trim())?)?)
        } else {
            Ok(self.stdin.clone())
        }
    }

    /// The same call with another document.
    pub fn with_document(mut self, document: String) -> Self {
        self.stdin = if self.driver == "datastore" {
            STANDARD.encode(document)
        } else {
            document
        };
        self
    }

    /// Where it runs: a host by its name, or `vm`, the front-end. A host's own script has its name
    /// as the last argument.
    pub fn host(&self) -> Result<&str> {
        if self.runs_on == "front-end" {
            return Ok("vm");
        }
        let last = self.args.last().map(String::as_str);
        last.with_context(|| format!("{} names no host", self.title()))
    }

    /// `tm clone (22)`.
    pub fn title(&self) -> String {
        format!("{} {} ({})", self.driver, self.action, self.seq)
    }
}

fn text_or_null<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

/// All calls of one release that are replayed.
#[derive(Debug, Clone)]
pub struct Recording {
    /// `7.4.0`.
    pub release: String,
    calls: Vec<Call>,
}

impl Recording {
    /// Reads the calls of a release.
    pub fn read(release: &str) -> Result<Self> {
        let mut calls = Vec::new();
        for name in FILES {
            let path = folder().join(release).join(name);
            let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
            for line in text.lines() {
                let call: Call =
                    serde_json::from_str(line).with_context(|| path.display().to_string())?;
                // Images of an earlier recording, which no `cp` of this one has made.
                if call.action != "rm" || call.operation != "setup" {
                    calls.push(call);
                }
            }
        }
        Ok(Self {
            release: release.to_owned(),
            calls,
        })
    }

    /// The calls of one operation, in `oned`'s order.
    pub fn operation(&self, name: &str) -> Result<Vec<Call>> {
        let calls: Vec<Call> = self
            .calls
            .iter()
            .filter(|c| c.operation == name)
            .cloned()
            .collect();
        ensure!(!calls.is_empty(), "no call of {name} in {}", self.release);
        Ok(calls)
    }

    /// The front-end's state folder, which its scripts' paths begin with.
    pub fn var(&self) -> Result<PathBuf> {
        let script = self
            .calls
            .iter()
            .find(|c| c.runs_on == "front-end")
            .map(|c| c.script.as_path());
        script
            .and_then(|s| s.ancestors().nth(4))
            .map(Path::to_owned)
            .context("no call of the front-end")
    }

    /// The folder of a self-contained installation.
    pub fn one_location(&self) -> Option<PathBuf> {
        self.calls
            .iter()
            .find_map(|c| c.env.get("ONE_LOCATION"))
            .map(PathBuf::from)
    }
}

/// Where the recordings lie.
pub fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("replay")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_recordings_of_a_release_are_read() {
        for release in ["7.4.0", "6.10"] {
            let recording = Recording::read(release).unwrap();
            let titles = |name| -> Vec<String> {
                let calls = recording.operation(name).unwrap();
                calls
                    .iter()
                    .map(|c| format!("{} {}", c.driver, c.action))
                    .collect()
            };
            assert_eq!(
                titles("create"),
                [
                    "tm clone",
                    "tm mkimage",
                    "tm mkswap",
                    "tm clone",
                    "tm ln",
                    "tm context",
                    "vmm deploy"
                ]
            );
            assert_eq!(
                titles("image-snapshot-flatten"),
                ["datastore snap_flatten"; 2]
            );
            let deploy = &recording.operation("create").unwrap()[6];
            assert_eq!(deploy.stdin.matches("<DISK>").count(), 5);
            assert_eq!(deploy.host().unwrap(), "node1");
        }
    }
}
