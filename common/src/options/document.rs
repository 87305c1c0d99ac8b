//! Options in documents: JSON or YAML, in CONTEXT/USER_DATA, in RAW and in an image's DOCKER_OPTIONS.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use super::key::Kind;
use super::value::is_nothing;
use super::{Asked, OptionError, table};
use crate::opennebula::context::Context;
use crate::opennebula::xml::Node;

/// The part of a MIME document that has the options (OpenStack Heat).
const PART: &str = "cfn-userdata";

/// What such a text begins with when it is for cloud-init (cloud-init, `user-data formats`).
const CLOUD_INIT: [&str; 7] = [
    "#cloud-config",
    "#!",
    "#include",
    "#cloud-boothook",
    "#part-handler",
    "#upstart-job",
    "## template:",
];

const USER_DATA: &str = "CONTEXT/USER_DATA";

/// The options of the image's DOCKER_OPTIONS.
pub(super) fn image(text: &str) -> Result<Vec<Asked>, OptionError> {
    asked("IMAGE/DOCKER_OPTIONS", text)
}

/// The options of CONTEXT/USER_DATA. A text that is for another program is noted.
pub(super) fn user_data(
    context: &Context,
    notes: &mut Vec<String>,
) -> Result<Vec<Asked>, OptionError> {
    let get = |name: &str, other: &str| context.get(name).or_else(|| context.get(other));
    let Some(written) = get("USER_DATA", "USERDATA") else {
        return Ok(Vec::new());
    };
    let encoding = get("USER_DATA_ENCODING", "USERDATA_ENCODING");
    let is_encoded = encoding.is_some_and(|name| name.eq_ignore_ascii_case("base64"));
    let text = match decoded(written) {
        Some(text) => text,
        None if is_encoded => {
            notes.push(format!(
                "{USER_DATA} is not the base64 that USER_DATA_ENCODING says, and has no effect"
            ));
            return Ok(Vec::new());
        }
        None => written.to_owned(),
    };
    let text = match mime_part(&text) {
        Mime::None => text,
        Mime::Part(text) => text,
        Mime::NoPart => {
            notes.push(format!(
                "{USER_DATA} is a MIME document without a part {PART}, and has no effect"
            ));
            return Ok(Vec::new());
        }
    };
    let begin = text.trim_start();
    if CLOUD_INIT.iter().any(|mark| begin.starts_with(mark)) {
        notes.push(format!(
            "{USER_DATA} is for cloud-init; it lies in /context for a program of the image, and nothing else reads it"
        ));
        return Ok(Vec::new());
    }
    if !is_ours(begin) {
        notes.push(format!(
            "{USER_DATA} has no option of Docker; it lies in /context for a program of the image, and nothing else reads it"
        ));
        return Ok(Vec::new());
    }
    asked(USER_DATA, &text)
}

/// Whether a text may be meant as options: a document with the name of one, or what looks like it and cannot
/// be read. An application's own data is left alone.
fn is_ours(text: &str) -> bool {
    let is_option = |name: &str| {
        let name = name.trim().trim_matches(['"', '\'']);
        table::find(name).is_some() || name.replace('_', "").eq_ignore_ascii_case("hostconfig")
    };
    let value: Option<Value> = match text.starts_with('{') {
        true => serde_json::from_str(text).ok(),
        false => serde_saphyr::from_str(text).ok(),
    };
    match value {
        Some(Value::Object(map)) => map.keys().any(|name| is_option(name)),
        Some(_) => false,
        None => text
            .split(['\n', '{', ','])
            .filter_map(|line| line.split_once(':'))
            .any(|(name, _)| is_option(name)),
    }
}

