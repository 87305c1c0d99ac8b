//! The join file of this cloud.

use std::path::PathBuf;

use super::{RegistrySetup, accounts, certificate};
use crate::error::Result;
use crate::file_step::PutFile;
use crate::getent;
use crate::owner::Owner;
use crate::setup::frontend::Layout;
use crate::setup::join::{self, Join, ssh_files_for_nodes};
use crate::step::Step;

/// The file's step.
pub(super) fn step(setup: &RegistrySetup, front_end: Option<&Layout>) -> Box<dyn Step> {
    let default = PathBuf::from("/var/lib/one/datastores");
    let datastores = front_end.map_or(default, Layout::datastores);
    let scripts = front_end.map(Layout::remote_scripts);
    let owned = setup.clone();
    PutFile::from(
        setup.host.path(join::PATH),
        move || {
            collect(&owned, &datastores, scripts.clone())?
                .render()
                .map(String::into_bytes)
        },
        0o600,
        Owner::root(),
    )
}

fn collect(
    setup: &RegistrySetup,
    datastores: &std::path::Path,
    remote_scripts: Option<PathBuf>,
) -> Result<Join> {
    let (user, password) = accounts::node(setup)?;
    let oneadmin = getent::user(&setup.options.oneadmin)?;
    let home = oneadmin
        .as_ref()
        .map_or_else(|| "/var/lib/one".into(), |user| user.home.clone());
    let ca = certificate::read(&setup.file("ca.crt"))?;
    let ca = String::from_utf8_lossy(&ca).into_owned();
    Ok(Join {
        registry: setup.registry.clone(),
        ca,
        user,
        password,
        datastores: datastores.to_path_buf(),
        remote_scripts,
        ids: oneadmin.map(|user| (user.uid, user.gid)),
        ssh: ssh_files_for_nodes(
            &setup.host.path(home.join(".ssh")),
            setup.options.with_private_key,
        ),
    })
}
