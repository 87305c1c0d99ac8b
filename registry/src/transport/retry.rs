//! How often a request is repeated, and how long is waited before.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use reqwest::header::{HeaderMap, RETRY_AFTER};
use reqwest::{Response, StatusCode};
use tokio::time::{Instant, sleep};

use super::answer::{detail, into_error};
use super::endpoint::Endpoint;
use crate::error::Error;

/// How often a request is repeated after a broken connection or an error of the registry.
const RETRIES: u32 = 3;
/// How often a registry may ask for a pause.
const PAUSES: u32 = 20;
/// How long all its pauses for one request may be together: meanwhile it holds one of the few threads of
/// a driver.
const PAUSED: Duration = Duration::from_secs(120);
/// The first pause where the registry names none; it doubles.
const FIRST_PAUSE: Duration = Duration::from_millis(200);

/// When one call of the client must have ended, and how long it may wait until then for what carries no
/// layer.
#[derive(Debug, Clone)]
pub(crate) struct Deadline {
    at: Instant,
    /// What is left of its budget, in milliseconds; of all requests of the call together.
    budget: Arc<AtomicU64>,
}

impl Deadline {
    pub(crate) fn after(limit: Duration, budget: Duration) -> Self {
        let budget = u64::try_from(budget.as_millis()).unwrap_or(u64::MAX);
        Self {
            at: Instant::now() + limit,
            budget: Arc::new(AtomicU64::new(budget)),
        }
    }
    pub(crate) fn at(&self) -> Instant {
        self.at
    }

    /// Takes the time that was waited, or will be, from the budget of the call; false when that is
    /// not there any more.
    pub(super) fn spend(&self, waited: Duration) -> bool {
        let waited = u64::try_from(waited.as_millis()).unwrap_or(u64::MAX);
        let take = |left: u64| left.checked_sub(waited);
        self.budget
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, take)
            .is_ok()
    }
}

/// How often one request was repeated, because there was no connection or because the registry
/// was busy.
#[derive(Debug, Default)]
pub(super) struct Retries {
    failures: u32,
    pauses: u32,
    paused: Duration,
}

impl Retries {
    /// The answer when it is final. `None`, after a pause: the request is to be sent again.
    /// An error when no retry would help, or when there is no time left.
    pub(super) async fn check(
        &mut self,
        endpoint: &Endpoint,
        what: &str,
        deadline: &Deadline,
        answer: Result<Response, Error>,
    ) -> Result<Option<Response>, Error> {
        let wait = match answer {
            Ok(response) if is_busy(response.status()) => {
                let status = response.status().as_u16();
                let named = retry_after(response.headers());
                let wait = named.unwrap_or_else(|| pause(self.failures));
                let exhausted = match named {
                    Some(_) => {
                        self.pauses += 1;
                        self.paused = self.paused.saturating_add(wait);
                        let enough = self.pauses > PAUSES || self.paused > PAUSED;
                        enough || !deadline.spend(wait)
                    }
                    None if self.failures >= RETRIES => {
                        return Err(into_error(endpoint, response, what).await);
                    }
                    None => {
                        self.failures += 1;
                        false
                    }
                };
                if exhausted || Instant::now() + wait > deadline.at() {
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
            // A registry that hangs gets no second request: it has had its time.
            Err(failed) => {
                let wait = pause(self.failures);
                let again = matches!(failed, Error::Unreachable { .. }) && self.failures < RETRIES;
                if !again || Instant::now() + wait > deadline.at() {
                    return Err(failed);
                }
                self.failures += 1;
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
    fn fault_22_the_requests_of_one_call_share_its_time_budget() {
        let second = Duration::from_secs(1);
        let deadline = Deadline::after(60 * second, 5 * second);
        let same = deadline.clone();
        assert!(deadline.spend(3 * second));
        assert!(same.spend(2 * second));
        assert!(same.spend(Duration::ZERO));
        assert!(!deadline.spend(Duration::from_millis(1)));
    }

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
