//! Values as they are written: text of a template, or JSON and YAML of a document.

use serde_json::{Map, Value};

/// The longest list of values.
const MOST: usize = 1024;

/// Whether a value asks for nothing: as in documents that have every field.
pub(super) fn is_nothing(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(flag) => !flag,
        Value::Number(number) => number.as_f64() == Some(0.0),
        Value::String(text) => text.trim().is_empty(),
        Value::Array(list) => list.iter().all(is_nothing),
        Value::Object(map) => map.values().all(is_nothing),
    }
}

/// A value of a template may be JSON; any other text stays text.
pub(super) fn unfolded(value: &Value) -> Result<Value, String> {
    match value {
        Value::String(text) if text.trim_start().starts_with(['[', '{']) => {
            serde_json::from_str(text).map_err(|e| format!("it begins like JSON and is none: {e}"))
        }
        other => Ok(other.clone()),
    }
}

/// One text; a number is one too.
pub(super) fn text(value: &Value) -> Result<String, String> {
    match value {
        Value::String(text) => {
            let text = text.trim();
            if text.contains('\0') || text.len() > 4096 {
                return Err("it has a zero byte, or more than 4096 bytes".into());
            }
            Ok(text.to_owned())
        }
        Value::Number(number) => Ok(number.to_string()),
        _ => Err("it takes one text".into()),
    }
}

/// An absolute path without `..`.
pub(super) fn path(value: &Value) -> Result<String, String> {
    let text = text(value)?;
    if !text.starts_with('/') || text.split('/').any(|part| part == "..") || text.contains('\n') {
        return Err(format!("\"{}\" is not an absolute path", shortened(&text)));
    }
    Ok(text)
}

pub(super) fn boolean(value: &Value) -> Result<bool, String> {
    match value {
        Value::Bool(flag) => Ok(*flag),
        Value::Number(number) if number.as_i64() == Some(1) => Ok(true),
        Value::Number(number) if number.as_i64() == Some(0) => Ok(false),
        Value::String(text) => match text.trim().to_ascii_lowercase().as_str() {
            "yes" | "true" | "1" => Ok(true),
            "no" | "false" | "0" => Ok(false),
            _ => Err("it takes YES or NO".into()),
        },
        _ => Err("it takes YES or NO".into()),
    }
}

pub(super) fn integer(value: &Value) -> Result<i64, String> {
    let number = match value {
        Value::Number(number) => number.as_i64(),
        Value::String(text) => text.trim().parse().ok(),
        _ => None,
    };
    number.ok_or_else(|| "it takes a whole number".into())
}

/// Bytes: `64m`, `1g`, `1048576`.
pub(super) fn bytes(value: &Value) -> Result<i64, String> {
    let wrong =
        || "it takes a number of bytes, with k, m or g behind it for larger ones".to_owned();
    let Value::String(text) = value else {
        return integer(value).map_err(|_| wrong());
    };
    let text = text.trim().to_ascii_lowercase();
    let text = text.strip_suffix('b').unwrap_or(&text);
    let (digits, shift) = match text.char_indices().last() {
        Some((at, 'k')) => (&text[..at], 10),
        Some((at, 'm')) => (&text[..at], 20),
        Some((at, 'g')) => (&text[..at], 30),
        _ => (text, 0),
    };
    let number: i64 = digits.trim().parse().map_err(|_| wrong())?;
    number.checked_mul(1 << shift).ok_or_else(wrong)
}

/// Words of a command: a list as it is, a text split as a shell would.
pub(super) fn words(value: &Value) -> Result<Vec<String>, String> {
    let words = match unfolded(value)? {
        Value::Array(list) => list.iter().map(element).collect::<Result<Vec<_>, _>>()?,
        Value::String(text) => {
            shell_words::split(&text).map_err(|_| "a quote in it is not closed".to_owned())?
        }
        _ => return Err("it takes a list of words".into()),
    };
    if words.is_empty() || words.len() > MOST {
        return Err(format!("it takes from 1 to {MOST} words"));
    }
    if words.iter().any(|word| word.contains('\0')) {
        return Err("a word has a zero byte".into());
    }
    Ok(words)
}

/// A list; of a text, its words, which commas may separate too. Empty elements count for nothing.
pub(super) fn list(value: &Value) -> Result<Vec<String>, String> {
    let list = match unfolded(value)? {
        Value::Array(list) => list.iter().map(element).collect::<Result<Vec<_>, _>>()?,
        Value::String(text) => text
            .split(|c: char| c == ',' || c.is_whitespace())
            .map(str::to_owned)
            .collect(),
        Value::Object(map) => map.keys().cloned().collect(),
        _ => return Err("it takes a list".into()),
    };
    let list: Vec<String> = list
        .into_iter()
        .filter(|one| !one.trim().is_empty())
        .collect();
    bounded(list)
}

fn bounded(list: Vec<String>) -> Result<Vec<String>, String> {
    if list.len() > MOST {
        return Err(format!(
            "it has {} elements, at most {MOST} are read",
            list.len()
        ));
    }
    if list
        .iter()
        .any(|one| one.contains('\0') || one.len() > 4096)
    {
        return Err("an element has a zero byte, or more than 4096 bytes".into());
    }
    Ok(list)
}

