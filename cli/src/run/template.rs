//! What a VM template asks for, read strictly: whatever would have to be found out from an
//! OpenNebula is refused with its line, because here is none.

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use onedock::edit::template_read::{Attribute, Misread, Value, read};
use onedock::error::{Error, Result};
use onedock_common::{IfName, Mac};

/// The attributes that `oned` keeps in TEMPLATE; all others go to USER_TEMPLATE.
const TEMPLATE: [&str; 10] = [
    "CPU_MODEL",
    "EMULATOR",
    "FEATURES",
    "GRAPHICS",
    "INPUT",
    "OS",
    "RAW",
    "TOPOLOGY",
    "VCPU_MAX",
    "VIDEO",
];

/// What needs an OpenNebula, or is not supported yet.
const REFUSED: [&str; 5] = ["NIC_ALIAS", "PCI", "NIC_DEFAULT", "VMGROUP", "SCHED_ACTION"];

/// A VM as a template asks for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Template {
    /// NAME; the file's name without one.
    pub(crate) name: String,
    /// CPU, VCPU and MEMORY as written.
    pub(crate) cpu: String,
    pub(crate) vcpu: Option<String>,
    pub(crate) memory: String,
    /// In the order of their ids.
    pub(crate) disks: Vec<DiskTemplate>,
    /// In the order of their ids.
    pub(crate) nics: Vec<NicTemplate>,
    /// CONTEXT; absent when the template has none.
    pub(crate) context: Option<Vec<Attribute>>,
    /// Known attributes that are passed on as they are.
    pub(crate) template: Vec<Attribute>,
    /// Attributes of users.
    pub(crate) user: Vec<Attribute>,
}

/// A disk made of an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct DiskTemplate {
    /// Where the image comes from, as IMAGE/PATH has it.
    pub(crate) path: String,
    /// What the image is called.
    pub(crate) image: String,
    /// Whether changes go back to the image.
    pub(crate) persistent: bool,
    /// DOCKERRUN of the image.
    pub(crate) dockerrun: Option<String>,
    /// Everything else, passed on as it is.
    pub(crate) rest: Vec<Attribute>,
}

/// A network interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct NicTemplate {
    pub(crate) bridge: IfName,
    pub(crate) ip: Option<Ipv4Addr>,
    /// MAC; made of IP as `oned` does, when it is not given.
    pub(crate) mac: Option<Mac>,
    /// MASK or NETWORK_MASK.
    pub(crate) mask: Option<String>,
    /// Everything else, passed on as it is.
    pub(crate) rest: Vec<Attribute>,
}

impl Template {
    /// Reads a template's file.
    pub(crate) fn read(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path).map_err(Error::file("read", path))?;
        let name = path.file_stem().unwrap_or_default().to_string_lossy();
        Self::parse(&text, &name).map_err(|Problem { line, what }| {
            Error::refused(match line {
                Some(line) => format!("{}, line {line}: {what}", path.display()),
                None => format!("{}: {what}", path.display()),
            })
        })
    }

    fn parse(text: &str, file: &str) -> std::result::Result<Self, Problem> {
        let mut found = Found::default();
        for attribute in read(text)? {
            found.take(attribute)?;
        }
        let needed = |value: Option<Attribute>, name: &str, example: &str| match value {
            Some(attribute) => attribute_text(&attribute),
            None => Err(Problem::all(format!(
                "{name} is missing; for example {name}={example}"
            ))),
        };
        let template = Self {
            name: match found.name {
                Some(name) => attribute_text(&name)?,
                None => file.to_owned(),
            },
            cpu: needed(found.cpu, "CPU", "0.5")?,
            vcpu: found.vcpu.as_ref().map(attribute_text).transpose()?,
            memory: needed(found.memory, "MEMORY", "256")?,
            disks: found.disks,
            nics: found.nics,
            context: found.context,
            template: found.template,
            user: found.user,
        };
        if template.disks.is_empty() {
            return Err(Problem::all(
                "there is no DISK; a VM is made of one, such as DISK=[IMAGE=\"docker://HOST/NAME\"]",
            ));
        }
        Ok(template)
    }
}

/// Why a template is refused.
#[derive(Debug, PartialEq, Eq)]
struct Problem {
    line: Option<usize>,
    what: String,
}

