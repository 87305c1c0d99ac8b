//! Reads a text in OpenNebula's template syntax into values, each with the line it begins in.

pub use super::template_scan::Misread;
use super::template_scan::{Entry, Value as Span, scan};

/// One attribute of a template, or of a vector in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attribute {
    /// Its name in upper case, as `oned` keeps it.
    pub name: String,
    /// The line it begins in, from 1.
    pub line: usize,
    /// What it holds.
    pub value: Value,
}

/// What an attribute holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// Text without its quotes and escapes.
    Text(String),
    /// The attributes of a vector, in their order.
    Vector(Vec<Attribute>),
}

impl Attribute {
    /// The text; none for a vector.
    pub fn text(&self) -> Option<&str> {
        match &self.value {
            Value::Text(text) => Some(text),
            Value::Vector(_) => None,
        }
    }
}

/// All attributes of a template, in their order.
pub fn read(text: &str) -> Result<Vec<Attribute>, Misread> {
    Ok(owned(text, &scan(text)?))
}

fn owned(text: &str, entries: &[Entry]) -> Vec<Attribute> {
    entries
        .iter()
        .map(|entry| Attribute {
            name: entry.name.to_ascii_uppercase(),
            line: text
                .get(..entry.start)
                .unwrap_or_default()
                .matches('\n')
                .count()
                + 1,
            value: match &entry.value {
                Span::Text(range) => {
                    Value::Text(unescaped(text.get(range.clone()).unwrap_or_default()))
                }
                Span::Vector(_, entries) => Value::Vector(owned(text, entries)),
            },
        })
        .collect()
}

/// `\"` and `\\` stand for a quote and a backslash; any other backslash for itself.
fn unescaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match (c, chars.peek()) {
            ('\\', Some(&next @ ('"' | '\\'))) => {
                out.push(next);
                chars.next();
            }
            _ => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_have_their_lines_and_no_quotes_or_escapes() {
        let text =
            "# a VM\nname = \"a \\\"b\\\" \\n\"\nNIC = [\n  ip = 10.0.0.1, # one\n  MAC=\"\" ]\n";
        let read = read(text).unwrap();
        assert_eq!((read[0].name.as_str(), read[0].line), ("NAME", 2));
        assert_eq!(read[0].text(), Some("a \"b\" \\n"));
        let Value::Vector(nic) = &read[1].value else {
            panic!("no vector")
        };
        let seen: Vec<_> = nic
            .iter()
            .map(|a| (a.name.as_str(), a.line, a.text()))
            .collect();
        assert_eq!(seen, [("IP", 4, Some("10.0.0.1")), ("MAC", 5, Some(""))]);
    }
}
