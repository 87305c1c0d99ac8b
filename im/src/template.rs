//! OpenNebula's template syntax (`src/parsers/template_parser.l`), written so that no value can
//! leave its quotes.

use std::fmt::Display;

/// The longest value that is written, in bytes.
const LIMIT: usize = 4096;

/// A value within double quotes.
///
/// The lexer takes the longest text up to a quote that no backslash precedes, so a backslash at
/// the end of a value swallows the closing quote; `]]>` anywhere behind `=` ends the whole
/// template; a NUL ends it silently; a parse error puts the host in ERROR (attack 14). Escapes
/// differ from what is stored, so what could matter is replaced instead: `"` by `'`, `\` by
/// `/`, control characters and line ends by blanks, and `]]>` is drawn apart.
pub fn quoted(value: impl Display) -> String {
    let mut out = String::from("\"");
    for c in value.to_string().chars() {
        if out.len() + c.len_utf8() > LIMIT {
            break;
        }
        match c {
            '"' => out.push('\''),
            '\\' => out.push('/'),
            '>' if out.ends_with("]]") => out.push_str(" >"),
            c if c.is_control() || ('\u{fffe}'..='\u{ffff}').contains(&c) => out.push(' '),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

/// `KEY="value"` and a line end.
pub fn line(key: &str, value: impl Display) -> String {
    format!("{key}={}\n", quoted(value))
}

/// `KEY = [ A="1", B="2" ]`, without a line end.
pub fn vector(key: &str, pairs: &[(&str, &dyn Display)]) -> String {
    let pairs: Vec<String> = pairs
        .iter()
        .map(|(name, value)| format!("{name}={}", quoted(value)))
        .collect();
    format!("{key} = [ {} ]", pairs.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The lexer's rules for what stands behind `=`: the value, and what follows it.
    fn lex(text: &str) -> Option<(&str, &str)> {
        let first_line = text.split('\n').next().unwrap_or("");
        if first_line.contains("]]>") || text.contains('\0') {
            return None;
        }
        let inner = text.strip_prefix('"')?;
        // `([^"]|\\")*"`: the longest match goes on over every quote behind a backslash.
        let mut end = None;
        for (at, _) in inner.match_indices('"') {
            end = Some(at);
            if !inner[..at].ends_with('\\') {
                break;
            }
        }
        end.map(|at| (&inner[..at], &inner[at + 1..]))
    }

    #[test]
    fn attack_14_a_name_cannot_end_its_value_or_add_a_record() {
        let hostile = "x\" ]\nVM = [ ID=\"1\", STATE=\"POWEROFF\" ]\\";
        let text = line("NAME", hostile);
        assert_eq!(text.matches('\n').count(), 1);
        let (value, rest) = lex(text.strip_prefix("NAME=").unwrap()).unwrap();
        assert_eq!(
            value,
            "x' ]  VM = [ ID='1', STATE='POWEROFF' ]/".replace("  ", " ")
        );
        assert_eq!(rest, "\n");
        assert_eq!(quoted("a]]>b"), "\"a]] >b\"");
        assert_eq!(quoted("a]]]>"), "\"a]]] >\"");
    }

    #[test]
    fn ordinary_values_stay_as_they_are() {
        assert_eq!(
            quoted("AMD EPYC (7B13) @ 2.4GHz ü"),
            "\"AMD EPYC (7B13) @ 2.4GHz ü\""
        );
        let text = vector("DS", &[("ID", &101), ("FREE_MB", &5)]);
        assert_eq!(text, "DS = [ ID=\"101\", FREE_MB=\"5\" ]");
    }

    proptest! {
        #[test]
        fn attack_14_any_text_stays_one_value_and_what_follows_stays_what_it_was(value in any::<String>()) {
            let rest = ", STATE=\"RUNNING\" ]\nNEXT=\"1\"";
            let text = format!("{}{rest}", quoted(&value));
            let (inner, after) = lex(&text).unwrap();
            prop_assert_eq!(after, rest);
            prop_assert!(!inner.contains('\n'));
        }
    }
}
