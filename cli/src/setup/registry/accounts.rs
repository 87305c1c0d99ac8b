//! The accounts of the registry: one for the front-end and one for the nodes. The passwords
//! are random, so the cheapest bcrypt protects them as well as a dear one, and the registry
//! works it out anew for every single request.
//!
//! `docker-registry` gives every account of a password file all rights; what the nodes' may do is the
//! proxy's to say ([`super::proxy`]).

use std::collections::BTreeMap;
use std::fs;

use super::RegistrySetup;
use crate::error::{Error, Result};
use crate::file_step::put;
use crate::owner::Owner;
use crate::secret::{Secret, random_bytes};
use crate::step::{State, Steps, action};

/// The least that bcrypt knows.
const COST: u32 = 4;

type Passwords = BTreeMap<String, Secret>;

/// The passwords' step and the step of the file in which the registry looks.
pub(super) fn steps(setup: &RegistrySetup) -> Steps {
    let (a, b, c, d) = (setup.clone(), setup.clone(), setup.clone(), setup.clone());
    vec![
        action(
            setup.file("passwords.json").display().to_string(),
            move || {
                let known = read(&a);
                let lacking = users(&a).iter().any(|user| !known.contains_key(user));
                Ok(State::needed_if(lacking, "make random passwords"))
            },
            move || make(&b),
        ),
        action(
            setup.file("htpasswd").display().to_string(),
            move || {
                Ok(State::needed_if(
                    !matches(&c),
                    format!("accounts {}", users(&c).join(", ")),
                ))
            },
            move || write_hashes(&d),
        ),
    ]
}

/// The front-end's account.
pub(super) fn front_end(setup: &RegistrySetup) -> Result<(String, Secret)> {
    account(setup, 0)
}

/// The nodes' account.
pub(super) fn node(setup: &RegistrySetup) -> Result<(String, Secret)> {
    account(setup, 1)
}

fn users(setup: &RegistrySetup) -> [String; 2] {
    let user = &setup.options.user;
    [user.clone(), format!("{user}-node")]
}

fn account(setup: &RegistrySetup, which: usize) -> Result<(String, Secret)> {
    let [front_end, node] = users(setup);
    let user = if which == 0 { front_end } else { node };
    // In a dry run before the first set-up there is none yet; nothing is written then.
    let password = read(setup).remove(&user).unwrap_or_else(|| Secret::new(""));
    Ok((user, password))
}

fn read(setup: &RegistrySetup) -> Passwords {
    fs::read(setup.file("passwords.json"))
        .ok()
        .and_then(|bytes| serde_json::from_slice(&bytes).ok())
        .unwrap_or_default()
}

fn make(setup: &RegistrySetup) -> Result<()> {
    let mut passwords = read(setup);
    for user in users(setup) {
        if let std::collections::btree_map::Entry::Vacant(setup) = passwords.entry(user) {
            setup.insert(Secret::random()?);
        }
    }
    let text = serde_json::to_string_pretty(&passwords)
        .map_err(|e| Error::refused(format!("the passwords cannot be written: {e}")))?;
    put(
        &setup.file("passwords.json"),
        (text + "\n").as_bytes(),
        0o600,
        &Owner::root(),
    )
}

/// Whether the registry's file holds exactly the known passwords.
fn matches(setup: &RegistrySetup) -> bool {
    let text = fs::read_to_string(setup.file("htpasswd")).unwrap_or_default();
    let hashes: BTreeMap<&str, &str> = text.lines().filter_map(|l| l.split_once(':')).collect();
    let known = read(setup);
    hashes.len() == known.len()
        && known.iter().all(|(user, password)| {
            let hash = hashes.get(user.as_str()).copied().unwrap_or_default();
            bcrypt::verify(password.reveal(), hash).unwrap_or(false)
        })
}

fn write_hashes(setup: &RegistrySetup) -> Result<()> {
    let mut text = String::new();
    for (user, password) in read(setup) {
        let salt = random_bytes::<16>()?;
        let hash = bcrypt::hash_with_salt(password.reveal(), COST, salt)
            .map_err(|e| Error::refused(format!("a password cannot be hashed: {e}")))?;
        // The version letter that htpasswd writes and Go's bcrypt reads.
        text.push_str(&format!(
            "{user}:{}\n",
            hash.format_for_version(bcrypt::Version::TwoY)
        ));
    }
    put(
        &setup.file("htpasswd"),
        text.as_bytes(),
        0o640,
        &setup.readable_by_service(),
    )
}
