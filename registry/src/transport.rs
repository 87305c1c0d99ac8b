//! One request: login, redirects, retries and pauses, within the call's deadline.

use std::time::{Duration, SystemTime};

use bytes::Bytes;
use reqwest::header::{AUTHORIZATION, HeaderMap, LOCATION, RETRY_AFTER};
use reqwest::{Method, Response, StatusCode, Url};
use tokio::time::{Instant, sleep, timeout};

use crate::auth::{Scopes, answer_challenge};
use crate::body::into_error;
use crate::endpoint::{Endpoint, may_lead};
use crate::error::Error;

/// How many redirects are followed in one request.
const REDIRECTS: usize = 5;
/// How often a broken connection or an error of the registry is tried again.
const RETRIES: u32 = 3;
/// How often a registry may tell us to come back.
const PAUSES: u32 = 20;
/// The first pause where the registry names none; it doubles.
const FIRST_PAUSE: Duration = Duration::from_millis(200);

/// When one call of the client must have ended.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Deadline(Instant);

impl Deadline {
    pub(crate) fn after(limit: Duration) -> Self {
        Self(Instant::now() + limit)
    }
    pub(crate) fn at(self) -> Instant {
        self.0
    }
}

/// What is asked of a registry.
#[derive(Debug, Clone)]
pub(crate) struct Ask {
    /// In the reader's words: `manifest onedock/img-7:latest`.
    pub(crate) what: String,
    pub(crate) method: Method,
    pub(crate) url: Url,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Option<Bytes>,
    pub(crate) scopes: Scopes,
}

impl Ask {
    pub(crate) fn new(what: impl Into<String>, method: Method, url: Url, scopes: Scopes) -> Self {
        Self {
            what: what.into(),
            method,
            url,
            headers: HeaderMap::new(),
            body: None,
            scopes,
        }
    }
}

impl Endpoint {
    /// Sends until there is an answer to go on with. Answers below 500 other than 401 and 429
    /// are the caller's to judge.
    pub(crate) async fn send(&self, ask: &Ask, deadline: Deadline) -> Result<Response, Error> {
        let (mut logins, mut retries, mut pauses) = (0, 0, 0);
        loop {
            let failed = match self.once(ask).await {
                Ok(response) => match response.status() {
                    StatusCode::UNAUTHORIZED if logins < 2 && self.is_own(response.url()) => {
                        logins += 1;
                        let headers = response.headers().clone();
                        answer_challenge(self, &headers, ask, logins).await?;
                        continue;
                    }
                    status if is_busy(status) => {
                        let asked = retry_after(response.headers());
                        let wait = asked.unwrap_or_else(|| pause(retries));
                        let tired = match asked {
                            Some(_) => pauses >= PAUSES,
                            None => retries >= RETRIES,
                        };
                        if tired && asked.is_none() {
                            return Err(into_error(self, response, &ask.what).await);
                        }
                        if tired || Instant::now() + wait > deadline.at() {
                            return Err(Error::Busy {
                                registry: self.registry.clone(),
                                status: status.as_u16(),
                                wait,
                            });
                        }
                        if asked.is_some() {
                            pauses += 1;
                        } else {
                            retries += 1;
                        }
                        sleep(wait).await;
                        continue;
                    }
                    _ => return Ok(response),
                },
                Err(e) => e,
            };
            // A registry that hangs is not asked again: it has had its time.
            let again = matches!(failed, Error::Unreachable { .. }) && retries < RETRIES;
            if !again || Instant::now() + pause(retries) > deadline.at() {
                return Err(failed);
            }
            sleep(pause(retries)).await;
            retries += 1;
        }
    }

    /// As [`Endpoint::send`], and anything but `wanted` is an error.
    pub(crate) async fn expect(
        &self,
        ask: &Ask,
        deadline: Deadline,
        wanted: &[StatusCode],
    ) -> Result<Response, Error> {
        let response = self.send(ask, deadline).await?;
        if wanted.contains(&response.status()) {
            Ok(response)
        } else {
            Err(into_error(self, response, &ask.what).await)
        }
    }

    /// Whether a URL is of the registry's own origin, the only one that sees credentials.
    pub(crate) fn is_own(&self, url: &Url) -> bool {
        url.origin() == self.base.origin()
    }

    async fn once(&self, ask: &Ask) -> Result<Response, Error> {
        let mut url = ask.url.clone();
        for _ in 0..=REDIRECTS {
            let mut request = self
                .http
                .request(ask.method.clone(), url.clone())
                .headers(ask.headers.clone());
            if self.is_own(&url)
                && let Some(header) = self.auth.header(&ask.scopes)
            {
                request = request.header(AUTHORIZATION, header);
            }
            if let Some(body) = &ask.body {
                request = request.body(body.clone());
            }
            let response = match timeout(self.request_limit, request.send()).await {
                Err(_) => return Err(self.late(&ask.what)),
                Ok(Err(e)) if e.is_timeout() => return Err(self.late(&ask.what)),
                Ok(answer) => answer.map_err(|e| self.unreachable(e))?,
            };
            let moved = matches!(response.status().as_u16(), 301 | 302 | 303 | 307 | 308);
            if !moved || !matches!(ask.method, Method::GET | Method::HEAD) {
                return Ok(response);
            }
            let location = response
                .headers()
                .get(LOCATION)
                .and_then(|l| l.to_str().ok());
            let next = location
                .and_then(|l| url.join(l).ok())
                .ok_or_else(|| self.refuse("its redirect says no address"))?;
            may_lead(&url, &next)
                .map_err(|reason| self.refuse(format!("of its redirect: {reason}")))?;
            url = next;
        }
        Err(self.refuse(format!("it redirects more than {REDIRECTS} times")))
    }
}

pub(crate) fn is_busy(status: StatusCode) -> bool {
    matches!(status.as_u16(), 429 | 500 | 502 | 503 | 504)
}

/// The pause before retry number `retries`.
pub(crate) fn pause(retries: u32) -> Duration {
    FIRST_PAUSE * 2u32.saturating_pow(retries.min(10))
}

/// Retry-After: seconds or a date (RFC 9110, 10.2.3).
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = onedock_common::decimal::parse_u32(text) {
        return Some(Duration::from_secs(u64::from(seconds)));
    }
    let date = httpdate::parse_http_date(text).ok()?;
    Some(date.duration_since(SystemTime::now()).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fault_26_retry_after_is_seconds_or_a_date() {
        let read = |text: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(RETRY_AFTER, text.parse().unwrap());
            retry_after(&headers)
        };
        assert_eq!(read("7"), Some(Duration::from_secs(7)));
        let soon = SystemTime::now() + Duration::from_secs(100);
        let wait = read(&httpdate::fmt_http_date(soon)).unwrap();
        assert!((98..=100).contains(&wait.as_secs()));
        assert_eq!(read("Sun, 06 Nov 1994 08:49:37 GMT"), Some(Duration::ZERO));
        assert_eq!(read("soon"), None);
        assert_eq!(read("-1"), None);
    }
}
