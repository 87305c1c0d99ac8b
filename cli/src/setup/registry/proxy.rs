//! What stands before the registry: HAProxy, which has the certificate and lets accounts do what they
//! may (docs/decisions/0040-what-a-node-holds.md). `docker-registry` itself gives every account all rights.
//!
//! The nodes' account pulls, and pushes what the drivers on a node push: layers, and manifests under the
//! tags of VMs' disks and snapshots. It deletes nothing, and sets no version of an image.

use std::fs;
use std::path::Path;

use super::{RegistrySetup, accounts};
use crate::error::Result;
use crate::file_step::PutFile;
use crate::step::Step;

pub(super) const CONFIG: &str = "haproxy.cfg";
/// Where the registry listens, for the proxy alone.
pub(super) const SOCKET: &str = "/run/onedock-registry/registry.sock";

/// The paths to which a node's account writes: the sessions of uploads, and manifests under the tags of
/// [`ImageTag`](onedock_common::types::reference::ImageTag) that belong to VMs, or under none.
const OF_NODES: [&str; 2] = [
    "^/v2/[a-z0-9._/-]+/blobs/uploads/[A-Za-z0-9_=-]*$",
    "^/v2/[a-z0-9._/-]+/manifests/(sha256:[0-9a-f]{64}|(saving-)?vm-[0-9]+-disk-[0-9]+(-snap-[0-9]+)?|snap-[0-9]+)$",
];

/// The file's step.
pub(super) fn step(setup: &RegistrySetup) -> Box<dyn Step> {
    let owned = setup.clone();
    PutFile::from(
        setup.file(CONFIG),
        move || {
            let (user, _) = accounts::front_end(&owned)?;
            Ok(render(&owned, &user, &hash(&owned, &user)?).into_bytes())
        },
        0o640,
        setup.readable_by_service(),
    )
}

/// The front-end's hash in the registry's own file of accounts.
fn hash(setup: &RegistrySetup, user: &str) -> Result<String> {
    let text = fs::read_to_string(setup.file("htpasswd")).unwrap_or_default();
    let mut lines = text.lines().filter_map(|line| line.split_once(':'));
    // In a dry run before the first set-up there is none yet.
    let found = lines.find(|(name, _)| *name == user);
    Ok(found.map_or_else(|| "x".to_owned(), |(_, hash)| hash.to_owned()))
}

fn render(setup: &RegistrySetup, user: &str, hash: &str) -> String {
    let [uploads, manifests] = OF_NODES;
    let certificate = setup.file("tls.crt");
    let socket = setup.host.path(SOCKET);
    // IPv4 as well, as a registry alone would listen.
    let has_ipv6 = Path::new("/proc/net/if_inet6").exists();
    let all = if has_ipv6 { "[::]" } else { "*" };
    let family = match setup.options.listen {
        None if has_ipv6 => " v4v6",
        _ => "",
    };
    format!(
        "# Written by `onedock setup registry`; a change in here is undone by the next one.\n\
         global\n\
         \x20   log stdout format raw local0 notice\n\
         \x20   maxconn 4000\n\
         \x20   ssl-default-bind-options ssl-min-ver TLSv1.2\n\
         \x20   # tls.key beside tls.crt\n\
         \x20   ssl-load-extra-del-ext\n\
         \x20   ssl-load-extra-files key\n\
         \n\
         defaults\n\
         \x20   mode http\n\
         \x20   log global\n\
         \x20   option dontlog-normal\n\
         \x20   timeout connect 5s\n\
         \x20   timeout http-request 30s\n\
         \x20   timeout client 10m\n\
         \x20   timeout server 10m\n\
         \n\
         userlist writers\n\
         \x20   user {user} password {hash}\n\
         \n\
         frontend registry\n\
         \x20   bind {address}:{port}{family} ssl crt {certificate} alpn http/1.1\n\
         \x20   http-request set-header X-Forwarded-Proto https\n\
         \x20   http-request deny deny_status 400 if {{ req.hdr_cnt(authorization) gt 1 }}\n\
         \x20   acl has_login req.hdr(authorization) -m found\n\
         \x20   acl reads method GET HEAD OPTIONS\n\
         \x20   acl uploads path_reg {uploads}\n\
         \x20   acl vm_tags path_reg {manifests}\n\
         \x20   acl puts method PUT\n\
         \x20   acl traverses path_sub .. //\n\
         \x20   acl front_end http_auth(writers)\n\
         \x20   # Without a login the registry asks for one; it checks every password itself.\n\
         \x20   http-request allow if !has_login\n\
         \x20   http-request allow if reads\n\
         \x20   http-request allow if front_end\n\
         \x20   http-request allow if uploads !traverses\n\
         \x20   http-request allow if puts vm_tags !traverses\n\
         \x20   http-request return status 403 content-type application/json string \"{refusal}\"\n\
         \x20   default_backend registry\n\
         \n\
         backend registry\n\
         \x20   server registry unix@{socket}\n",
        address = setup.options.listen.as_deref().unwrap_or(all),
        port = setup.options.port,
        certificate = certificate.display(),
        socket = socket.display(),
        refusal = REFUSAL.replace('"', "\\\""),
    )
}

/// In the form of the registry's own errors.
const REFUSAL: &str = r#"{"errors":[{"code":"DENIED","message":"this account pulls images and pushes the disks of VMs; only the front-end's account changes or deletes images"}]}"#;
