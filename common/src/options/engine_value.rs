//! Values in the form of the Engine API, and what a policy judges of them.

use serde_json::{Map, Value, json};

use super::key::{Key, Kind};
use super::value;

/// What a policy judges of a value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Judged {
    /// Nothing but that it is asked for.
    Asked,
    /// Each of these.
    Values(Vec<String>),
    Number(i64),
}

/// A value as the engine takes it; `None` when it asks for nothing.
pub(super) fn of(key: Key, written: &Value) -> Result<Option<(Value, Judged)>, String> {
    Ok(Some(match key.row().kind {
        Kind::Text => {
            let text = value::text(written)?;
            (json!(text), Judged::Values(vec![text]))
        }
        Kind::Path => {
            let path = value::path(written)?;
            (json!(path), Judged::Values(vec![path]))
        }
        Kind::Bool => (json!(value::boolean(written)?), Judged::Asked),
        Kind::Integer => {
            let number = value::integer(written)?;
            (json!(number), Judged::Number(number))
        }
        Kind::Bytes => {
            let number = value::bytes(written)?;
            (json!(number), Judged::Number(number))
        }
        Kind::List => {
            let mut list = value::list(written)?;
            if matches!(key, Key::CapAdd | Key::CapDrop) {
                list = list.iter().map(|name| capability(name)).collect();
            }
            (json!(list), Judged::Values(list))
        }
        Kind::Mapping => {
            let pairs = value::pairs(written)?;
            if key == Key::Labels
                && let Some((name, _)) = pairs
                    .iter()
                    .find(|(name, _)| name.starts_with("org.opennebula."))
            {
                return Err(format!(
                    "the label {} is the drivers' own",
                    value::shortened(name)
                ));
            }
            let names = pairs.iter().map(|(name, _)| name.clone()).collect();
            let map: Map<String, Value> = pairs.into_iter().map(|(k, v)| (k, json!(v))).collect();
            (json!(map), Judged::Values(names))
        }
        Kind::Ulimits => ulimits(written)?,
        Kind::Binds => match binds(written)? {
            list if list.is_empty() => return Ok(None),
            list => {
                let sources = list.iter().filter_map(|bind| bind.split(':').next());
                let judged = Judged::Values(sources.map(str::to_owned).collect());
                (json!(list), judged)
            }
        },
        Kind::Devices => devices(written)?,
        Kind::Tmpfs => (tmpfs(written)?, Judged::Asked),
        Kind::Restart => (restart(written)?, Judged::Asked),
        Kind::Json => match value::unfolded(written)? {
            value @ (Value::Object(_) | Value::Array(_)) => (value, Judged::Asked),
            _ => return Err("it takes the Engine API's own form, in JSON".into()),
        },
        Kind::Words | Kind::Variables => return Err("it takes no value of the engine".into()),
    }))
}

/// `cap_net_admin`, `CAP_NET_ADMIN` and `NET_ADMIN` are one.
fn capability(name: &str) -> String {
    let upper = name.to_ascii_uppercase();
    upper.strip_prefix("CAP_").unwrap_or(&upper).to_owned()
}

fn ulimits(written: &Value) -> Result<(Value, Judged), String> {
    let mut all = Vec::new();
    let number = |text: &str| {
        text.trim()
            .parse::<i64>()
            .map_err(|_| "it takes name=soft:hard".to_owned())
    };
    match value::unfolded(written)? {
        Value::Array(list) if list.iter().all(Value::is_object) => {
            for one in &list {
                let map = value::object(one, &["Name", "Soft", "Hard", "name", "soft", "hard"])?;
                let field = |name: &str| {
                    map.get(name)
                        .or_else(|| map.get(&name.to_ascii_lowercase()))
                };
                let name = value::text(field("Name").unwrap_or(&Value::Null))?;
                let soft = value::integer(field("Soft").unwrap_or(&Value::Null))?;
                let hard = field("Hard").map_or(Ok(soft), value::integer)?;
                all.push((name, soft, hard));
            }
        }
        other => {
            for (name, bounds) in value::pairs(&other)? {
                let (soft, hard) = bounds.split_once(':').unwrap_or((&bounds, &bounds));
                all.push((name, number(soft)?, number(hard)?));
            }
        }
    }
    let names = all.iter().map(|(name, ..)| name.clone()).collect();
    let form = |(name, soft, hard)| json!({"Name": name, "Soft": soft, "Hard": hard});
    let all: Vec<Value> = all.into_iter().map(form).collect();
    Ok((json!(all), Judged::Values(names)))
}

/// `host:container[:mode]`. What names no place on the host is a folder of the root disk, and asks for nothing.
fn binds(written: &Value) -> Result<Vec<String>, String> {
    let mut all = Vec::new();
    match value::unfolded(written)? {
        Value::Object(map) => {
            for (host, target) in &map {
                match target {
                    // The Engine API's Volumes: paths in the container.
                    Value::Object(inner) if inner.is_empty() => {}
                    Value::Null => {}
                    Value::Object(_) => {
                        let inner = value::object(target, &["bind", "mode", "ro"])?;
                        let path = value::path(inner.get("bind").unwrap_or(&Value::Null))?;
                        let read_only = inner.get("ro") == Some(&Value::Bool(true));
                        let mode = match inner.get("mode") {
                            Some(mode) => value::text(mode)?,
                            None if read_only => "ro".into(),
                            None => "rw".into(),
                        };
                        all.push(bind(host, &path, &mode)?);
                    }
                    target => all.push(bind(host, &value::text(target)?, "")?),
                }
            }
        }
        Value::Array(list) if list.iter().any(Value::is_object) => {
            for one in &list {
                let map = value::object(one, &["Type", "Source", "Target", "ReadOnly"])?;
                if map.get("Type") != Some(&json!("bind")) {
                    return Err("of mounts only those of Type bind can be had".into());
                }
                let text = |name: &str| value::text(map.get(name).unwrap_or(&Value::Null));
                let mode = if map.get("ReadOnly") == Some(&Value::Bool(true)) {
                    "ro"
                } else {
                    ""
                };
                all.push(bind(&text("Source")?, &text("Target")?, mode)?);
            }
        }
        other => {
            for one in value::list(&other)? {
                let mut parts = one.splitn(3, ':');
                let host = parts.next().unwrap_or_default();
                if let Some(target) = parts.next() {
                    all.push(bind(host, target, parts.next().unwrap_or_default())?);
                }
            }
        }
    }
    Ok(all)
}

