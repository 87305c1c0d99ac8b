//! The image's configuration: what a container is started with (OCI image specification,
//! config.md; the engine's is the same with more fields).

use std::collections::BTreeMap;

use onedock_common::Digest;
use serde::Deserialize;
use serde::de::IgnoredAny;

use crate::error::one_line;
use crate::oci::manifest::EntryPlatform;
use crate::oci::platform::Platform;

/// What the driver needs of an image's configuration.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ImageConfig {
    /// The operating system it is built for, as written; may be empty in old images.
    pub os: String,
    /// The architecture it is built for, as written; may be empty in old images.
    pub architecture: String,
    /// ENTRYPOINT.
    pub entrypoint: Vec<String>,
    /// CMD.
    pub cmd: Vec<String>,
    /// ENV, each `NAME=value`.
    pub env: Vec<String>,
    /// LABEL.
    pub labels: BTreeMap<String, String>,
    /// VOLUME, the paths.
    pub volumes: Vec<String>,
    /// EXPOSE, each `port/protocol`.
    pub exposed_ports: Vec<String>,
    /// USER; empty is root.
    pub user: String,
    /// WORKDIR; empty is `/`.
    pub working_dir: String,
    /// STOPSIGNAL as written; `None` is SIGTERM.
    pub stop_signal: Option<String>,
}

/// A configuration with what only this crate needs of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Config {
    pub(crate) image: ImageConfig,
    /// The digests of the layers' tar archives, base first.
    pub(crate) diff_ids: Vec<Digest>,
    variant: Option<String>,
}

#[derive(Deserialize, Default)]
struct Raw {
    #[serde(default)]
    os: Option<String>,
    #[serde(default)]
    architecture: Option<String>,
    #[serde(default)]
    variant: Option<String>,
    #[serde(default)]
    config: Option<RawRun>,
    rootfs: Option<RawRoot>,
}

#[derive(Deserialize)]
struct RawRoot {
    #[serde(default)]
    diff_ids: Option<Vec<Digest>>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "PascalCase", default)]
struct RawRun {
    user: Option<String>,
    env: Option<Vec<String>>,
    entrypoint: Option<Command>,
    cmd: Option<Command>,
    volumes: Option<BTreeMap<String, IgnoredAny>>,
    exposed_ports: Option<BTreeMap<String, IgnoredAny>>,
    labels: Option<BTreeMap<String, Option<String>>>,
    working_dir: Option<String>,
    stop_signal: Option<String>,
}

/// A command, which the engine also takes as one word (moby, `strslice.StrSlice`).
#[derive(Deserialize)]
#[serde(untagged)]
enum Command {
    Words(Vec<String>),
    Word(String),
}

impl Command {
    fn words(this: Option<Self>) -> Vec<String> {
        match this {
            Some(Self::Words(words)) => words,
            Some(Self::Word(word)) => vec![word],
            None => Vec::new(),
        }
    }
}

impl Config {
    /// The platform that it is built for; `None` when it does not say its architecture.
    pub(crate) fn platform(&self) -> Option<EntryPlatform> {
        let ImageConfig {
            os, architecture, ..
        } = &self.image;
        (!architecture.is_empty()).then(|| EntryPlatform {
            os: if os.is_empty() { "linux" } else { os }.to_owned(),
            architecture: architecture.clone(),
            variant: self.variant.clone().filter(|v| !v.is_empty()),
        })
    }

    /// The same for messages.
    pub(crate) fn platform_text(&self) -> String {
        let platform = self.platform();
        platform.map_or_else(|| "no platform said".to_owned(), |p| p.text())
    }
}

/// Reads a configuration; the error is the reason in words.
pub(crate) fn parse(bytes: &[u8]) -> Result<Config, String> {
    let raw: Raw =
        serde_json::from_slice(bytes).map_err(|e| format!("its configuration is damaged ({e})"))?;
    let run = raw.config.unwrap_or_default();
    let keys =
        |map: Option<BTreeMap<String, IgnoredAny>>| map.unwrap_or_default().into_keys().collect();
    Ok(Config {
        image: ImageConfig {
            os: raw.os.unwrap_or_default(),
            architecture: raw.architecture.unwrap_or_default(),
            entrypoint: Command::words(run.entrypoint),
            cmd: Command::words(run.cmd),
            env: run.env.unwrap_or_default(),
            labels: run
                .labels
                .unwrap_or_default()
                .into_iter()
                .map(|(name, value)| (name, value.unwrap_or_default()))
                .collect(),
            volumes: keys(run.volumes),
            exposed_ports: keys(run.exposed_ports),
            user: run.user.unwrap_or_default(),
            working_dir: run.working_dir.unwrap_or_default(),
            stop_signal: run.stop_signal.filter(|s| !s.is_empty()),
        },
        diff_ids: raw.rootfs.and_then(|r| r.diff_ids).unwrap_or_default(),
        variant: raw.variant,
    })
}