impl Problem {
    fn at(line: usize, what: impl Into<String>) -> Self {
        Self {
            line: Some(line),
            what: what.into(),
        }
    }
    fn all(what: impl Into<String>) -> Self {
        Self {
            line: None,
            what: what.into(),
        }
    }
}

impl From<Misread> for Problem {
    fn from(Misread { line, what }: Misread) -> Self {
        Self::at(line, what)
    }
}

type Read<T> = std::result::Result<T, Problem>;

#[derive(Default)]
struct Found {
    name: Option<Attribute>,
    cpu: Option<Attribute>,
    vcpu: Option<Attribute>,
    memory: Option<Attribute>,
    disks: Vec<DiskTemplate>,
    nics: Vec<NicTemplate>,
    context: Option<Vec<Attribute>>,
    template: Vec<Attribute>,
    user: Vec<Attribute>,
}

impl Found {
    fn take(&mut self, attribute: Attribute) -> Read<()> {
        let line = attribute.line;
        if attribute.name.starts_with(|c: char| c.is_ascii_digit()) {
            return Err(Problem::at(
                line,
                format!("the name {} begins with a digit", attribute.name),
            ));
        }
        let once = |place: &mut Option<Attribute>, attribute: Attribute| {
            let twice = place.is_some();
            let name = attribute.name.clone();
            *place = Some(attribute);
            if twice {
                Err(Problem::at(line, format!("{name} is given twice")))
            } else {
                Ok(())
            }
        };
        match attribute.name.as_str() {
            "NAME" => once(&mut self.name, attribute)?,
            "CPU" => once(&mut self.cpu, attribute)?,
            "VCPU" => once(&mut self.vcpu, attribute)?,
            "MEMORY" => once(&mut self.memory, attribute)?,
            "DISK" => self.disks.push(DiskTemplate::parse(attribute)?),
            "NIC" => self.nics.push(NicTemplate::parse(attribute)?),
            "CONTEXT" if self.context.is_some() => {
                return Err(Problem::at(line, "CONTEXT is given twice"));
            }
            "CONTEXT" => self.context = Some(context(vector(attribute)?)?),
            name if REFUSED.contains(&name) => {
                return Err(Problem::at(
                    line,
                    format!("{name} is not supported by `onedock run`"),
                ));
            }
            name if TEMPLATE.contains(&name) => self.template.push(attribute),
            _ => self.user.push(attribute),
        }
        Ok(())
    }
}

impl DiskTemplate {
    fn parse(attribute: Attribute) -> Read<Self> {
        let line = attribute.line;
        let mut parts = Parts::of(vector(attribute)?)?;
        let (image, path) = (parts.take("IMAGE"), parts.take("PATH"));
        parts.refuse(
            "IMAGE_ID",
            "it is the number of an image in an OpenNebula; use IMAGE=\"docker://…\" or PATH",
        )?;
        let path = match (&path, &image) {
            (Some(path), _) => path.clone(),
            (None, Some(image)) if image.starts_with('/') || image.contains("://") => image.clone(),
            (None, Some(image)) => {
                return Err(Problem::at(
                    line,
                    format!(
                        "DISK has the image \"{image}\" and no PATH; without an OpenNebula an image is named by where it comes from: docker://… or the path of an archive"
                    ),
                ));
            }
            (None, None) => {
                return Err(Problem::at(
                    line,
                    "DISK has neither IMAGE nor PATH; only disks of images are supported by `onedock run`",
                ));
            }
        };
        // What is relative would be taken from the drivers' folder.
        let path = if path.contains("://") {
            path
        } else {
            absolute(&path).ok_or_else(|| Problem::at(line, format!("there is no file {path}")))?
        };
        let persistent = match parts.take("PERSISTENT").as_deref() {
            None => false,
            Some(word) if word.eq_ignore_ascii_case("yes") => true,
            Some(word) if word.eq_ignore_ascii_case("no") => false,
            Some(word) => {
                return Err(Problem::at(
                    line,
                    format!("PERSISTENT is \"{word}\" and must be YES or NO"),
                ));
            }
        };
        Ok(Self {
            image: image.unwrap_or_else(|| path.clone()),
            path,
            persistent,
            dockerrun: parts.take("DOCKERRUN"),
            rest: parts.rest,
        })
    }
}