fn bind(host: &str, target: &str, mode: &str) -> Result<String, String> {
    // A name would be a volume, which stays on the node when the VM leaves it.
    for path in [host, target] {
        value::path(&json!(path))?;
        if path.contains([':', ',']) {
            return Err(format!(
                "\"{}\" cannot be written as a bind",
                value::shortened(path)
            ));
        }
    }
    if !matches!(mode, "" | "ro" | "rw") {
        return Err(format!(
            "\"{}\" is neither ro nor rw",
            value::shortened(mode)
        ));
    }
    let mode = if mode == "ro" { ":ro" } else { "" };
    Ok(format!("{}:{target}{mode}", normal(host)))
}

/// A path without `.` and double slashes, as a policy names it.
fn normal(path: &str) -> String {
    let parts: Vec<&str> = path
        .split('/')
        .filter(|part| !matches!(*part, "" | "."))
        .collect();
    format!("/{}", parts.join("/"))
}

fn devices(written: &Value) -> Result<(Value, Judged), String> {
    let mut all = Vec::new();
    match value::unfolded(written)? {
        Value::Array(list) if list.iter().any(Value::is_object) => {
            for one in &list {
                let known = ["PathOnHost", "PathInContainer", "CgroupPermissions"];
                let map = value::object(one, &known)?;
                let text = |name: &str| map.get(name).map(value::text).transpose();
                let host = text("PathOnHost")?.ok_or("a device has no PathOnHost")?;
                let inside = text("PathInContainer")?.unwrap_or_else(|| host.clone());
                let rights = text("CgroupPermissions")?.unwrap_or_else(|| "rwm".into());
                all.push((host, inside, rights));
            }
        }
        other => {
            for one in value::list(&other)? {
                let mut parts = one.splitn(3, ':').map(str::to_owned);
                let host = parts.next().unwrap_or_default();
                let inside = parts.next().unwrap_or_else(|| host.clone());
                all.push((host, inside, parts.next().unwrap_or_else(|| "rwm".into())));
            }
        }
    }
    let mut forms = Vec::new();
    let mut hosts = Vec::new();
    for (host, inside, rights) in all {
        let host = normal(&value::path(&json!(host))?);
        let inside = value::path(&json!(inside))?;
        if rights.is_empty() || rights.chars().any(|c| !matches!(c, 'r' | 'w' | 'm')) {
            return Err(format!(
                "\"{}\" is not of r, w and m",
                value::shortened(&rights)
            ));
        }
        forms.push(
            json!({"PathOnHost": host, "PathInContainer": inside, "CgroupPermissions": rights}),
        );
        hosts.push(host);
    }
    Ok((json!(forms), Judged::Values(hosts)))
}

fn tmpfs(written: &Value) -> Result<Value, String> {
    let mut map = Map::new();
    let mut put = |path: &str, options: &str| -> Result<(), String> {
        let path = value::path(&json!(path))?;
        map.insert(path, json!(options));
        Ok(())
    };
    match value::unfolded(written)? {
        Value::Object(all) => {
            for (path, options) in &all {
                let options = match options {
                    Value::Null => String::new(),
                    other => value::text(other)?,
                };
                put(path, &options)?;
            }
        }
        Value::String(text) => {
            for one in text.split_whitespace() {
                let (path, options) = one.split_once(':').unwrap_or((one, ""));
                put(path, options)?;
            }
        }
        other => {
            for one in value::list(&other)? {
                let (path, options) = one.split_once(':').unwrap_or((&one, ""));
                put(path, options)?;
            }
        }
    }
    Ok(json!(map))
}

/// `always` and `unless-stopped` would revive what OpenNebula has powered off.
fn restart(written: &Value) -> Result<Value, String> {
    let (name, count) = match value::unfolded(written)? {
        Value::Object(map) => {
            let map = value::object(&json!(map), &["Name", "MaximumRetryCount"])?.clone();
            let name = map
                .get("Name")
                .map(value::text)
                .transpose()?
                .unwrap_or_default();
            let count = map
                .get("MaximumRetryCount")
                .map(value::integer)
                .transpose()?;
            (name, count.unwrap_or(0))
        }
        other => {
            let text = value::text(&other)?;
            match text.split_once(':') {
                Some((name, count)) => (name.to_owned(), value::integer(&json!(count))?),
                None => (text, 0),
            }
        }
    };
    match name.as_str() {
        "" | "no" => Ok(json!({"Name": "no"})),
        "on-failure" if (0..=1_000_000).contains(&count) => {
            Ok(json!({"Name": "on-failure", "MaximumRetryCount": count}))
        }
        _ => Err("it takes no, or on-failure with the most tries behind a colon; what OpenNebula has powered off must not come back by itself".into()),
    }
}
