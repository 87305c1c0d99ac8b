//! An image's PATH: `docker://[registry[:port]/]repository[:tag][@digest][?arguments]`, as
//! OpenNebula's Docker Hub marketplace wrote it, or a file on the front-end, behind which
//! `?platform=` may say which of its images is meant.

use std::path::PathBuf;
use std::str::FromStr;

use onedock_common::types::decimal::{NotANumber, parse_whole};
use onedock_common::types::reference::{BadReference, Reference, SCHEME, Tag};
use onedock_registry::{BadPlatform, Platform};
use percent_encoding::percent_decode_str;
use thiserror::Error;

/// Why a PATH was refused.
#[derive(Debug, Error)]
pub(crate) enum BadPath {
    /// The part before the arguments.
    #[error("PATH {path}")]
    Reference {
        /// What the user wrote.
        path: String,
        /// What is wrong with it.
        source: BadReference,
    },
    /// `size=` is no number.
    #[error("PATH {path}: the argument size")]
    Size {
        /// What the user wrote.
        path: String,
        /// What is wrong with it.
        source: NotANumber,
    },
    /// `platform=` is no platform.
    #[error("PATH {path}: the argument platform")]
    Platform {
        /// What the user wrote.
        path: String,
        /// What is wrong with it.
        source: BadPlatform,
    },
    /// An argument that is no `key=value`.
    #[error("PATH {path}: the argument \"{argument}\" is not key=value")]
    Argument {
        /// What the user wrote.
        path: String,
        /// The argument.
        argument: String,
    },
    /// A scheme that the datastore does not read.
    #[error(
        "PATH {0}: only docker://… and files on the front-end (a docker save archive, or a disk) are read here"
    )]
    Scheme(String),
    /// Neither a URL nor an absolute path.
    #[error(
        "PATH {0} is neither docker://… nor the absolute path of a docker save archive or a disk"
    )]
    Relative(String),
}

/// Where an image comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ImagePath {
    /// A registry.
    Registry {
        /// The image's name.
        reference: Reference,
        /// `size=`: the least size in MB that the image counts as.
        size_mb: u64,
        /// `platform=`: which image is meant, where there are several.
        platform: Option<Platform>,
    },
    /// A file on the front-end.
    File {
        /// An archive of a container image, or a disk.
        path: PathBuf,
        /// `platform=`, as above.
        platform: Option<Platform>,
    },
}

/// What stands behind the name of a file to choose one of its images.
const FILE_ARGUMENT: &str = "?platform=";

impl FromStr for ImagePath {
    type Err = BadPath;
    fn from_str(text: &str) -> Result<Self, BadPath> {
        // `oneimage create --path docker://…` takes the URL for a file in the folder where it was
        // typed, and puts that folder in front. No file can be called so: `//` is `/`.
        let text = match text.find("/docker://") {
            Some(at) if text.starts_with('/') => text.get(at + 1..).unwrap_or(text),
            _ => text,
        };
        if !text.starts_with(SCHEME) {
            return match text {
                url if url.contains("://") => Err(BadPath::Scheme(url.to_owned())),
                path if path.starts_with('/') => Self::file(path),
                other => Err(BadPath::Relative(other.to_owned())),
            };
        }
        let (name, arguments) = text.split_once('?').unwrap_or((text, ""));
        let wrong = |source| BadPath::Reference {
            path: text.to_owned(),
            source,
        };
        let mut reference = Reference::from_url(name).map_err(wrong)?;
        let (mut size_mb, mut platform) = (0, None);
        for argument in arguments.split('&').filter(|a| !a.is_empty()) {
            let bad = || BadPath::Argument {
                path: text.to_owned(),
                argument: argument.to_owned(),
            };
            let (key, value) = argument.split_once('=').ok_or_else(bad)?;
            let value = percent_decode_str(value).decode_utf8().map_err(|_| bad())?;
            match key {
                "size" => {
                    size_mb = parse_whole(&value).map_err(|source| BadPath::Size {
                        path: text.to_owned(),
                        source,
                    })?;
                }
                "platform" => platform = Some(parse_platform(text, &value)?),
                // Sunstone appended the tag that was chosen at export as an argument.
                "tag" if reference.tag().is_none() && reference.digest().is_none() => {
                    reference = tagged(&reference, &value).map_err(wrong)?;
                }
                "tag" => {}
                // They say how to make a disk image of the container, which is not made here.
                "filesystem" | "format" | "distro" | "context" => {
                    tracing::info!(
                        "PATH {text}: {key}={value} has no effect: the image stays a container image"
                    );
                }
                _ => {
                    tracing::warn!("PATH {text}: the argument {key} is not known and has no effect")
                }
            }
        }
        Ok(Self::Registry {
            reference,
            size_mb,
            platform,
        })
    }
}