/// The options of a RAW section of ours; one of another hypervisor is noted.
pub(super) fn raw(raw: &Node<'_>, notes: &mut Vec<String>) -> Result<Vec<Asked>, OptionError> {
    let text = |name| raw.text(name).ok().flatten().unwrap_or_default();
    let kind = text("TYPE");
    if !["onedock", "docker"]
        .iter()
        .any(|own| kind.eq_ignore_ascii_case(own))
    {
        if !text("DATA").is_empty() {
            let kind: String = kind.chars().take(20).collect();
            notes.push(format!(
                "RAW of TYPE {kind} is another hypervisor's, and has no effect"
            ));
        }
        return Ok(Vec::new());
    }
    let mut all = asked("RAW/DATA", text("DATA"))?;
    for one in &mut all {
        one.by_administrator = true;
    }
    Ok(all)
}

/// Text in base64, with any white space in it.
fn decoded(text: &str) -> Option<String> {
    let compact: String = text.chars().filter(|c| !c.is_whitespace()).collect();
    if compact.is_empty() {
        return None;
    }
    String::from_utf8(STANDARD.decode(compact).ok()?).ok()
}

enum Mime {
    None,
    NoPart,
    Part(String),
}

fn mime_part(text: &str) -> Mime {
    let begin: String = text.trim_start().chars().take(14).collect();
    let begin = begin.to_ascii_lowercase();
    if !begin.starts_with("content-type:") && !begin.starts_with("mime-version:") {
        return Mime::None;
    }
    let Ok(whole) = mailparse::parse_mail(text.trim_start().as_bytes()) else {
        return Mime::NoPart;
    };
    let is_ours = |part: &&mailparse::ParsedMail<'_>| {
        let names = part.get_content_disposition().params;
        names.get("filename").is_some_and(|name| name == PART)
    };
    match whole
        .parts()
        .find(is_ours)
        .map(mailparse::ParsedMail::get_body)
    {
        Some(Ok(text)) => Mime::Part(text),
        _ => Mime::NoPart,
    }
}

/// JSON where it begins with a brace, else YAML.
fn asked(place: &'static str, text: &str) -> Result<Vec<Asked>, OptionError> {
    let failed = |problem: String| OptionError::Document { place, problem };
    let text = text.trim();
    if text.is_empty() {
        return Ok(Vec::new());
    }
    let value: Value = if text.starts_with('{') {
        serde_json::from_str(text).map_err(|e| failed(e.to_string()))?
    } else {
        serde_saphyr::from_str(text).map_err(|e| failed(first_line(&e.to_string())))?
    };
    let Value::Object(map) = value else {
        return Err(failed(
            "it is neither a JSON object nor a YAML mapping".into(),
        ));
    };
    let mut all = Vec::new();
    for (name, value) in map {
        let plain = name.replace('_', "").to_ascii_lowercase();
        match (plain.as_str(), value) {
            ("hostconfig", Value::Object(inner)) => {
                for (name, value) in inner {
                    all.push(one(place, &name, value)?);
                }
            }
            ("hostconfig", value) if is_nothing(&value) => {}
            (_, value) => all.push(one(place, &name, value)?),
        }
    }
    Ok(all)
}

fn one(place: &'static str, name: &str, value: Value) -> Result<Asked, OptionError> {
    let shown: String = name.chars().take(60).collect();
    let key = table::find(name).ok_or_else(|| OptionError::Unknown {
        place,
        name: shown.clone(),
    })?;
    let is_empty = match key.row().kind {
        // A value of `0`, `false` or "" is one.
        Kind::Variables | Kind::Mapping | Kind::Ulimits => is_empty(&value),
        _ => is_nothing(&value),
    };
    Ok(Asked {
        key,
        // It still takes back what an earlier place has asked for.
        value: if is_empty { Value::Null } else { value },
        name: format!("{place} {shown}"),
        place,
        by_administrator: false,
    })
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::String(text) => text.trim().is_empty(),
        Value::Array(list) => list.is_empty(),
        Value::Object(map) => map.is_empty(),
        _ => false,
    }
}

fn first_line(text: &str) -> String {
    text.lines().next().unwrap_or_default().to_owned()
}
