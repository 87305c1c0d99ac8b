//! Edits of OpenNebula's configuration files (`oned.conf`, `monitord.conf`). Only what is asked
//! for is inserted; comments, order and layout of the rest stay as the administrator has them.

pub use super::template_scan::Misread;
use super::template_scan::{Entry, Value, scan};

/// A configuration file while it is edited.
#[derive(Debug, Clone)]
pub struct Template {
    text: String,
    changes: Vec<String>,
    kept: Vec<String>,
}

impl Template {
    /// Takes the text, if it is in the syntax.
    pub fn new(text: &str) -> Result<Self, Misread> {
        scan(text)?;
        Ok(Self {
            text: text.to_owned(),
            changes: Vec::new(),
            kept: Vec::new(),
        })
    }

    /// The text as it is now, what was changed, and what the administrator has otherwise than
    /// asked for and keeps.
    pub fn finish(self) -> (String, Vec<String>, Vec<String>) {
        (self.text, self.changes, self.kept)
    }

    /// The value of the first attribute of this name outside vectors.
    pub fn single(&self, name: &str) -> Option<String> {
        self.entries()
            .iter()
            .find(|e| is(e, name))
            .and_then(|e| self.text_of(e))
    }

    /// Whether any vector of this name has this attribute.
    pub fn any_has(&self, vector: &str, attribute: &str) -> bool {
        self.entries()
            .iter()
            .filter(|e| is(e, vector))
            .any(|e| attributes(e).iter().any(|a| is(a, attribute)))
    }

    /// Sees to it that there is `name = "value"`, beside its like when there are any.
    pub fn ensure_single(&mut self, name: &str, value: &str) {
        let entries = self.entries();
        let alike = || entries.iter().filter(|e| is(e, name));
        if alike().any(|e| self.text_of(e).as_deref() == Some(value)) {
            return;
        }
        // In the column of its like, so that the list stays a table.
        let pad = alike()
            .next_back()
            .map_or(1, |e| self.blanks_before_sign(e, name));
        let line = format!("{name}{:pad$}= \"{value}\"\n", "");
        let offset = alike().next_back().map(|e| self.line_behind(e.end));
        self.insert(offset, &line);
        self.changes.push(format!("{name} {value}"));
    }

    /// Sees to it that there is a vector `name` with this NAME and these attributes. One that is
    /// there gets the attributes it lacks; values that it has are the administrator's and stay.
    pub fn ensure_vector(&mut self, name: &str, key: &str, wanted: &[(&str, &str)]) {
        let entries = self.entries();
        let found = entries.iter().find(|e| {
            is(e, name)
                && attributes(e)
                    .iter()
                    .any(|a| is(a, "NAME") && self.text_of(a).as_deref() == Some(key))
        });
        match found {
            Some(entry) => self.complete(&entry.clone(), name, key, wanted),
            None => {
                let lines: Vec<String> = std::iter::once(&("NAME", key))
                    .chain(wanted)
                    .map(|(k, v)| format!("    {k} = \"{v}\""))
                    .collect();
                let block = format!("\n{name} = [\n{}\n]\n", lines.join(",\n"));
                let last = entries.iter().rfind(|e| is(e, name));
                let offset = last.map(|e| self.line_behind(e.end));
                self.insert(offset, &block);
                self.changes.push(format!("{name} {key}"));
            }
        }
    }

    fn complete(&mut self, entry: &Entry, name: &str, key: &str, wanted: &[(&str, &str)]) {
        let mut missing = String::new();
        for (attribute, value) in wanted {
            match attributes(entry).iter().find(|a| is(a, attribute)) {
                None => {
                    missing.push_str(&format!(",\n    {attribute} = \"{value}\""));
                    self.changes.push(format!("{name} {key} {attribute}"));
                }
                Some(a) => {
                    let found = self.text_of(a).unwrap_or_default();
                    if found != *value {
                        self.kept.push(format!(
                            "{name} {key} has {attribute} = \"{found}\" (not \"{value}\")"
                        ));
                    }
                }
            }
        }
        // It has a NAME, so it has a last attribute.
        if let Some(last) = attributes(entry).last() {
            self.text.insert_str(last.end, &missing);
        }
    }

