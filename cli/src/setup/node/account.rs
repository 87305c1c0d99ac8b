//! oneadmin as OpenNebula's packages make it (home `/var/lib/one`, shell bash), in the group
//! that may speak to the engine.

use std::path::Path;

use crate::error::{Error, Result};
use crate::getent;
use crate::owner::Owner;
use crate::setup::ONEADMIN;
use crate::setup::join::Join;
use crate::step::{State, Step, Steps, action};
use onedock_common::process::Command;

const HOME: &str = "/var/lib/one";

/// The number of OpenNebula's packages, for a cloud whose front-end's is not known.
const USUAL_ID: u32 = 9869;

/// The group of the engine's socket.
const DOCKER: &str = "docker";

/// The group and the user. They get the front-end's numbers where these are free, because
/// shared folders know owners by number.
pub(super) fn steps(join: Option<&Join>) -> Steps {
    let (uid, gid) = join.and_then(|j| j.ids).unwrap_or((USUAL_ID, USUAL_ID));
    vec![
        action(
            format!("group {ONEADMIN}"),
            || {
                let missing = getent::group(ONEADMIN)?.is_none();
                Ok(State::needed_if(missing, "make it"))
            },
            move || {
                let mut arguments = vec!["--system".to_owned()];
                if getent::group_of(gid)?.is_none() {
                    arguments.extend(["--gid".to_owned(), gid.to_string()]);
                }
                arguments.push(ONEADMIN.to_owned());
                Ok(Command::local("groupadd")
                    .args(arguments)
                    .checked()
                    .map(drop)?)
            },
        ),
        action(
            format!("user {ONEADMIN}"),
            || match getent::user(ONEADMIN)? {
                None => Ok(State::Needed(format!("make it, home {HOME}"))),
                Some(user) if user.home == Path::new(HOME) => Ok(State::Unchanged),
                Some(user) => Err(Error::refused(format!(
                    "user {ONEADMIN} has the home {} and OpenNebula wants {HOME} on every host; \
                     change it with usermod --home {HOME} {ONEADMIN}",
                    user.home.display()
                ))),
            },
            move || {
                let mut arguments: Vec<String> = [
                    "--system",
                    "--create-home",
                    "--home-dir",
                    HOME,
                    "--shell",
                    "/bin/bash",
                ]
                .map(str::to_owned)
                .to_vec();
                arguments.extend(["--gid".to_owned(), ONEADMIN.to_owned()]);
                if getent::user_of(uid)?.is_none() {
                    arguments.extend(["--uid".to_owned(), uid.to_string()]);
                }
                arguments.push(ONEADMIN.to_owned());
                Ok(Command::local("useradd")
                    .args(arguments)
                    .checked()
                    .map(drop)?)
            },
        ),
        super::missing_folder(HOME.into(), 0o750, Owner::names(ONEADMIN, ONEADMIN)),
    ]
}

/// oneadmin in group docker, which the engine's package makes.
pub(super) fn docker_group_steps() -> Vec<Box<dyn Step>> {
    vec![action(
        format!("{ONEADMIN} in group {DOCKER}"),
        || {
            let member = getent::group(DOCKER)?
                .is_some_and(|group| group.members.iter().any(|member| member == ONEADMIN));
            Ok(State::needed_if(!member, "add it"))
        },
        || {
            if getent::group(DOCKER)?.is_none() {
                return Err(Error::refused(format!(
                    "there is no group {DOCKER}; make it (groupadd --system {DOCKER}), restart \
                     the engine so that its socket belongs to it, and call this again"
                )));
            }
            Ok(Command::local("usermod")
                .args(["-aG", DOCKER, ONEADMIN])
                .checked()
                .map(drop)?)
        },
    )]
}

/// The number of the engine's group.
pub(super) fn docker_gid() -> Result<Option<u32>> {
    Ok(getent::group(DOCKER)?.map(|group| group.gid))
}

/// The number of oneadmin.
pub(super) fn oneadmin_uid() -> Result<Option<u32>> {
    Ok(getent::user(ONEADMIN)?.map(|user| user.uid))
}
