//! One request: login, redirects, retries and pauses, within the call's deadline.

use std::time::{Duration, SystemTime};

use bytes::Bytes;
use reqwest::header::{AUTHORIZATION, HeaderMap, LOCATION, RETRY_AFTER};
use reqwest::{Method, RequestBuilder, Response, StatusCode, Url};
use tokio::time::{Instant, sleep, timeout};

use crate::error::Error;
use crate::transport::answer::{detail, into_error};
use crate::transport::auth::{Scopes, answer_challenge};
use crate::transport::endpoint::{Endpoint, may_lead};

/// How many redirects are followed in one request.
pub(crate) const REDIRECTS: usize = 5;
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
        let (mut logins, mut patience) = (0, Patience::default());
        loop {
            let answer = self.once(ask).await;
            let Some(response) = patience.judge(self, &ask.what, deadline, answer).await? else {
                continue;
            };
            let wanted = response.status() == StatusCode::UNAUTHORIZED;
            if !wanted || logins >= 2 || !self.is_own(response.url()) {
                return Ok(response);
            }
            logins += 1;
            answer_challenge(self, response.headers(), ask, logins, deadline).await?;
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
            let response = self.in_time(request, &ask.what).await?;
            if !matches!(ask.method, Method::GET | Method::HEAD) {
                return Ok(response);
            }
            match self.redirect(&url, &response)? {
                Some(next) => url = next,
                None => return Ok(response),
            }
        }
        Err(self.too_many_redirects())
    }

    /// Sends one request within the time of one.
    pub(crate) async fn in_time(
        &self,
        request: RequestBuilder,
        what: &str,
    ) -> Result<Response, Error> {
        match timeout(self.request_limit, request.send()).await {
            Err(_) => Err(self.late(what)),
            Ok(Err(e)) if e.is_timeout() => Err(self.late(what)),
            Ok(answer) => answer.map_err(|e| self.unreachable(e)),
        }
    }

    /// Where an answer to `url` leads; `None` when it is no redirect.
    pub(crate) fn redirect(&self, url: &Url, response: &Response) -> Result<Option<Url>, Error> {
        if !matches!(response.status().as_u16(), 301 | 302 | 303 | 307 | 308) {
            return Ok(None);
        }
        let location = response
            .headers()
            .get(LOCATION)
            .and_then(|l| l.to_str().ok());
        let next = location
            .and_then(|l| url.join(l).ok())
            .ok_or_else(|| self.refuse("its redirect says no address"))?;
        may_lead(url, &next).map_err(|reason| self.refuse(format!("of its redirect: {reason}")))?;
        Ok(Some(next))
    }

    pub(crate) fn too_many_redirects(&self) -> Error {
        self.refuse(format!("it redirects more than {REDIRECTS} times"))
    }
}

/// How often one request was repeated, because there was no connection or because the registry
/// was busy.
#[derive(Debug, Default)]
pub(crate) struct Patience {
    retries: u32,
    pauses: u32,
}

impl Patience {
    /// Passes on an answer to go on with. `None`, after a pause: the request is to be sent again.
    /// An error when it is not worth it, or when there is no time left.
    pub(crate) async fn judge(
        &mut self,
        endpoint: &Endpoint,
        what: &str,
        deadline: Deadline,
        answer: Result<Response, Error>,
    ) -> Result<Option<Response>, Error> {
        let wait = match answer {
            Ok(response) if is_busy(response.status()) => {
                let status = response.status().as_u16();
                let asked = retry_after(response.headers());
                let wait = asked.unwrap_or_else(|| pause(self.retries));
                let (count, most) = match asked {
                    Some(_) => (&mut self.pauses, PAUSES),
                    None => (&mut self.retries, RETRIES),
                };
                let tired = *count >= most;
                *count += 1;
                if tired && asked.is_none() {
                    return Err(into_error(endpoint, response, what).await);
                }
                if tired || Instant::now() + wait > deadline.at() {
                    return Err(Error::Busy {
                        registry: endpoint.registry.clone(),
                        status,
                        wait,
                        detail: detail(endpoint, response).await,
                    });
                }
                wait
            }
            Ok(response) => return Ok(Some(response)),
            // A registry that hangs is not asked again: it has had its time.
            Err(failed) => {
                let wait = pause(self.retries);
                let again = matches!(failed, Error::Unreachable { .. }) && self.retries < RETRIES;
                if !again || Instant::now() + wait > deadline.at() {
                    return Err(failed);
                }
                self.retries += 1;
                wait
            }
        };
        sleep(wait).await;
        Ok(None)
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
    if let Ok(seconds) = onedock_common::types::decimal::parse_u32(text) {
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