/// Pairs in their order: of a mapping, or `key=value` each.
pub(super) fn pairs(value: &Value) -> Result<Vec<(String, String)>, String> {
    let pair = |text: &str| match text.split_once('=') {
        Some((key, value)) => Ok((key.to_owned(), value.to_owned())),
        None => Err(format!("\"{}\" has no \"=\"", shortened(text))),
    };
    let pairs: Vec<(String, String)> = match unfolded(value)? {
        Value::Object(map) => map
            .iter()
            .map(|(key, value)| Ok((key.clone(), element(value)?)))
            .collect::<Result<_, String>>()?,
        Value::Array(list) => list
            .iter()
            .map(|one| pair(&element(one)?))
            .collect::<Result<_, _>>()?,
        Value::String(text) => shell_words::split(&text)
            .map_err(|_| "a quote in it is not closed".to_owned())?
            .iter()
            .map(|word| pair(word.trim_end_matches(',')))
            .collect::<Result<_, _>>()?,
        _ => return Err("it takes key=value pairs".into()),
    };
    if pairs.len() > MOST {
        return Err(format!(
            "it has {} pairs, at most {MOST} are read",
            pairs.len()
        ));
    }
    Ok(pairs)
}

/// A text, number or boolean of a list.
fn element(value: &Value) -> Result<String, String> {
    match value {
        Value::String(text) => Ok(text.clone()),
        Value::Number(number) => Ok(number.to_string()),
        Value::Bool(flag) => Ok(flag.to_string()),
        Value::Null => Ok(String::new()),
        _ => Err("its elements are texts".into()),
    }
}

/// Texts of a JSON object, which has no others.
pub(super) fn object<'a>(
    value: &'a Value,
    known: &[&str],
) -> Result<&'a Map<String, Value>, String> {
    let map = value.as_object().ok_or("it takes an object")?;
    match map.keys().find(|key| !known.contains(&key.as_str())) {
        Some(key) => Err(format!("\"{}\" is not known in it", shortened(key))),
        None => Ok(map),
    }
}

pub(super) fn shortened(text: &str) -> String {
    text.chars()
        .take(60)
        .collect::<String>()
        .escape_debug()
        .to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_a_document_with_every_field_leaves_empty_asks_for_nothing() {
        for value in [
            json!(null),
            json!(false),
            json!(0),
            json!(" "),
            json!([""]),
            json!({}),
            json!({"Name": "", "MaximumRetryCount": 0}),
        ] {
            assert!(is_nothing(&value), "{value}");
        }
        for value in [json!(true), json!(1), json!(["a"]), json!({"a": "b"})] {
            assert!(!is_nothing(&value), "{value}");
        }
    }

    #[test]
    fn sizes_have_units() {
        for (value, expected) in [
            (json!("64m"), 64 << 20),
            (json!("1G"), 1 << 30),
            (json!("2kb"), 2048),
            (json!("512"), 512),
            (json!(512), 512),
            (json!("-1"), -1),
        ] {
            assert_eq!(bytes(&value), Ok(expected), "{value}");
        }
        for bad in [
            json!("m"),
            json!("1t"),
            json!(""),
            json!([1]),
            json!("9223372036854775807k"),
        ] {
            assert!(bytes(&bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_list_stays_a_list_and_a_text_is_split_as_a_shell_would() {
        let split = ["nginx", "-g", "daemon off;"];
        assert_eq!(words(&json!("nginx -g 'daemon off;'")).unwrap(), split);
        assert_eq!(
            words(&json!(["nginx", "-g", "daemon off;"])).unwrap(),
            split
        );
        assert_eq!(
            words(&json!("[\"nginx\", \"-g\", \"daemon off;\"]")).unwrap(),
            split
        );
        assert_eq!(words(&json!(["a b", "$(id)"])).unwrap(), ["a b", "$(id)"]);
        for bad in [
            json!("a 'b"),
            json!(""),
            json!([]),
            json!({}),
            json!("[1,"),
            json!(["a\0"]),
            json!([["a"]]),
        ] {
            assert!(words(&bad).is_err(), "{bad}");
        }
        assert_eq!(list(&json!("a, b c")).unwrap(), ["a", "b", "c"]);
        assert_eq!(list(&json!(["", "a"])).unwrap(), ["a"]);
        assert_eq!(list(&json!({"22/tcp": {}})).unwrap(), ["22/tcp"]);
        assert!(list(&json!(vec!["x"; 1025])).is_err());
    }

    #[test]
    fn pairs_come_of_a_mapping_of_a_list_and_of_words() {
        let expected = vec![
            ("A".to_owned(), "x y".to_owned()),
            ("B".to_owned(), "1".to_owned()),
        ];
        for value in [
            json!({"A": "x y", "B": 1}),
            json!(["A=x y", "B=1"]),
            json!("A='x y' B=1"),
        ] {
            assert_eq!(pairs(&value).unwrap(), expected, "{value}");
        }
        for bad in [json!("A"), json!(["A"]), json!(5), json!({"A": {}})] {
            assert!(pairs(&bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn texts_paths_switches_and_numbers_are_one_each() {
        assert_eq!(text(&json!(" a ")).unwrap(), "a");
        assert_eq!(text(&json!(1000)).unwrap(), "1000");
        assert!(text(&json!(["a"])).is_err() && text(&json!("a\0")).is_err());
        assert_eq!(path(&json!("/srv/a")).unwrap(), "/srv/a");
        for bad in ["srv", "/a/../b", "", "/a\nb"] {
            assert!(path(&json!(bad)).is_err(), "{bad}");
        }
        for (value, flag) in [
            (json!("Yes"), true),
            (json!(true), true),
            (json!("0"), false),
            (json!(1), true),
        ] {
            assert_eq!(boolean(&value), Ok(flag), "{value}");
        }
        assert!(boolean(&json!("maybe")).is_err());
        assert_eq!(integer(&json!("-5")), Ok(-5));
        assert!(integer(&json!("5.5")).is_err() && integer(&json!(5.5)).is_err());
    }
}
