//! The certificates: an authority of our own and, signed by it, the registry's. Made by the
//! openssl program, which every such machine has: a certificate library of our own would be
//! the largest part of this program.

use std::fs;
use std::net::IpAddr;
use std::path::Path;

use super::{RegistrySetup, name};
use crate::error::{Error, Result};
use crate::file_step::put;
use crate::owner::Owner;
use crate::step::{State, Steps, action};
use onedock_common::process::Command;

/// Ten years: nobody renews what works; a set-up that is run again renews in the last 60 days.
const DAYS: &str = "3650";
const RENEW_SECONDS: &str = "5184000";

/// The authority's step and the registry's.
pub(super) fn steps(setup: &RegistrySetup) -> Steps {
    let (a, b, c, d) = (setup.clone(), setup.clone(), setup.clone(), setup.clone());
    vec![
        action(
            setup.file("ca.crt").display().to_string(),
            move || {
                Ok(State::needed_if(
                    !authority_stands(&a),
                    "make a certificate authority",
                ))
            },
            move || make_authority(&b),
        ),
        action(
            setup.file("tls.crt").display().to_string(),
            move || {
                let what = format!("make a certificate for {}", c.registry);
                Ok(State::needed_if(!certificate_stands(&c), what))
            },
            move || make_certificate(&d),
        ),
    ]
}

/// The bytes of a certificate; none before it is made, which only a dry run sees.
pub(super) fn read(path: &Path) -> Result<Vec<u8>> {
    match fs::read(path) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
        other => other.map_err(Error::file("read", path)),
    }
}

fn authority_stands(setup: &RegistrySetup) -> bool {
    setup.file("ca.key").is_file() && lasts(&setup.file("ca.crt"))
}

fn certificate_stands(setup: &RegistrySetup) -> bool {
    let (tls, ca) = (setup.file("tls.crt"), setup.file("ca.crt"));
    if !setup.file("tls.key").is_file() || !lasts(&tls) {
        return false;
    }
    let (option, host) = named(setup);
    openssl()
        .args(["verify", "-CAfile"])
        .args([&ca])
        .args([option, host])
        .args([&tls])
        .run()
        .is_ok_and(|answer| answer.succeeded())
}

fn lasts(certificate: &Path) -> bool {
    certificate.is_file()
        && openssl()
            .args(["x509", "-noout", "-checkend", RENEW_SECONDS, "-in"])
            .args([certificate])
            .run()
            .is_ok_and(|answer| answer.succeeded())
}

/// The option by which openssl compares the name in a certificate, and the name.
fn named(setup: &RegistrySetup) -> (&'static str, &str) {
    let host = setup.registry.host();
    match host.parse::<IpAddr>() {
        Ok(_) => ("-verify_ip", host),
        Err(_) => ("-verify_hostname", host),
    }
}

fn make_authority(setup: &RegistrySetup) -> Result<()> {
    let work = work_folder(setup)?;
    let configuration = "[req]\ndistinguished_name=dn\nx509_extensions=ca\nprompt=no\n\
         [dn]\nCN=ONEDock registry authority\n\
         [ca]\nbasicConstraints=critical,CA:TRUE,pathlen:0\n\
         keyUsage=critical,keyCertSign,cRLSign\nsubjectKeyIdentifier=hash\n";
    let file = |name: &str| work.path().join(name);
    write(&file("ca.cnf"), configuration)?;
    openssl()
        .args(["req", "-x509", "-sha256", "-days", DAYS, "-nodes"])
        .args(["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"])
        .args([
            Path::new("-config"),
            &file("ca.cnf"),
            Path::new("-keyout"),
            &file("ca.key"),
        ])
        .args([Path::new("-out"), &file("ca.crt")])
        .checked()?;
    put(
        &setup.file("ca.key"),
        &read(&file("ca.key"))?,
        0o600,
        &Owner::root(),
    )?;
    put(
        &setup.file("ca.crt"),
        &read(&file("ca.crt"))?,
        0o644,
        &Owner::root(),
    )
}

fn make_certificate(setup: &RegistrySetup) -> Result<()> {
    let work = work_folder(setup)?;
    let file = |name: &str| work.path().join(name);
    let names = subject_names(setup).join(",");
    // Every name in here was read as a host name or an address before.
    let configuration = format!(
        "[req]\ndistinguished_name=dn\nprompt=no\n[dn]\nCN=ONEDock registry\n\
         [tls]\nbasicConstraints=critical,CA:FALSE\nkeyUsage=critical,digitalSignature\n\
         extendedKeyUsage=serverAuth\nsubjectAltName={names}\n"
    );
    write(&file("tls.cnf"), &configuration)?;
    openssl()
        .args(["req", "-new", "-sha256", "-nodes"])
        .args(["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"])
        .args([
            Path::new("-config"),
            &file("tls.cnf"),
            Path::new("-keyout"),
            &file("tls.key"),
        ])
        .args([Path::new("-out"), &file("tls.csr")])
        .checked()?;
    let serial = format!("0x{}", hex(&crate::secret::random_bytes::<15>()?));
    openssl()
        .args([
            "x509",
            "-req",
            "-sha256",
            "-days",
            DAYS,
            "-set_serial",
            serial.as_str(),
        ])
        .args([
            Path::new("-in"),
            &file("tls.csr"),
            Path::new("-out"),
            &file("tls.crt"),
        ])
        .args([Path::new("-CA"), &setup.file("ca.crt")])
        .args([Path::new("-CAkey"), &setup.file("ca.key")])
        .args([Path::new("-extfile"), &file("tls.cnf")])
        .args(["-extensions", "tls"])
        .checked()?;
    let owner = setup.service_owner();
    put(
        &setup.file("tls.key"),
        &read(&file("tls.key"))?,
        0o600,
        &owner,
    )?;
    put(
        &setup.file("tls.crt"),
        &read(&file("tls.crt"))?,
        0o644,
        &owner,
    )
}

/// The registry's name first, then every other one that this machine has.
fn subject_names(setup: &RegistrySetup) -> Vec<String> {
    let entry = |host: &str| match host.parse::<IpAddr>() {
        Ok(address) => format!("IP:{address}"),
        Err(_) => format!("DNS:{host}"),
    };
    let mut names = vec![entry(setup.registry.host())];
    let mut add = |name: String| {
        if !names.contains(&name) {
            names.push(name);
        }
    };
    for address in name::own_addresses() {
        add(format!("IP:{address}"));
    }
    add("DNS:localhost".into());
    add("IP:127.0.0.1".into());
    names
}

fn work_folder(setup: &RegistrySetup) -> Result<tempfile::TempDir> {
    let folder = setup.host.path(super::FOLDER);
    // Beside its setup, so that no key is ever in a folder that others may enter (mode 0700).
    tempfile::Builder::new()
        .prefix(".new")
        .tempdir_in(&folder)
        .map_err(Error::file("make a folder in", &folder))
}

fn write(path: &Path, text: &str) -> Result<()> {
    fs::write(path, text).map_err(Error::file("write", path))
}

fn openssl() -> Command {
    Command::local("openssl")
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}
