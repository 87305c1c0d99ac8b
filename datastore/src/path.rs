//! An image's PATH: `docker://[registry[:port]/]repository[:tag][@digest][?arguments]`, as
//! OpenNebula's Docker Hub marketplace wrote it, or a file on the front-end.

use std::path::PathBuf;
use std::str::FromStr;

use onedock_common::decimal::{NotANumber, parse_whole};
use onedock_common::reference::{BadReference, Reference, SCHEME, Tag};
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
    },
    /// A file on the front-end: an archive of a container image, or a disk.
    File(PathBuf),
}

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
                path if path.starts_with('/') => Ok(Self::File(path.into())),
                other => Err(BadPath::Relative(other.to_owned())),
            };
        }
        let (name, arguments) = text.split_once('?').unwrap_or((text, ""));
        let wrong = |source| BadPath::Reference {
            path: text.to_owned(),
            source,
        };
        let mut reference = Reference::from_url(name).map_err(wrong)?;
        let mut size_mb = 0;
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
        Ok(Self::Registry { reference, size_mb })
    }
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
            ImagePath::Registry { reference, size_mb } => (reference.to_string(), size_mb),
            ImagePath::File(path) => panic!("{}", path.display()),
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
            ImagePath::File("/var/tmp/web.tar".into())
        );
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
