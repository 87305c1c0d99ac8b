//! Reads OpenNebula's template syntax with the position of every value, by the rules of
//! `src/parsers/template_parser.l`: `NAME = "text"`, `NAME = word`,
//! `NAME = [ A = "x", B = y ]`, and comments from `#` to the end of the line.

use std::ops::Range;

/// One attribute of the file, or of a vector in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    /// Its name as written.
    pub(super) name: String,
    /// Where it begins.
    pub(super) start: usize,
    /// Behind its last byte.
    pub(super) end: usize,
    /// What it holds.
    pub(super) value: Value,
}

/// What an attribute holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Value {
    /// Text: where it stands, without its quotes.
    Text(Range<usize>),
    /// A vector: where its opening bracket stands, and its attributes.
    Vector(usize, Vec<Entry>),
}

/// What is not in the syntax: line (from 1) and what was expected there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Misread {
    /// The line, from 1.
    pub line: usize,
    /// What was expected.
    pub what: &'static str,
}

/// All attributes of a file, in their order.
pub(super) fn scan(text: &str) -> Result<Vec<Entry>, Misread> {
    let mut scanner = Scanner { text, at: 0 };
    let mut entries = Vec::new();
    loop {
        scanner.skip();
        if scanner.at == text.len() {
            return Ok(entries);
        }
        entries.push(scanner.entry(true)?);
    }
}

struct Scanner<'a> {
    text: &'a str,
    at: usize,
}

impl Scanner<'_> {
    fn rest(&self) -> &str {
        self.text.get(self.at..).unwrap_or_default()
    }

    fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    fn error(&self, what: &'static str) -> Misread {
        let before = self.text.get(..self.at).unwrap_or_default();
        Misread {
            line: before.matches('\n').count() + 1,
            what,
        }
    }

    /// Over blanks, line ends and comments.
    fn skip(&mut self) {
        loop {
            let rest = self.rest();
            let trimmed = rest.trim_start();
            let blanks = rest.len() - trimmed.len();
            if !trimmed.starts_with('#') {
                self.at += blanks;
                return;
            }
            self.at += blanks + trimmed.find('\n').unwrap_or(trimmed.len());
        }
    }

    /// Over blanks of this line.
    fn skip_blanks(&mut self) {
        let rest = self.rest();
        self.at += rest.len() - rest.trim_start_matches([' ', '\t', '\r']).len();
    }

    fn take(&mut self, wanted: impl Fn(char) -> bool) -> Range<usize> {
        let rest = self.rest();
        let length = rest.find(|c| !wanted(c)).unwrap_or(rest.len());
        let start = self.at;
        self.at += length;
        start..self.at
    }

    fn entry(&mut self, may_be_vector: bool) -> Result<Entry, Misread> {
        let start = self.at;
        let name = self.take(|c| c.is_ascii_alphanumeric() || c == '_');
        if name.is_empty() {
            return Err(self.error("the name of an attribute was expected"));
        }
        let name = self.text.get(name).unwrap_or_default().to_owned();
        self.skip_blanks();
        if self.peek() != Some('=') {
            return Err(self.error("'=' was expected"));
        }
        self.at += 1;
        self.skip_blanks();
        let value = match self.peek() {
            Some('[') if may_be_vector => self.vector()?,
            Some('[') => return Err(self.error("a vector within a vector was found")),
            Some('"') => Value::Text(self.quoted()?),
            _ => Value::Text(self.take(|c| !"=# \t\r\n,[]".contains(c))),
        };
        Ok(Entry {
            name,
            start,
            end: self.at,
            value,
        })
    }

    fn quoted(&mut self) -> Result<Range<usize>, Misread> {
        let open = self.at;
        let start = open + 1;
        let mut escaped = false;
        for (offset, c) in self.text.get(start..).unwrap_or_default().char_indices() {
            match c {
                '"' if !escaped => {
                    self.at = start + offset + 1;
                    return Ok(start..start + offset);
                }
                _ => escaped = c == '\\',
            }
        }
        Err(self.error("the closing quote of a value is missing"))
    }

    fn vector(&mut self) -> Result<Value, Misread> {
        let open = self.at;
        self.at += 1;
        let mut attributes = Vec::new();
        loop {
            self.skip();
            if self.peek() == Some(']') {
                break;
            }
            attributes.push(self.entry(false)?);
            self.skip();
            match self.peek() {
                Some(',') => self.at += 1,
                Some(']') => break,
                _ => return Err(self.error("',' or ']' was expected")),
            }
        }
        self.at += 1;
        Ok(Value::Vector(open, attributes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn comments_quotes_words_and_vectors_are_read() {
        let text =
            "# A = 1\nPORT=2633 # why\nX = [ A = \"a # ] \\\" b\", # c\n B = y ]\nE =\nF=\"\"\n";
        let entries = scan(text).unwrap();
        let names: Vec<&str> = entries.iter().map(|e| e.name.as_str()).collect();
        assert_eq!(names, ["PORT", "X", "E", "F"]);
        let Value::Vector(_, attributes) = &entries[1].value else {
            panic!("no vector")
        };
        let Value::Text(range) = &attributes[0].value else {
            panic!("no text")
        };
        assert_eq!(&text[range.clone()], "a # ] \\\" b");
    }

    #[test]
    fn what_is_not_in_the_syntax_is_told_with_its_line() {
        let misread = scan("A = 1\nB = [ C = \"x\" D = 2 ]\n").unwrap_err();
        assert_eq!((misread.line, misread.what), (2, "',' or ']' was expected"));
        assert_eq!(scan("A = \"x\n").unwrap_err().line, 1);
        assert_eq!(scan("\n= 5\n").unwrap_err().line, 2);
    }

    proptest! {
        #[test]
        fn no_text_makes_the_reader_fail_otherwise_than_by_an_answer(text in "\\PC{0,80}") {
            let _ = scan(&text);
        }

        #[test]
        fn text_with_the_signs_of_the_syntax_is_read_too(text in "[A\"=\\[\\],#\\\\ \n]{0,60}") {
            if let Ok(entries) = scan(&text) {
                for entry in entries {
                    prop_assert!(text.is_char_boundary(entry.start) && entry.end <= text.len());
                }
            }
        }
    }
}
