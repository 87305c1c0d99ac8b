//! The challenge of a 401 (RFC 9110, 11.6.1): how a registry asks for a login.

use std::collections::HashMap;

use reqwest::header::{HeaderMap, WWW_AUTHENTICATE};

/// The longest challenge that is read, in bytes.
const LIMIT: usize = 8 * 1024;

/// A challenge that can be answered.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Challenge {
    /// User and password with each request.
    Basic,
    /// A token of the service at `realm` (distribution's token specification).
    Bearer {
        realm: String,
        service: Option<String>,
    },
}

impl Challenge {
    /// The best of those in an answer's headers: a token before the login itself.
    pub(super) fn read(headers: &HeaderMap) -> Option<Self> {
        let mut basic = None;
        for value in headers.get_all(WWW_AUTHENTICATE) {
            let Some(text) = value.to_str().ok().filter(|t| t.len() <= LIMIT) else {
                continue;
            };
            let (scheme, rest) = text.trim().split_once(' ').unwrap_or((text.trim(), ""));
            if scheme.eq_ignore_ascii_case("bearer") {
                let mut parameters = read_parameters(rest);
                if let Some(realm) = parameters.remove("realm") {
                    let service = parameters.remove("service");
                    return Some(Self::Bearer { realm, service });
                }
            } else if scheme.eq_ignore_ascii_case("basic") {
                basic = Some(Self::Basic);
            }
        }
        basic
    }
}

/// `name="value", name=value` (RFC 9110, 11.2).
fn read_parameters(text: &str) -> HashMap<String, String> {
    let mut found = HashMap::new();
    let mut rest = text.trim_start();
    while let Some((name, after)) = rest.split_once('=') {
        let (value, left) = match after.strip_prefix('"') {
            Some(quoted) => read_quoted(quoted),
            None => match after.split_once(',') {
                Some((value, left)) => (value.trim().to_owned(), left),
                None => (after.trim().to_owned(), ""),
            },
        };
        found
            .entry(name.trim().to_ascii_lowercase())
            .or_insert(value);
        rest = left.trim_start_matches([',', ' ', '\t']);
    }
    found
}

fn read_quoted(text: &str) -> (String, &str) {
    let mut value = String::new();
    let mut escaped = false;
    for (at, c) in text.char_indices() {
        match c {
            _ if escaped => {
                value.push(c);
                escaped = false;
            }
            '\\' => escaped = true,
            '"' => return (value, text.get(at + 1..).unwrap_or("")),
            _ => value.push(c),
        }
    }
    (value, "")
}

#[cfg(test)]
mod tests {
    use reqwest::header::HeaderValue;

    use super::*;

    fn challenge(values: &[&'static str]) -> Option<Challenge> {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(WWW_AUTHENTICATE, HeaderValue::from_static(value));
        }
        Challenge::read(&headers)
    }

    #[test]
    fn a_bearer_challenge_is_read_with_commas_and_quotes_in_its_values() {
        assert_eq!(
            challenge(&[
                "Basic realm=\"x\"",
                "Bearer realm=\"https://auth.example/token\",service=\"a, \\\"b\\\"\",scope=\"repository:x:pull,push\""
            ]),
            Some(Challenge::Bearer {
                realm: "https://auth.example/token".into(),
                service: Some("a, \"b\"".into())
            })
        );
        assert_eq!(challenge(&["basic realm=x"]), Some(Challenge::Basic));
        assert_eq!(challenge(&["Bearer service=x"]), None);
        assert_eq!(
            challenge(&["Negotiate", "Bearer realm=\"unended"]),
            Some(Challenge::Bearer {
                realm: "unended".into(),
                service: None
            })
        );
        assert_eq!(challenge(&[]), None);
    }

    #[test]
    fn the_parts_of_a_challenge_are_read_whatever_their_case_and_blanks() {
        let bearer = |realm: &str, service: Option<&str>| {
            Some(Challenge::Bearer {
                realm: realm.to_owned(),
                service: service.map(str::to_owned),
            })
        };
        for text in [
            "bearer realm=\"https://a\", service=\"s\"",
            "BEARER Realm=\"https://a\",\tSERVICE=\"s\"",
            "Bearer realm= https://a , service=s",
            // The first of two counts.
            "Bearer realm=\"https://a\",service=\"s\",realm=\"https://b\"",
        ] {
            assert_eq!(challenge(&[text]), bearer("https://a", Some("s")), "{text}");
        }
        let long = format!("Bearer realm=\"{}\"", "a".repeat(LIMIT));
        let mut headers = HeaderMap::new();
        headers.append(WWW_AUTHENTICATE, long.parse().unwrap());
        assert_eq!(Challenge::read(&headers), None);
    }
}