/// Whether a single image is built for one of `platforms` (any, when none is named). An image
/// that does not say its architecture is the business of whoever made it. The error names what
/// is wanted and what the image has.
pub(crate) fn check_platform(
    config: &Config,
    platforms: &[Platform],
) -> Result<(), (String, String)> {
    let ImageConfig {
        os, architecture, ..
    } = &config.image;
    let silent = architecture.is_empty();
    let os = if os.is_empty() { "linux" } else { os };
    let runs = |p: &Platform| p.runs(os, architecture, config.variant.as_deref());
    if silent || platforms.is_empty() || platforms.iter().any(runs) {
        return Ok(());
    }
    let wanted: Vec<String> = platforms.iter().map(ToString::to_string).collect();
    Err((wanted.join(", "), one_line(&format!("{os}/{architecture}"))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_configuration_is_read_with_nulls_and_unknown_fields() {
        let json = br#"{"architecture":"amd64","os":"linux","x":1,
            "config":{"Cmd":["sh"],"Entrypoint":null,"Env":["A=b"],"Volumes":{"/data":{}},
              "Labels":null,"User":"www","StopSignal":"SIGQUIT","ExposedPorts":{"80/tcp":{}},"WorkingDir":"/w"},
            "rootfs":{"type":"layers","diff_ids":null}}"#;
        let config = parse(json).unwrap();
        assert_eq!(config.image.cmd, ["sh"]);
        assert_eq!(config.image.volumes, ["/data"]);
        assert_eq!(config.image.exposed_ports, ["80/tcp"]);
        assert_eq!(config.image.stop_signal.as_deref(), Some("SIGQUIT"));
        assert!(config.image.entrypoint.is_empty() && config.image.labels.is_empty());
        assert_eq!(parse(b"{}").unwrap().image, ImageConfig::default());
    }

    #[test]
    fn a_command_may_be_one_word_and_a_label_null_as_the_engine_takes_them() {
        let json =
            br#"{"config":{"Cmd":"top -b","Entrypoint":"/init","Labels":{"a":null,"b":"c"}}}"#;
        let image = parse(json).unwrap().image;
        assert_eq!(image.cmd, ["top -b"]);
        assert_eq!(image.entrypoint, ["/init"]);
        assert_eq!(image.labels["a"], "");
        assert_eq!(image.labels["b"], "c");
    }

    #[test]
    fn attack_19_a_configuration_of_wrong_types_or_bottomless_depth_is_refused() {
        let deep = "[".repeat(100_000);
        for bad in [
            "",
            "[]",
            r#"{"config":{"Cmd":7}}"#,
            r#"{"config":{"Cmd":["sh",7]}}"#,
            r#"{"config":{"Labels":{"a":7}}}"#,
            r#"{"os":"a","os":"b"}"#,
            &deep,
        ] {
            assert!(parse(bad.as_bytes()).is_err(), "{}", bad.len());
        }
    }

    #[test]
    fn fault_34_a_single_image_must_be_built_for_a_wanted_platform() {
        let config = |json: &str| parse(json.as_bytes()).unwrap();
        let amd64: Platform = "linux/amd64".parse().unwrap();
        let arm = config(r#"{"architecture":"arm64","os":"linux"}"#);
        assert_eq!(
            check_platform(&arm, std::slice::from_ref(&amd64)),
            Err(("linux/amd64".into(), "linux/arm64".into()))
        );
        assert!(check_platform(&arm, &[]).is_ok());
        assert!(check_platform(&config("{}"), &[amd64]).is_ok());
    }

    #[test]
    fn the_platform_of_a_configuration_has_linux_and_its_variant_where_nothing_else_is_said() {
        let platform = |json: &str| parse(json.as_bytes()).unwrap().platform();
        let text = |json: &str| parse(json.as_bytes()).unwrap().platform_text();
        assert_eq!(platform(r#"{"os":"linux"}"#), None);
        assert_eq!(text(r#"{"os":"linux"}"#), "no platform said");
        assert_eq!(
            text(r#"{"architecture":"amd64","variant":""}"#),
            "linux/amd64"
        );
        assert_eq!(
            text(r#"{"architecture":"arm","os":"linux","variant":"v7"}"#),
            "linux/arm/v7"
        );
    }

    #[test]
    fn a_single_image_is_checked_with_its_variant_and_linux_where_it_says_no_system() {
        let check = |json: &str, platform: &str| {
            let config = parse(json.as_bytes()).unwrap();
            check_platform(&config, &[platform.parse().unwrap()]).is_ok()
        };
        assert!(check(r#"{"architecture":"amd64"}"#, "linux/amd64"));
        let v6 = r#"{"architecture":"arm","os":"linux","variant":"v6"}"#;
        assert!(check(v6, "linux/arm/v6"));
        assert!(!check(v6, "linux/arm/v7"));
    }

    #[test]
    fn a_stop_signal_that_is_empty_is_none() {
        let image = parse(br#"{"config":{"StopSignal":""}}"#).unwrap().image;
        assert_eq!(image.stop_signal, None);
    }
}
