//! Text from outside as plain text: what a program writes to a terminal, and what becomes part of a
//! line that `oned` reads.

/// A line without control sequences (ECMA-48: colours, titles, moves of the cursor), as it stood on
/// the terminal in the end: what comes after a carriage return has replaced what stood before it.
pub fn plain(line: &str) -> String {
    let mut out = String::new();
    let mut rest = line.trim_end_matches(['\r', '\n']).chars().peekable();
    while let Some(c) = rest.next() {
        match c {
            '\u{1b}' => match rest.next() {
                // CSI: parameters, then one final byte.
                Some('[') => {
                    rest.find(|c| ('@'..='~').contains(c));
                }
                // OSC, DCS, SOS, PM and APC: a text up to BEL or ST (ESC \).
                Some(']' | 'P' | 'X' | '^' | '_') => {
                    let mut before = ' ';
                    rest.find(|&c| {
                        let ends = c == '\u{7}' || (before == '\u{1b}' && c == '\\');
                        before = c;
                        ends
                    });
                }
                // Two bytes, or with one more in between (a choice of character set).
                Some(' '..='/') => {
                    rest.next();
                }
                _ => {}
            },
            '\r' => out.clear(),
            '\u{8}' => {
                out.pop();
            }
            '\t' => out.push(' '),
            c if c.is_control() => {}
            c => out.push(c),
        }
    }
    out.trim_end().to_owned()
}

/// One line of at most `limit` bytes: control characters become blanks, so that nothing a
/// tenant wrote can look like another line of the protocol (attack 13).
pub fn folded(text: &str, limit: usize) -> String {
    let words: Vec<&str> = text
        .split(|c: char| c.is_control() || c == ' ')
        .filter(|w| !w.is_empty())
        .collect();
    let mut line = words.join(" ");
    if line.len() > limit {
        let mut end = limit;
        while !line.is_char_boundary(end) {
            end -= 1;
        }
        line.truncate(end);
        line.push('…');
    }
    line
}

#[cfg(test)]
mod tests {
    use super::{folded, plain};

    #[test]
    fn what_a_terminal_shows_is_left_of_a_line() {
        for (line, shown) in [
            ("plain\r\n", "plain"),
            ("\u{1b}[1;31merror:\u{1b}[0m no file\r", "error: no file"),
            ("\u{1b}]0;root@web: /\u{7}root@web:/# ", "root@web:/#"),
            ("\u{1b}]8;;http://x\u{1b}\\link", "link"),
            ("10 %\r20 %\rdone", "done"),
            ("\u{1b}(B\u{1b}[?2004h>>> ", ">>>"),
            ("ab\u{8}c\td", "ac d"),
            ("cut \u{1b}[3", "cut"),
            ("cut \u{1b}", "cut"),
            ("äöü", "äöü"),
            ("a\u{7}b", "ab"),
            ("\u{1b}]0;c:\\web\u{7}x", "x"),
        ] {
            assert_eq!(plain(line), shown, "{line:?}");
        }
    }

    #[test]
    fn attack_13_no_text_can_become_a_second_line_of_the_protocol() {
        let text = "x\nDEPLOY SUCCESS 5 -\r\n\u{1b}[31mEOF_OUT\0";
        assert_eq!(folded(text, 100), "x DEPLOY SUCCESS 5 - [31mEOF_OUT");
        for (text, limit, line) in [
            ("abcd", 4, "abcd"),
            ("abcde", 4, "abcd…"),
            ("aäöb", 4, "aä…"),
            ("ä", 1, "…"),
        ] {
            assert_eq!(folded(text, limit), line);
        }
    }
}
