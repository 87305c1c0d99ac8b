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
    /// How much of everything there is.
    sizes: Sizes,
}

/// How many entries of each kind a configuration has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Sizes {
    env: usize,
    env_bytes: usize,
    labels: usize,
    volumes: usize,
    ports: usize,
    history: usize,
}

impl Sizes {
    /// An error in words where there is more of something than an image of programs has. The engine
    /// keeps all of it in memory for every container, hands it to the runtime at every start, and prints
    /// it in every answer; the kernel takes 2 MiB of environment.
    fn check(&self) -> Result<(), String> {
        for (what, found, most) in [
            ("environment variables", self.env, 1024),
            ("bytes of environment", self.env_bytes, 256 << 10),
            ("labels", self.labels, 1024),
            ("volumes", self.volumes, 256),
            ("exposed ports", self.ports, 1024),
            ("entries of history", self.history, 1024),
        ] {
            if found > most {
                return Err(format!(
                    "its configuration has {found} {what}, and at most {most} are allowed"
                ));
            }
        }
        Ok(())
    }
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
    #[serde(default)]
    history: Option<Vec<IgnoredAny>>,
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
    fn sizes(&self) -> Sizes {
        let count =
            |map: &Option<BTreeMap<String, IgnoredAny>>| map.as_ref().map_or(0, |m| m.len());
        let env = self.env.as_deref().unwrap_or_default();
        Sizes {
            env: env.len(),
            env_bytes: env.iter().map(String::len).sum(),
            labels: self.labels.as_ref().map_or(0, |labels| labels.len()),
            volumes: count(&self.volumes),
            ports: count(&self.exposed_ports),
            history: 0,
        }
    }

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
        let run = raw.config.unwrap_or_default();
        let sizes = Sizes {
            history: raw.history.map_or(0, |entries| entries.len()),
            ..run.sizes()
        };
        Ok(Self {
            built_for: given(raw.architecture).map(|architecture| EntryPlatform {
                os: given(raw.os).unwrap_or_else(|| "linux".to_owned()),
                architecture,
                variant: given(raw.variant),
            }),
            diff_ids: raw.rootfs.and_then(|r| r.diff_ids).unwrap_or_default(),
            run: run.read(),
            sizes,
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

    /// The configuration must have as many layers as the document that names them, and no more of
    /// everything than an image needs. The error is the reason in words.
    pub(crate) fn check(&self, count: usize, document: &str) -> Result<(), String> {
        match self.diff_ids.len() {
            own if own == count => self.sizes.check(),
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
        let sizes = Sizes {
            env: 1,
            env_bytes: 3,
            volumes: 1,
            ports: 1,
            ..Sizes::default()
        };
        assert_eq!(read.sizes, sizes);
        let empty = Config {
            built_for: None,
            diff_ids: Vec::new(),
            run: ImageConfig::default(),
            sizes: Sizes::default(),
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
    fn attack_18_crowds_in_a_configuration_are_refused_with_their_number() {
        let list = |count: usize, entry: &str| vec![format!("\"{entry}\""); count].join(",");
        let map = |count: usize| {
            let entries: Vec<String> = (0..count).map(|n| format!("\"/{n}\":{{}}")).collect();
            entries.join(",")
        };
        let nulls = |count: usize| {
            let entries: Vec<String> = (0..count).map(|n| format!("\"{n}\":null")).collect();
            entries.join(",")
        };
        let check = |json: String| config(&json).check(0, "manifest");
        for (field, most, what) in [
            ("env", 1024, "environment variables"),
            ("labels", 1024, "labels"),
            ("volumes", 256, "volumes"),
            ("ports", 1024, "exposed ports"),
            ("history", 1024, "entries of history"),
        ] {
            let json = |count: usize| match field {
                "env" => format!(r#"{{"config":{{"Env":[{}]}}}}"#, list(count, "A=b")),
                "labels" => format!(r#"{{"config":{{"Labels":{{{}}}}}}}"#, nulls(count)),
                "volumes" => format!(r#"{{"config":{{"Volumes":{{{}}}}}}}"#, map(count)),
                "ports" => format!(r#"{{"config":{{"ExposedPorts":{{{}}}}}}}"#, map(count)),
                _ => format!(r#"{{"history":[{}]}}"#, list(count, "x")),
            };
            assert_eq!(check(json(most)), Ok(()), "{field}");
            let reason = check(json(most + 1)).unwrap_err();
            let expected = format!("has {} {what}", most + 1);
            assert!(reason.contains(&expected), "{reason}");
        }
        let long = |bytes: usize| format!(r#"{{"config":{{"Env":["{}"]}}}}"#, "a".repeat(bytes));
        assert_eq!(check(long(256 << 10)), Ok(()));
        assert!(
            check(long((256 << 10) + 1))
                .unwrap_err()
                .contains("bytes of environment")
        );
        assert!(
            config("{}")
                .check(1, "manifest")
                .unwrap_err()
                .contains("0 layers")
        );
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