    /// Sees to it that the comma list behind the option `flag` in `attribute` of the first
    /// vector `name` holds `word`. Without that option the driver takes every driver there is
    /// (`one_tm.rb`) or `absent` says that the list must be made with this content.
    ///
    /// Answers whether the vector and the attribute are there.
    pub fn ensure_listed(
        &mut self,
        name: &str,
        attribute: &str,
        flag: &str,
        word: &str,
        absent: Option<&str>,
    ) -> bool {
        let entries = self.entries();
        let offset = entries
            .iter()
            .find(|e| is(e, name))
            .and_then(|e| attributes(e).iter().find(|a| is(a, attribute)));
        let Some(Value::Text(range)) = offset.map(|a| a.value.clone()) else {
            return false;
        };
        let old = self.text.get(range.clone()).unwrap_or_default().to_owned();
        let new = with_listed(&old, flag, word, absent);
        if new != old {
            self.text.replace_range(range, &new);
            self.changes.push(format!("{name} {flag} {word}"));
        }
        true
    }

    fn entries(&self) -> Vec<Entry> {
        // Every edit leaves the text in the syntax it was checked for at the beginning.
        scan(&self.text).unwrap_or_default()
    }

    fn text_of(&self, entry: &Entry) -> Option<String> {
        match &entry.value {
            Value::Text(range) => self.text.get(range.clone()).map(str::to_owned),
            Value::Vector(..) => None,
        }
    }

    fn blanks_before_sign(&self, entry: &Entry, name: &str) -> usize {
        let behind = self
            .text
            .get(entry.start + name.len()..entry.end)
            .unwrap_or_default();
        behind.find('=').unwrap_or(1).max(1)
    }

    /// Behind the end of the line in which `at` stands, with a comment that stands there.
    fn line_behind(&self, at: usize) -> usize {
        let rest = self.text.get(at..).unwrap_or_default();
        rest.find('\n').map_or(self.text.len(), |i| at + i + 1)
    }

    /// Inserts lines at the begin of a line, or at the end of the file.
    fn insert(&mut self, offset: Option<usize>, lines: &str) {
        let offset = offset.unwrap_or(self.text.len());
        let open_line = offset > 0 && !self.text.get(..offset).unwrap_or_default().ends_with('\n');
        let lines = if open_line {
            format!("\n{lines}")
        } else {
            lines.to_owned()
        };
        self.text.insert_str(offset, &lines);
    }
}

/// Names are not sensitive to case: `oned` makes them upper case.
fn is(entry: &Entry, name: &str) -> bool {
    entry.name.eq_ignore_ascii_case(name)
}

fn attributes(entry: &Entry) -> &[Entry] {
    match &entry.value {
        Value::Vector(_, attributes) => attributes,
        Value::Text(_) => &[],
    }
}

