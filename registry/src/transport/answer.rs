//! Answers are read with a limit and a deadline.

use onedock_common::types::reference::RegistryName;
use reqwest::Response;
use tokio::time::{Instant, timeout, timeout_at};

use super::endpoint::Endpoint;
use crate::error::{Error, one_line};

/// How much of an error's text is read, in bytes.
const DETAIL_LIMIT: u64 = 8 * 1024;

/// Reads a small answer whole: at most `limit` bytes, within the time of one request.
pub(crate) async fn read_all(
    endpoint: &Endpoint,
    response: &mut Response,
    limit: u64,
    what: &str,
) -> Result<Vec<u8>, Error> {
    let too_large = || endpoint.refuse(format!("{what} is larger than {limit} bytes"));
    if response
        .content_length()
        .is_some_and(|length| length > limit)
    {
        return Err(too_large());
    }
    let until = Instant::now() + endpoint.request_limit;
    let mut bytes = Vec::new();
    loop {
        let chunk = timeout_at(until, timeout(endpoint.idle, response.chunk()));
        match chunk.await {
            Err(_) => return Err(endpoint.late(what)),
            Ok(Err(_)) => return Err(endpoint.idle_for(what)),
            Ok(Ok(Err(e))) => return Err(endpoint.unreachable(e)),
            Ok(Ok(Ok(None))) => return Ok(bytes),
            Ok(Ok(Ok(Some(chunk)))) => {
                bytes.extend_from_slice(&chunk);
                if bytes.len() as u64 > limit {
                    return Err(too_large());
                }
            }
        }
    }
}

/// The error of an answer that cannot be used, with the registry's message.
pub(crate) async fn into_error(endpoint: &Endpoint, response: Response, what: &str) -> Error {
    let registry: RegistryName = endpoint.registry.clone();
    let what = what.to_owned();
    let status = response.status().as_u16();
    let message = message(endpoint, response).await;
    match status {
        404 => Error::NotFound { registry, what },
        401 | 403 => Error::Denied {
            registry,
            what,
            reason: if message.is_empty() {
                "the login that is stored for it has too few rights".to_owned()
            } else {
                message
            },
        },
        _ => Error::Status {
            registry,
            status,
            what,
            detail: with_colon(message),
        },
    }
}

/// The registry's message in an answer that cannot be used, as one line with a colon in front;
/// empty when there is none.
pub(super) async fn detail(endpoint: &Endpoint, response: Response) -> String {
    with_colon(message(endpoint, response).await)
}

fn with_colon(message: String) -> String {
    match message.is_empty() {
        true => message,
        false => format!(": {message}"),
    }
}

async fn message(endpoint: &Endpoint, mut response: Response) -> String {
    match read_all(endpoint, &mut response, DETAIL_LIMIT, "its error text").await {
        Ok(bytes) => messages(&bytes),
        Err(_) => String::new(),
    }
}

/// The messages in an answer: the distribution specification's error form, and the forms of token
/// services (`{"details": …}` of Docker Hub, `{"error": …}` of OAuth2, RFC 6749, 5.2). Nothing is
/// quoted of any other answer: whoever may name a registry could read with it what only the
/// front-end can reach.
fn messages(bytes: &[u8]) -> String {
    if is_web_page(bytes) {
        return "a web page".to_owned();
    }
    let value: serde_json::Value = serde_json::from_slice(bytes).unwrap_or_default();
    let mut found = Vec::new();
    for error in value["errors"].as_array().into_iter().flatten().take(3) {
        let text = error["message"].as_str().or(error["code"].as_str());
        found.extend(text.map(one_line));
    }
    if found.is_empty() {
        let keys = ["error_description", "details", "message", "error"];
        let text = keys.iter().find_map(|key| value[*key].as_str());
        found.extend(text.map(one_line));
    }
    found.join("; ")
}

/// Whether an answer is a web page. Registries behind a single sign-on or a captive portal answer
/// with one, and with status 200.
pub(crate) fn is_web_page(bytes: &[u8]) -> bool {
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    bytes.trim_ascii_start().first() == Some(&b'<')
}

/// Refuses a web page instead of what was requested.
pub(crate) fn no_page(endpoint: &Endpoint, bytes: &[u8], what: &str) -> Result<(), Error> {
    if !is_web_page(bytes) {
        return Ok(());
    }
    Err(endpoint.web_page(what))
}

impl Endpoint {
    /// The error of a web page instead of what was requested.
    pub(crate) fn web_page(&self, what: &str) -> Error {
        self.refuse(format!(
            "it sent a web page instead of {what}; is there a login page or a proxy in front of it?"
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attack_13_a_registrys_words_become_one_clean_line() {
        let json = br#"{"errors":[{"code":"X","message":"bad\nDEPLOY SUCCESS 5 -\u001b[0m"},{"code":"DENIED"}]}"#;
        assert_eq!(messages(json), "bad DEPLOY SUCCESS 5 -[0m; DENIED");
        assert_eq!(messages(b"root:x:0:0"), "");
        assert_eq!(messages(b" <html><title>Intranet</title>"), "a web page");
        assert_eq!(messages(b"{}"), "");
        assert_eq!(messages(b""), "");
    }

    #[test]
    fn the_message_of_a_token_service_is_found_in_each_form() {
        for (body, message) in [
            (
                &br#"{"details":"incorrect username or password"}"#[..],
                "incorrect username or password",
            ),
            (
                br#"{"error":"invalid_grant","error_description":"expired"}"#,
                "expired",
            ),
            (br#"{"message":"Unauthorized"}"#, "Unauthorized"),
            (br#"{"error":"invalid_grant"}"#, "invalid_grant"),
        ] {
            assert_eq!(messages(body), message);
        }
    }

    #[test]
    fn a_web_page_is_recognised_by_its_first_character() {
        assert!(is_web_page(b"\xef\xbb\xbf \n<!DOCTYPE html>"));
        assert!(!is_web_page(b" {\"a\":\"<html>\"}"));
        assert!(!is_web_page(b""));
    }
}
