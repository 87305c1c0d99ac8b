//! Edits of `KEY=value` files: `vmm_execrc`, which a shell reads, and `onedock.conf`.

use std::ops::Range;

/// The value of `key`, without its quotes.
pub fn get<'a>(text: &'a str, key: &str) -> Option<&'a str> {
    find(text, key).and_then(|range| text.get(range))
}

/// The text with `key` set to `value`: in its line; else below the comment that shows it; else
/// at the end.
pub fn set(text: &str, key: &str, value: &str) -> String {
    let mut text = text.to_owned();
    if let Some(range) = find(&text, key) {
        text.replace_range(range, value);
        return text;
    }
    let line = format!("{key}={value}\n");
    match commented(&text, key) {
        Some(at) => text.insert_str(at, &line),
        None => {
            if !text.is_empty() && !text.ends_with('\n') {
                text.push('\n');
            }
            text.push_str(&line);
        }
    }
    text
}

/// The text with `word` among the blank-separated words of `key`.
pub fn add_word(text: &str, key: &str, word: &str) -> String {
    match get(text, key) {
        Some(words) if words.split_whitespace().any(|w| w == word) => text.to_owned(),
        Some("") if is_quoted(text, key) => set(text, key, word),
        Some("") | None => set(text, key, &format!("\"{word}\"")),
        Some(words) => {
            let new = format!("{words} {word}");
            // Words that stood without quotes need them as soon as there is a blank.
            let bare = !words.contains(char::is_whitespace) && !is_quoted(text, key);
            set(text, key, &if bare { format!("\"{new}\"") } else { new })
        }
    }
}

fn is_quoted(text: &str, key: &str) -> bool {
    find(text, key).is_some_and(|r| {
        text.get(..r.start)
            .unwrap_or_default()
            .ends_with(['"', '\''])
    })
}

/// Where the value of the last line that sets `key` stands.
fn find(text: &str, key: &str) -> Option<Range<usize>> {
    let mut found = None;
    let mut at = 0;
    for line in text.split_inclusive('\n') {
        let start = at;
        at += line.len();
        let bare = line.trim_start();
        let bare = bare.strip_prefix("export ").map_or(bare, str::trim_start);
        let Some(value) = bare.strip_prefix(key).and_then(|r| r.strip_prefix('=')) else {
            continue;
        };
        let begin = start + line.len() - value.len();
        found = Some(extent(text, begin));
    }
    found
}

fn extent(text: &str, begin: usize) -> Range<usize> {
    let rest = text.get(begin..).unwrap_or_default();
    for quote in ['"', '\''] {
        if let Some(inner) = rest.strip_prefix(quote) {
            let length = inner
                .find(quote)
                .unwrap_or_else(|| inner.find('\n').unwrap_or(inner.len()));
            return begin + 1..begin + 1 + length;
        }
    }
    let line = rest.lines().next().unwrap_or_default();
    let value = line.split(" #").next().unwrap_or_default().trim_end();
    begin..begin + value.len()
}

fn commented(text: &str, key: &str) -> Option<usize> {
    let mut at = 0;
    let mut found = None;
    for line in text.split_inclusive('\n') {
        at += line.len();
        let shows = line
            .trim_start()
            .strip_prefix('#')
            .map(str::trim_start)
            .and_then(|l| l.strip_prefix(key))
            .is_some_and(|l| l.starts_with('='));
        if shows && line.ends_with('\n') {
            found = Some(at);
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_joins_the_quoted_words_once() {
        let text = "# c\nL=\"kvm-ssh kvm-shared\" # live\n\nV=\"x\"\n";
        let out = add_word(text, "L", "onedock-onedock");
        assert_eq!(
            out,
            text.replace("kvm-shared", "kvm-shared onedock-onedock")
        );
        assert_eq!(add_word(&out, "L", "onedock-onedock"), out);
        assert_eq!(add_word("M=\"\"\nL=\"\"\n", "L", "w"), "M=\"\"\nL=\"w\"\n");
        assert_eq!(add_word("L=a\n", "L", "w"), "L=\"a w\"\n");
        assert_eq!(add_word("", "L", "w"), "L=\"w\"\n");
        assert_eq!(add_word("M=1", "L", "w"), "M=1\nL=\"w\"\n");
    }

    #[test]
    fn a_value_is_set_in_its_line_or_below_the_comment_that_shows_it() {
        assert_eq!(set("A=1\nB=2\n", "A", "3"), "A=3\nB=2\n");
        assert_eq!(set("# A=1\n# why\n", "A", "3"), "# A=1\nA=3\n# why\n");
        assert_eq!(set("", "A", "3"), "A=3\n");
        assert_eq!(get("export A='x y'\nAB=2\n", "A"), Some("x y"));
        assert_eq!(get("#A=1\nA=2\nA=3 # c\n", "A"), Some("3"));
        assert_eq!(get("#A=1\n", "A"), None);
    }
}