impl ImagePath {
    /// Only this one argument is looked for: any other question mark belongs to the file's name.
    fn file(text: &str) -> Result<Self, BadPath> {
        let (path, platform) = match text.split_once(FILE_ARGUMENT) {
            Some((path, platform)) => (path, Some(parse_platform(text, platform)?)),
            None => (text, None),
        };
        let path = path.into();
        Ok(Self::File { path, platform })
    }
}

fn parse_platform(path: &str, value: &str) -> Result<Platform, BadPath> {
    value.parse().map_err(|source| BadPath::Platform {
        path: path.to_owned(),
        source,
    })
}

fn tagged(reference: &Reference, tag: &str) -> Result<Reference, BadReference> {
    let tag: Tag = tag.parse()?;
    format!("{reference}:{tag}").parse()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn registry(text: &str) -> (String, u64) {
        match text.parse().unwrap() {
            ImagePath::Registry {
                reference, size_mb, ..
            } => (reference.to_string(), size_mb),
            ImagePath::File { path, .. } => panic!("{}", path.display()),
        }
    }

    #[test]
    fn the_traced_path_and_the_documented_arguments_are_read() {
        let path = "docker://nginx:1.27-alpine?size=256&filesystem=ext4&format=raw&distro=alpine";
        assert_eq!(registry(path), ("nginx:1.27-alpine".into(), 256));
        assert_eq!(
            registry("docker://alpine?tag=3.20"),
            ("alpine:3.20".into(), 0)
        );
        assert_eq!(
            registry("docker://alpine:3.19?tag=3.20"),
            ("alpine:3.19".into(), 0)
        );
        assert_eq!(
            registry("docker://reg.example:5000/a/b"),
            ("reg.example:5000/a/b".into(), 0)
        );
    }

    #[test]
    fn a_url_that_the_command_line_took_for_a_file_is_a_url_all_the_same() {
        assert_eq!(
            registry("/root/docker://nginx:1.27?size=256"),
            ("nginx:1.27".into(), 256)
        );
        assert_eq!(registry("//docker://nginx").0, "nginx");
        assert!("/root/x?y=/docker://".parse::<ImagePath>().is_err());
    }

    #[test]
    fn a_file_is_an_absolute_path() {
        assert_eq!(
            "/var/tmp/web.tar".parse::<ImagePath>().unwrap(),
            ImagePath::File {
                path: "/var/tmp/web.tar".into(),
                platform: None
            }
        );
    }

    #[test]
    fn the_platform_of_one_of_several_images_stands_behind_the_path() {
        let arm = Some("linux/arm64".parse().unwrap());
        let file = |path: &str, platform: &Option<Platform>| ImagePath::File {
            path: path.into(),
            platform: platform.clone(),
        };
        for (text, path) in [
            ("/a/b.tar?platform=linux/arm64", file("/a/b.tar", &arm)),
            ("/a/b?x=y", file("/a/b?x=y", &None)),
        ] {
            assert_eq!(text.parse::<ImagePath>().unwrap(), path);
        }
        for text in [
            "docker://alpine?platform=linux/arm64",
            "docker://alpine?size=5&platform=linux%2Farm64",
        ] {
            let ImagePath::Registry { platform, .. } = text.parse().unwrap() else {
                panic!("{text}");
            };
            assert_eq!(platform, arm, "{text}");
        }
        for bad in ["/a/b.tar?platform=", "docker://alpine?platform=arm64"] {
            let error = bad.parse::<ImagePath>().unwrap_err();
            assert!(error.to_string().contains("platform"), "{error}");
        }
    }

    #[test]
    fn attack_21_other_schemes_names_and_arguments_are_refused_with_the_path() {
        for bad in [
            "docker://",
            "docker://UPPER",
            "docker://a/../b",
            "docker://alpine?size=+5",
            "docker://alpine?size=1e9",
            "docker://alpine?tag=$(id)",
            "docker://alpine?size",
            "dockerfile:///root/Dockerfile",
            "http://host/x.tar",
            "relative.tar",
            "",
        ] {
            let error = bad.parse::<ImagePath>().unwrap_err().to_string();
            assert!(error.starts_with("PATH"), "{error}");
        }
    }
}
