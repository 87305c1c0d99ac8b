//! `onedock policy check`: what a template asks of Docker, judged as a node would judge it.

use std::io;
use std::path::{Path, PathBuf};

use onedock::edit::template_read::{Attribute, Misread, Value, read};
use onedock::error::{Error, Result};
use onedock::step;
use onedock_common::opennebula::nic::DEFAULT_PREFIX;
use onedock_common::opennebula::oned::{self, Attributes};
use onedock_common::opennebula::vm::{Owner, Vm};
use onedock_common::options;
use onedock_common::options::policy::{OF_THE_CLUSTER, Policy};

/// The drivers of an OpenNebula's front-end.
const REMOTES: &str = "/var/lib/one/remotes";

/// What the administrator says.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// The VM template
    template: PathBuf,
    /// The policy (without it: /etc/onedock/policy.toml, else the cluster's in OpenNebula's remotes)
    #[arg(long, value_name = "FILE")]
    policy: Option<PathBuf>,
    /// The user of OpenNebula whose VM it would be
    #[arg(long, value_name = "NAME")]
    user: Option<String>,
    /// The user's group
    #[arg(long, value_name = "NAME")]
    group: Option<String>,
}

/// Says what a VM of the template would be told; an error when it would not start.
pub(crate) fn run(options: &Options) -> Result<()> {
    let text = std::fs::read_to_string(&options.template)
        .map_err(Error::file("read", &options.template))?;
    let policy = match &options.policy {
        Some(path) => Policy::read(path)
            .map_err(|e| Error::refused(e.to_string()))?
            .ok_or_else(|| Error::refused(format!("there is no file {}", path.display())))?,
        None => Policy::load(Some(&Path::new(REMOTES).join("onedock.conf")))
            .map_err(|e| Error::refused(e.to_string()))?,
    };
    let owner = Owner {
        user: options.user.clone(),
        group: options.group.clone(),
    };
    let lines = check(&text, &policy, owner)
        .map_err(|problem| Error::refused(format!("{}: {problem}", options.template.display())))?;
    lines
        .iter()
        .try_for_each(|line| step::say(&mut io::stdout(), line))
}

/// The lines for a template whose VM would start.
fn check(text: &str, policy: &Policy, owner: Owner) -> std::result::Result<Vec<String>, String> {
    let attributes = read(text).map_err(|Misread { line, what }| format!("line {line}: {what}"))?;
    let vm = vm(&attributes, owner)?;
    let image = None;
    let asked = options::of_vm(&vm, image, policy).map_err(|e| e.to_string())?;
    let mut lines = asked.notes;
    lines.push(match policy.place() {
        Some(path) => format!("{} allows what the template asks of Docker", path.display()),
        None => format!(
            "the built-in rules allow what the template asks of Docker; there is neither {} nor {OF_THE_CLUSTER} in {REMOTES}",
            options::policy::OF_THE_NODE
        ),
    });
    Ok(lines)
}

/// A VM with what of the template is about options.
fn vm(attributes: &[Attribute], owner: Owner) -> std::result::Result<Vm, String> {
    let (mut template, mut user) = (Attributes::default(), Attributes::default());
    template.text("MEMORY", "1");
    for attribute in attributes {
        match (attribute.name.as_str(), &attribute.value) {
            ("CONTEXT", Value::Vector(parts)) => {
                let mut context = converted(parts);
                context.text("DISK_ID", "0");
                template.push("CONTEXT", oned::Value::Vector(context));
            }
            ("RAW", Value::Vector(parts)) => {
                template.push("RAW", oned::Value::Vector(converted(parts)));
            }
            (name, value) => user.push(name, converted_value(value)),
        }
    }
    let mut all = Attributes::default();
    all.text("ID", "0");
    all.text("UNAME", owner.user.unwrap_or_default());
    all.text("GNAME", owner.group.unwrap_or_default());
    all.push("TEMPLATE", oned::Value::Vector(template));
    all.push("USER_TEMPLATE", oned::Value::Vector(user));
    let document = format!("<VM>{}</VM>", all.xml());
    Vm::from_deployment(document.as_bytes(), DEFAULT_PREFIX).map_err(|e| e.to_string())
}

fn converted(parts: &[Attribute]) -> Attributes {
    let all = parts.iter();
    all.map(|part| (part.name.as_str(), converted_value(&part.value)))
        .collect()
}

fn converted_value(value: &Value) -> oned::Value {
    match value {
        Value::Text(text) => oned::Value::Text(text.clone()),
        Value::Vector(parts) => oned::Value::Vector(converted(parts)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(template: &str, policy: &str, user: &str) -> std::result::Result<Vec<String>, String> {
        let policy = Policy::parse(policy, Path::new("/p.toml")).unwrap();
        let owner = Owner {
            user: Some(user.to_owned()),
            group: None,
        };
        check(template, &policy, owner)
    }

    #[test]
    fn a_template_is_judged_as_its_vm_would_be() {
        let template = "NAME = \"a\"\nCPU = 1\nDOCKER = [ COMMAND = \"date\", CAP_ADD = \"NET_ADMIN\", PORTS = \"80\" ]\n\
            CONTEXT = [ NETWORK = \"YES\" ]\nDISK = [ IMAGE = \"web\" ]\nNIC = [ NETWORK = \"private\" ]\n";
        let error = said(template, "", "bob").unwrap_err();
        assert!(
            error.starts_with("DOCKER/CAP_ADD is not allowed"),
            "{error}"
        );
        let policy = "[user.alice.limit]\ncap_add = [\"NET_ADMIN\"]\n";
        assert!(said(template, policy, "bob").is_err());
        let lines = said(template, policy, "alice").unwrap();
        assert_eq!(lines.len(), 2, "{lines:?}");
        assert!(
            lines[0].starts_with("DOCKER/PORTS has no effect"),
            "{lines:?}"
        );
        assert_eq!(lines[1], "/p.toml allows what the template asks of Docker");
    }

    #[test]
    fn user_data_and_attributes_of_their_own_are_judged_too_and_a_bad_template_is_named_with_its_line()
     {
        for template in [
            "DOCKER_PRIVILEGED = \"YES\"",
            "CONTEXT = [ USER_DATA = \"{\\\"HostConfig\\\": {\\\"Privileged\\\": true}}\" ]",
        ] {
            assert!(
                said(template, "", "bob")
                    .unwrap_err()
                    .contains("is not allowed"),
                "{template}"
            );
        }
        assert!(
            said("\nDOCKER = [", "", "bob")
                .unwrap_err()
                .starts_with("line")
        );
    }
}
