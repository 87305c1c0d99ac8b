//! TIMEZONE: `/etc/localtime` (loc-09). An image without zones gets the zone's file of its host, which
//! the runtime shows at [`OF_THE_HOST`].

use std::fs;
use std::io;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Component, Path};

use super::etc_file;
use crate::context_file::ContextFile;

/// Where an image keeps the zones.
const ZONES: &str = "usr/share/zoneinfo";
/// Where those of the host are seen.
const OF_THE_HOST: &str = "dev/onedock-zoneinfo";

/// Sets it.
///
/// # Errors
///
/// A line that says why it is not set.
pub(super) fn apply(root: &Path, context: &ContextFile) -> Result<(), String> {
    let Some(zone) = context.get("TIMEZONE").map(str::trim) else {
        return Ok(());
    };
    let unknown = || format!("TIMEZONE {zone} is not a time zone that the image or its host knows");
    if !is_path(zone) {
        return Err(unknown());
    }
    let localtime = root.join("etc/localtime");
    let done = if is_zone(&root.join(ZONES), zone) {
        let target = Path::new("/").join(ZONES).join(zone);
        in_one_step(&localtime, |new| symlink(&target, new))
    } else if is_zone(&root.join(OF_THE_HOST), zone) {
        let source = root.join(OF_THE_HOST).join(zone);
        in_one_step(&localtime, |new| {
            fs::write(new, fs::read(&source)?)?;
            fs::set_permissions(new, fs::Permissions::from_mode(0o644))
        })
    } else {
        return Err(unknown());
    };
    let name = root.join("etc/timezone");
    done.and_then(|()| match name.exists() {
        true => etc_file::replace(&name, &format!("{zone}\n"), 0o644),
        false => Ok(()),
    })
    .map_err(|e| format!("TIMEZONE {zone} cannot be set: {e}"))
}

/// Whether it stays beneath the folder of zones.
fn is_path(zone: &str) -> bool {
    let is_plain = |part: Component<'_>| matches!(part, Component::Normal(_));
    !zone.is_empty() && !zone.starts_with('/') && Path::new(zone).components().all(is_plain)
}

fn is_zone(zones: &Path, zone: &str) -> bool {
    let Ok(file) = fs::canonicalize(zones.join(zone)) else {
        return false;
    };
    let is_beneath = fs::canonicalize(zones).is_ok_and(|zones| file.starts_with(zones));
    is_beneath && fs::read(&file).is_ok_and(|bytes| bytes.starts_with(b"TZif"))
}

fn in_one_step(path: &Path, make: impl FnOnce(&Path) -> io::Result<()>) -> io::Result<()> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    let new = etc_file::beside(path);
    let _ = fs::remove_file(&new);
    make(&new)
        .and_then(|()| fs::rename(&new, path))
        .inspect_err(|_| drop(fs::remove_file(&new)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(root: &Path, zone: &str) -> Result<(), String> {
        apply(
            root,
            &ContextFile::parse(&format!("TIMEZONE='{zone}'")).unwrap(),
        )
    }

    fn with_zones(place: &str) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        let zones = dir.path().join(place);
        fs::create_dir_all(zones.join("Europe")).unwrap();
        fs::write(zones.join("Europe/Berlin"), "TZif2 of Berlin").unwrap();
        fs::write(zones.join("tzdata.zi"), "# version").unwrap();
        fs::write(dir.path().join("secret"), "TZif no").unwrap();
        dir
    }

    #[test]
    fn a_zone_of_the_image_is_linked_and_named() {
        let dir = with_zones(ZONES);
        fs::create_dir(dir.path().join("etc")).unwrap();
        fs::write(dir.path().join("etc/timezone"), "Etc/UTC\n").unwrap();
        fs::write(dir.path().join("etc/localtime"), "old").unwrap();
        set(dir.path(), "Europe/Berlin").unwrap();
        let link = fs::read_link(dir.path().join("etc/localtime")).unwrap();
        assert_eq!(link, Path::new("/usr/share/zoneinfo/Europe/Berlin"));
        let name = fs::read_to_string(dir.path().join("etc/timezone")).unwrap();
        assert_eq!(name, "Europe/Berlin\n");
    }

    #[test]
    fn an_image_without_zones_gets_the_file_of_its_host() {
        let dir = with_zones(OF_THE_HOST);
        set(dir.path(), "Europe/Berlin").unwrap();
        let localtime = dir.path().join("etc/localtime");
        assert!(!localtime.is_symlink());
        assert_eq!(fs::read(localtime).unwrap(), b"TZif2 of Berlin");
        assert!(!dir.path().join("etc/timezone").exists());
    }

    #[test]
    fn what_is_no_zone_changes_nothing() {
        let dir = with_zones(ZONES);
        for bad in [
            "Europe/Nowhere",
            "tzdata.zi",
            "Europe",
            "../../../secret",
            "/secret",
            ".",
            "Europe/../../x",
        ] {
            let error = set(dir.path(), bad).unwrap_err();
            assert!(error.contains(bad), "{error}");
        }
        assert!(!dir.path().join("etc").exists());
        assert_eq!(apply(dir.path(), &ContextFile::default()), Ok(()));
    }
}
