//! The selection of one image of an archive that holds several.

use crate::error::one_line;
use crate::oci::platform::Platform;

/// How many choices an error names.
const LISTED: usize = 10;

/// An image of an archive.
#[derive(Debug)]
pub(super) struct Candidate<T> {
    /// What the archive calls it.
    pub(super) names: Vec<String>,
    /// What it is built for, for messages.
    pub(super) built_for: Vec<String>,
    /// Whether it is built for one of the wanted platforms.
    pub(super) runs: bool,
    pub(super) image: T,
}

impl<T> Candidate<T> {
    fn text(&self) -> String {
        let name = self.names.first().map(|name| one_line(name));
        let name = name.unwrap_or_else(|| "an image without a name".to_owned());
        format!("{name} ({})", self.built_for.join(", "))
    }
}

/// The one image for the wanted platforms. The error is the reason in words, with the choices.
pub(super) fn one<T>(
    mut candidates: Vec<Candidate<T>>,
    platforms: &[Platform],
) -> Result<T, String> {
    let wanted: Vec<String> = platforms.iter().map(ToString::to_string).collect();
    let wanted = wanted.join(" or ");
    let choices: Vec<String> = candidates
        .iter()
        .take(LISTED)
        .map(Candidate::text)
        .collect();
    let (count, choices) = (candidates.len(), choices.join(", "));
    candidates.retain(|candidate| candidate.runs);
    match (count, candidates.len()) {
        (_, 1) => {}
        (1, 0) => {
            return Err(format!(
                "it holds {choices}, which is not built for {wanted}; to use it, add ?platform= to PATH"
            ));
        }
        (_, 0) => {
            return Err(format!(
                "none of its {count} images is built for {wanted}: {choices}; choose one by adding ?platform= to PATH"
            ));
        }
        (_, fit) => {
            return Err(format!(
                "it holds {fit} images where exactly one is expected: {choices}; save one image alone, or choose one by adding ?platform= to PATH"
            ));
        }
    }
    candidates
        .pop()
        .map(|candidate| candidate.image)
        .ok_or_else(|| "it holds no image".to_owned())
}

/// The reason for refusing an archive whose images are known by their names alone.
pub(super) fn not_one(names: impl Iterator<Item = String>) -> String {
    let names: Vec<String> = names.take(LISTED).map(|name| one_line(&name)).collect();
    format!(
        "it does not hold exactly one image but {}; save one image alone",
        names.join(", ")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn candidate(name: &str, platform: &str, wanted: &[Platform]) -> Candidate<String> {
        Candidate {
            names: vec![name.to_owned()],
            built_for: vec![platform.to_owned()],
            runs: wanted.is_empty() || wanted.contains(&platform.parse().unwrap()),
            image: name.to_owned(),
        }
    }

    #[test]
    fn of_several_images_the_one_for_the_hosts_is_taken_or_the_choices_are_named() {
        let of = |images: &[(&str, &str)], wanted: &[&str]| {
            let wanted: Vec<Platform> = wanted.iter().map(|w| w.parse().unwrap()).collect();
            let all = images.iter().map(|(n, p)| candidate(n, p, &wanted));
            one(all.collect(), &wanted)
        };
        let two = [("a:1", "linux/amd64"), ("b:1", "linux/arm64")];
        assert_eq!(of(&two, &["linux/arm64"]).unwrap(), "b:1");
        assert_eq!(of(&two[..1], &[]).unwrap(), "a:1");
        for (images, wanted, reason) in [
            (&two[..], &[][..], "holds 2 images"),
            (&two, &["linux/amd64", "linux/arm64"], "holds 2 images"),
            (&two, &["linux/s390x"], "none of its 2 images"),
            (&two[..1], &["linux/arm64"], "not built for linux/arm64"),
        ] {
            let error = of(images, wanted).unwrap_err();
            assert!(error.contains(reason), "{error}");
            assert!(error.contains("a:1 (linux/amd64)"), "{error}");
            assert!(error.contains("?platform="), "{error}");
        }
    }
}
