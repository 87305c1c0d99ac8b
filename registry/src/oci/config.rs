//! The image's configuration (OCI image specification, config.md; the engine's has more fields):
//! for which platform and from which layers the image is built.

use std::collections::BTreeMap;

use onedock_common::Digest;
use onedock_common::types::image_config::ImageConfig;
use serde::Deserialize;
use serde::de::IgnoredAny;

use super::platform::{EntryPlatform, Platform, runs};

/// What is used of an image's configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Config {
    /// `None` in old images without an architecture.
    pub(crate) built_for: Option<EntryPlatform>,
    /// The digests of the layers' tar archives, base first.
    pub(crate) diff_ids: Vec<Digest>,
    /// How a container of the image runs.
    pub(crate) run: ImageConfig,
}

#[derive(Deserialize)]
struct RawConfig {
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

/// How a container of the image runs. An image whose fields the engine cannot read is refused
/// before it is copied.
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

impl RawRun {
    fn read(self) -> ImageConfig {
        let words = |command: Option<Command>| match command {
            None => Vec::new(),
            Some(Command::Words(words)) => words,
            Some(Command::Word(word)) => vec![word],
        };
        let volumes = self.volumes.unwrap_or_default();
        let volumes = volumes.keys().map(String::as_str);
        ImageConfig::new(words(self.entrypoint), words(self.cmd), volumes)
    }
}

impl Config {
    /// Reads a configuration; the error is the reason in words.
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, String> {
        let raw: RawConfig = serde_json::from_slice(bytes)
            .map_err(|e| format!("its configuration is damaged ({e})"))?;
        let given = |text: Option<String>| text.filter(|text| !text.is_empty());
        Ok(Self {
            built_for: given(raw.architecture).map(|architecture| EntryPlatform {
                os: given(raw.os).unwrap_or_else(|| "linux".to_owned()),
                architecture,
                variant: given(raw.variant),
            }),
            diff_ids: raw.rootfs.and_then(|r| r.diff_ids).unwrap_or_default(),
            run: raw.config.unwrap_or_default().read(),
        })
    }

    /// The platform for messages.
    pub(crate) fn platform_text(&self) -> String {
        let platform = self.built_for.as_ref().map(EntryPlatform::text);
        platform.unwrap_or_else(|| "unknown platform".to_owned())
    }

    /// Whether the image is built for one of `wanted`; any when none is wanted.
    pub(crate) fn runs(&self, wanted: &[Platform]) -> bool {
        runs(self.built_for.as_ref(), wanted)
    }

    /// The configuration must have as many layers as the document that names them. The error is
    /// the reason in words.
    pub(crate) fn check_layers(&self, count: usize, document: &str) -> Result<(), String> {
        match self.diff_ids.len() {
            own if own == count => Ok(()),
            own => Err(format!(
                "its configuration has {own} layers and its {document} {count}"
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(json: &str) -> Config {
        Config::parse(json.as_bytes()).unwrap()
    }

    fn built_for(json: &str, platform: &str) -> bool {
        config(json).runs(&[platform.parse().unwrap()])
    }

    #[test]
    fn a_configuration_is_read_with_nulls_and_unknown_fields() {
        let json = r#"{"architecture":"amd64","os":"linux","x":1,
            "config":{"Cmd":["sh"],"Entrypoint":null,"Env":["A=b"],"Volumes":{"/data":{}},
              "Labels":null,"User":"www","StopSignal":"SIGQUIT","ExposedPorts":{"80/tcp":{}},"WorkingDir":"/w"},
            "rootfs":{"type":"layers","diff_ids":null}}"#;
        let read = config(json);
        assert_eq!(read.platform_text(), "linux/amd64");
        assert!(read.diff_ids.is_empty());
        let run = ImageConfig {
            entrypoint: Vec::new(),
            cmd: vec!["sh".into()],
            volumes: vec!["/data".into()],
        };
        assert_eq!(read.run, run);
        let empty = Config {
            built_for: None,
            diff_ids: Vec::new(),
            run: ImageConfig::default(),
        };
        assert_eq!(config("{}"), empty);
        let layer = Digest::of(b"x");
        let json = format!(r#"{{"rootfs":{{"diff_ids":["{layer}"]}}}}"#);
        assert_eq!(config(&json).diff_ids, [layer]);
    }

    #[test]
    fn a_command_may_be_one_word_and_a_label_null_as_the_engine_takes_them() {
        let one = r#"{"config":{"Cmd":"top -b","Entrypoint":"/init","Labels":{"a":null,"b":"c"}}}"#;
        let run = config(one).run;
        assert_eq!(
            (run.entrypoint, run.cmd),
            (vec!["/init".into()], vec!["top -b".into()])
        );
        config(r#"{"config":{"StopSignal":""}}"#);
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
            assert!(Config::parse(bad.as_bytes()).is_err(), "{}", bad.len());
        }
    }

    #[test]
    fn fault_34_a_single_image_must_be_built_for_a_wanted_platform() {
        let arm = r#"{"architecture":"arm64","os":"linux"}"#;
        assert!(!built_for(arm, "linux/amd64"));
        assert!(config(arm).runs(&[]));
        assert!(built_for("{}", "linux/amd64"));
    }

    #[test]
    fn the_platform_of_a_configuration_has_linux_and_its_variant_where_nothing_else_is_given() {
        assert_eq!(config(r#"{"os":"linux"}"#).built_for, None);
        for (json, text) in [
            (r#"{"os":"linux"}"#, "unknown platform"),
            (r#"{"os":"linux","architecture":""}"#, "unknown platform"),
            (r#"{"architecture":"amd64","variant":""}"#, "linux/amd64"),
            (
                r#"{"architecture":"arm","os":"linux","variant":"v7"}"#,
                "linux/arm/v7",
            ),
        ] {
            assert_eq!(config(json).platform_text(), text);
        }
    }

    #[test]
    fn a_single_image_is_checked_with_its_variant_and_linux_where_it_names_no_system() {
        assert!(built_for(r#"{"architecture":"amd64"}"#, "linux/amd64"));
        assert!(built_for(
            r#"{"architecture":"amd64","os":""}"#,
            "linux/amd64"
        ));
        let v6 = r#"{"architecture":"arm","os":"linux","variant":"v6"}"#;
        assert!(built_for(v6, "linux/arm/v6"));
        assert!(!built_for(v6, "linux/arm/v7"));
    }
}
