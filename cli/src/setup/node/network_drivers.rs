//! What OpenNebula's network drivers need of a node's Ruby. From 7.4 on each of them begins with
//! `require 'load_opennebula_paths'` (`src/vnm_mad/remotes/*/pre`), a file of the front-end that sets
//! the paths of its gems. On a node that has no package of OpenNebula the driver ends there, and
//! every VM with a NIC in BOOT_FAILURE.

use std::path::Path;

use crate::error::{Error, Result};
use crate::file_step::put;
use crate::owner::Owner;
use crate::step::{State, Step, action};
use onedock_common::process::{Command, find_local};

const LIBRARY: &str = "load_opennebula_paths";

/// Nothing to set: the drivers use no gem. A package of OpenNebula that brings the file later
/// puts its own in this one's place, because no package owns this one.
const CONTENT: &str =
    "# For OpenNebula's network drivers, which require this file: a node has no paths to set.\n";

/// A step that lets the drivers find the file.
pub(super) fn step() -> Box<dyn Step> {
    action(
        "OpenNebula's network drivers in Ruby",
        || {
            // Without Ruby as yet (a dry run), the file will be needed.
            let loads = find_local("ruby").is_some() && loads()?;
            let what = format!("give Ruby an empty {LIBRARY}.rb");
            Ok(State::needed_if(!loads, what))
        },
        || {
            let folder = vendor_folder(&ruby("print RbConfig::CONFIG['vendordir']")?)?;
            let path = Path::new(&folder).join(format!("{LIBRARY}.rb"));
            put(&path, CONTENT.as_bytes(), 0o644, &Owner::root())
        },
    )
}

fn loads() -> Result<bool> {
    let script = format!("require '{LIBRARY}'");
    let answer = Command::local("ruby").args(["-e", &script]).run()?;
    Ok(answer.succeeded())
}

fn ruby(script: &str) -> Result<String> {
    Ok(Command::local("ruby")
        .args(["-e", script])
        .checked()?
        .stdout)
}

/// The folder for what distributions bring, which stands behind the administrator's own.
fn vendor_folder(answer: &str) -> Result<String> {
    let folder = answer.trim();
    if folder.starts_with('/') {
        return Ok(folder.to_owned());
    }
    Err(Error::refused(format!(
        "ruby does not name the folder of its libraries (RbConfig vendordir is \"{folder}\"); \
         put an empty {LIBRARY}.rb where ruby finds it and call this again"
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_whole_path_is_a_folder_for_libraries() {
        assert_eq!(
            vendor_folder("/usr/lib/ruby/vendor_ruby\n").unwrap(),
            "/usr/lib/ruby/vendor_ruby"
        );
        assert!(vendor_folder("").unwrap_err().line().contains("vendordir"));
    }

    #[test]
    fn the_file_is_ruby_that_does_nothing() {
        assert!(CONTENT.lines().all(|line| line.starts_with('#')));
    }
}
