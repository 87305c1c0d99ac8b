//! Answers are read with a limit and a deadline.

use onedock_common::reference::RegistryName;
use reqwest::Response;
use tokio::time::{Instant, timeout, timeout_at};

use crate::endpoint::Endpoint;
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
        let piece = timeout_at(until, timeout(endpoint.idle, response.chunk()));
        match piece.await {
            Err(_) => return Err(endpoint.late(what)),
            Ok(Err(_)) => return Err(endpoint.idle_for(what)),
            Ok(Ok(Err(e))) => return Err(endpoint.unreachable(e)),
            Ok(Ok(Ok(None))) => return Ok(bytes),
            Ok(Ok(Ok(Some(piece)))) => {
                bytes.extend_from_slice(&piece);
                if bytes.len() as u64 > limit {
                    return Err(too_large());
                }
            }
        }
    }
}

/// Makes the error of an answer that cannot be used, with what the registry said about it.
pub(crate) async fn into_error(endpoint: &Endpoint, mut response: Response, what: &str) -> Error {
    let registry: RegistryName = endpoint.registry.clone();
    let what = what.to_owned();
    let status = response.status().as_u16();
    let said = match read_all(endpoint, &mut response, DETAIL_LIMIT, "its error text").await {
        Ok(bytes) => messages(&bytes),
        Err(_) => String::new(),
    };
    match status {
        404 => Error::NotFound { registry, what },
        401 | 403 => Error::Denied {
            registry,
            what,
            reason: if said.is_empty() {
                "the login that is kept for it has too few rights".to_owned()
            } else {
                said
            },
        },
        _ => Error::Status {
            registry,
            status,
            what,
            detail: if said.is_empty() {
                said
            } else {
                format!(": {said}")
            },
        },
    }
}

/// The messages of the distribution specification's error form, as one line.
fn messages(bytes: &[u8]) -> String {
    let value: serde_json::Value = serde_json::from_slice(bytes).unwrap_or_default();
    let mut found = Vec::new();
    for error in value["errors"].as_array().into_iter().flatten().take(3) {
        let text = error["message"].as_str().or(error["code"].as_str());
        found.extend(text.map(one_line));
    }
    found.join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attack_13_a_registrys_words_become_one_clean_line() {
        let json = br#"{"errors":[{"code":"X","message":"bad\nDEPLOY SUCCESS 5 -\u001b[0m"},{"code":"DENIED"}]}"#;
        assert_eq!(messages(json), "bad DEPLOY SUCCESS 5 -[0m; DENIED");
        assert_eq!(messages(b"<html>"), "");
    }
}
