//! Setting one key of somebody else's JSON object. The order and the layout of the rest stay.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::ops::Range;

use serde_json::value::RawValue;

pub(super) type Object<'a> = BTreeMap<Cow<'a, str>, &'a RawValue>;

/// Why a file cannot be edited.
#[derive(Debug, thiserror::Error)]
pub enum Unfit {
    /// It is no JSON object.
    #[error("is no valid JSON object: {0}")]
    Syntax(#[from] serde_json::Error),
    /// A key holds something of another kind than Docker wants there.
    #[error("\"{0}\" is not of the kind that Docker wants there")]
    Kind(&'static str),
}

/// Sets `key` to `value` in the top object, or in the object below `within`.
pub(super) fn set(
    text: &mut String,
    within: Option<&'static str>,
    key: &str,
    value: &str,
) -> Result<bool, Unfit> {
    let top: Object<'_> = serde_json::from_str(text)?;
    let (object, frame) = match within {
        None => (top, outer(text)),
        Some(name) => {
            let Some(raw) = top.get(name) else {
                return Err(Unfit::Kind(name));
            };
            let object = serde_json::from_str(raw.get()).map_err(|_| Unfit::Kind(name))?;
            (object, span(text, raw))
        }
    };
    if let Some(found) = object.get(key) {
        let same = |a: &str, b: &str| {
            let parse = serde_json::from_str::<serde_json::Value>;
            parse(a).ok() == parse(b).ok()
        };
        if same(found.get(), value) {
            return Ok(false);
        }
        let range = span(text, found);
        text.replace_range(range, value);
        return Ok(true);
    }
    let last = object.values().map(|raw| span(text, raw).end).max();
    let indent = if within.is_some() { "        " } else { "    " };
    match last {
        Some(end) => {
            let one_line = !text.get(frame).unwrap_or_default().contains('\n');
            let gap = if one_line {
                " ".to_owned()
            } else {
                format!("\n{indent}")
            };
            text.insert_str(end, &format!(",{gap}\"{key}\": {value}"));
        }
        None => text.replace_range(
            frame,
            &format!("{{\n{indent}\"{key}\": {value}\n{}}}", &indent[4..]),
        ),
    }
    Ok(true)
}

/// Where a value that was parsed from `text` stands in it.
fn span(text: &str, raw: &RawValue) -> Range<usize> {
    let start = raw
        .get()
        .as_ptr()
        .addr()
        .saturating_sub(text.as_ptr().addr());
    start..start + raw.get().len()
}

/// The top object without the blanks around it.
fn outer(text: &str) -> Range<usize> {
    let start = text.len() - text.trim_start().len();
    start..start + text.trim().len()
}