/// `arguments` with `word` in the list behind `flag` (`-d a,b` or `-da,b`).
fn with_listed(arguments: &str, flag: &str, word: &str, absent: Option<&str>) -> String {
    let mut at = 0;
    let mut words = Vec::new();
    for part in arguments.split_inclusive(char::is_whitespace) {
        let bare = part.trim_end();
        if !bare.is_empty() {
            words.push((at, bare));
        }
        at += part.len();
    }
    for (index, (start, bare)) in words.iter().enumerate() {
        let list = if *bare == flag {
            words.get(index + 1).copied()
        } else {
            bare.strip_prefix(flag)
                .filter(|l| !l.is_empty())
                .map(|l| (start + flag.len(), l))
        };
        let Some((start, list)) = list else { continue };
        if list.split(',').any(|w| w.trim() == word) {
            return arguments.to_owned();
        }
        let mut text = arguments.to_owned();
        text.insert_str(start + list.len(), &format!(",{word}"));
        return text;
    }
    match absent {
        Some(list) => format!("{} {flag} {list}", arguments.trim_end()),
        None => arguments.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn edit(text: &str, f: impl Fn(&mut Template)) -> String {
        let mut template = Template::new(text).unwrap();
        f(&mut template);
        let (once, changes, _) = template.finish();
        assert_eq!(once != text, !changes.is_empty());
        let mut again = Template::new(&once).unwrap();
        f(&mut again);
        let (twice, changes, _) = again.finish();
        assert_eq!(
            (twice.as_str(), changes.len()),
            (once.as_str(), 0),
            "second run"
        );
        once
    }

    #[test]
    fn a_word_joins_the_list_of_its_option_only() {
        let text = "TM_MAD = [\n  ARGUMENTS = \"-t 15 -d dummy,ssh -s a,b\" # x\n]\n";
        let add = |t: &mut Template| {
            assert!(t.ensure_listed("TM_MAD", "ARGUMENTS", "-d", "onedock", None));
        };
        assert_eq!(
            edit(text, add),
            text.replace("dummy,ssh", "dummy,ssh,onedock")
        );
        let add = |t: &mut Template| {
            assert!(t.ensure_listed("TM_MAD", "ARGUMENTS", "-s", "onedock", None));
        };
        assert_eq!(edit(text, add), text.replace("a,b", "a,b,onedock"));
    }

    #[test]
    fn without_the_option_every_driver_is_taken_unless_a_list_is_given() {
        assert_eq!(with_listed("-t 15", "-d", "onedock", None), "-t 15");
        assert_eq!(
            with_listed("-t 15 -da", "-d", "onedock", None),
            "-t 15 -da,onedock"
        );
        assert_eq!(
            with_listed("-t 15 ", "-s", "o", Some("ssh,o")),
            "-t 15 -s ssh,o"
        );
        assert_eq!(
            with_listed("-d my-onedock", "-d", "onedock", None),
            "-d my-onedock,onedock"
        );
    }

    #[test]
    fn a_commented_section_is_not_taken_for_one() {
        let text = "#VM_MAD = [ NAME = \"onedock\", TYPE = \"xml\" ]\nA = 1\n";
        let out = edit(text, |t| {
            t.ensure_vector("VM_MAD", "onedock", &[("TYPE", "xml")])
        });
        let block = "\nVM_MAD = [\n    NAME = \"onedock\",\n    TYPE = \"xml\"\n]\n";
        assert_eq!(out, format!("{text}{block}"));
    }

    #[test]
    fn a_new_section_stands_behind_the_last_of_its_kind() {
        let text = "V = [ NAME = \"a\" ] # one\nV=[NAME=b]\nW = 1";
        let out = edit(text, |t| t.ensure_vector("V", "c", &[]));
        assert_eq!(
            out,
            "V = [ NAME = \"a\" ] # one\nV=[NAME=b]\n\nV = [\n    NAME = \"c\"\n]\nW = 1"
        );
    }

    #[test]
    fn what_the_administrator_has_stays_and_what_lacks_is_added() {
        let text = "V = [ NAME = onedock, ARGUMENTS = \"-t 50\" # mine\n]\n";
        let mut template = Template::new(text).unwrap();
        template.ensure_vector("V", "onedock", &[("ARGUMENTS", "-t 15"), ("TYPE", "xml")]);
        let (out, changes, kept) = template.finish();
        assert_eq!(
            out,
            "V = [ NAME = onedock, ARGUMENTS = \"-t 50\",\n    TYPE = \"xml\" # mine\n]\n"
        );
        assert_eq!(changes, ["V onedock TYPE"]);
        assert_eq!(
            kept,
            ["V onedock has ARGUMENTS = \"-t 50\" (not \"-t 15\")"]
        );
    }

    #[test]
    fn a_single_attribute_joins_its_like_in_their_column() {
        let text = "# I\nI_A      = \"X\" # c\nI_A = Y\nB = 1\n";
        let out = edit(text, |t| t.ensure_single("I_A", "Z"));
        assert_eq!(
            out,
            "# I\nI_A      = \"X\" # c\nI_A = Y\nI_A = \"Z\"\nB = 1\n"
        );
        assert_eq!(
            edit("B = 1", |t| t.ensure_single("C", "Z")),
            "B = 1\nC = \"Z\"\n"
        );
    }
}