fn absolute(path: &str) -> Option<String> {
    let whole: PathBuf = std::fs::canonicalize(path).ok()?;
    whole.into_os_string().into_string().ok()
}

impl NicTemplate {
    fn parse(attribute: Attribute) -> Read<Self> {
        let line = attribute.line;
        let mut parts = Parts::of(vector(attribute)?)?;
        for name in ["NETWORK", "NETWORK_ID"] {
            parts.refuse(
                name,
                "there is no OpenNebula to ask for the network; give BRIDGE and IP",
            )?;
        }
        parts.refuse("NIC_ID", "it is given by the order of the NICs")?;
        let bridge = parts
            .take("BRIDGE")
            .ok_or_else(|| Problem::at(line, "NIC has no BRIDGE"))?;
        let wrong = |name: &str, why: String| Problem::at(line, format!("NIC/{name}: {why}"));
        let ip = parts
            .take("IP")
            .map(|text| {
                text.parse()
                    .map_err(|_| wrong("IP", format!("\"{text}\" is not an IPv4 address")))
            })
            .transpose()?;
        let mac = parts
            .take("MAC")
            .map(|text| text.parse().map_err(|e| wrong("MAC", format!("{e}"))))
            .transpose()?;
        let mask = parts.take("MASK").or(parts.take("NETWORK_MASK"));
        Ok(Self {
            bridge: bridge
                .parse()
                .map_err(|e| wrong("BRIDGE", format!("{e}")))?,
            ip,
            mac,
            mask,
            rest: parts.rest,
        })
    }
}

/// The variables of CONTEXT. `oned` would fill in what begins with `$` from its database.
fn context(attributes: Vec<Attribute>) -> Read<Vec<Attribute>> {
    for attribute in &attributes {
        let text = attribute_text(attribute)?;
        let asked = text.split('$').skip(1).find(|rest| {
            let word = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_');
            word.is_some_and(|end| end > 0 && rest[end..].starts_with('['))
        });
        if asked.is_some() {
            return Err(Problem::at(
                attribute.line,
                format!(
                    "CONTEXT/{} asks OpenNebula for a value ({text}); give the value itself",
                    attribute.name
                ),
            ));
        }
    }
    Ok(attributes)
}

/// The attributes of a vector, each once.
struct Parts {
    rest: Vec<Attribute>,
}

impl Parts {
    fn of(attributes: Vec<Attribute>) -> Read<Self> {
        for (index, attribute) in attributes.iter().enumerate() {
            if attributes[..index].iter().any(|a| a.name == attribute.name) {
                return Err(Problem::at(
                    attribute.line,
                    format!("{} is given twice", attribute.name),
                ));
            }
            if attribute.name.starts_with(|c: char| c.is_ascii_digit()) {
                return Err(Problem::at(
                    attribute.line,
                    format!("the name {} begins with a digit", attribute.name),
                ));
            }
        }
        Ok(Self { rest: attributes })
    }

    /// A text that is there and not empty, taken out.
    fn take(&mut self, name: &str) -> Option<String> {
        let index = self.rest.iter().position(|a| a.name == name)?;
        let taken = self.rest.remove(index);
        taken
            .text()
            .map(str::to_owned)
            .filter(|text| !text.is_empty())
    }

    fn refuse(&self, name: &str, why: &str) -> Read<()> {
        match self.rest.iter().find(|a| a.name == name) {
            Some(found) => Err(Problem::at(found.line, format!("{name}: {why}"))),
            None => Ok(()),
        }
    }
}

fn vector(attribute: Attribute) -> Read<Vec<Attribute>> {
    match attribute.value {
        Value::Vector(parts) => Ok(parts),
        Value::Text(_) => Err(Problem::at(
            attribute.line,
            format!("{0} is a vector: {0}=[ … ]", attribute.name),
        )),
    }
}

fn attribute_text(attribute: &Attribute) -> Read<String> {
    match attribute.text() {
        Some(text) => Ok(text.to_owned()),
        None => Err(Problem::at(
            attribute.line,
            format!("{} is no vector", attribute.name),
        )),
    }
}

#[cfg(test)]
mod tests;
