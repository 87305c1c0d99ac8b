//! Waiting for something that nobody announces: a predicate that is asked again, and a deadline.

use std::thread;
use std::time::{Duration, Instant};

/// The shortest and the longest rest between two questions.
const SHORTEST: Duration = Duration::from_millis(1);
const LONGEST: Duration = Duration::from_millis(20);

/// Lets time pass between two measurements or two tries. Not to wait for an event: that has a
/// predicate and a limit ([`until`]).
pub fn pause(time: Duration) {
    let end = Instant::now() + time;
    while let Some(left) = end
        .checked_duration_since(Instant::now())
        .filter(|left| !left.is_zero())
    {
        #[expect(clippy::disallowed_methods, reason = "the one place that rests")]
        thread::park_timeout(left);
    }
}

/// How long to rest after `waited`: an eighth of it, so that little time is lost after the event
/// and a long wait asks seldom.
fn rest(waited: Duration) -> Duration {
    (waited / 8).clamp(SHORTEST, LONGEST)
}

/// Asks `predicate` until it answers something or `limit` has passed. It is asked once more at the
/// end, and at least once.
pub fn until<T>(limit: Duration, mut predicate: impl FnMut() -> Option<T>) -> Option<T> {
    let begun = Instant::now();
    loop {
        if let Some(answer) = predicate() {
            return Some(answer);
        }
        let waited = begun.elapsed();
        if waited >= limit {
            return None;
        }
        pause(rest(waited).min(limit - waited));
    }
}

/// As [`until`], for what may fail: an error ends the wait.
///
/// # Errors
///
/// That of the predicate.
pub fn until_ok<T, E>(
    limit: Duration,
    mut predicate: impl FnMut() -> Result<Option<T>, E>,
) -> Result<Option<T>, E> {
    until(limit, || predicate().transpose()).transpose()
}

/// As [`until_ok`], in an asynchronous program.
///
/// # Errors
///
/// That of the predicate.
#[cfg(feature = "tokio")]
pub async fn until_async<T, E>(
    limit: Duration,
    mut predicate: impl AsyncFnMut() -> Result<Option<T>, E>,
) -> Result<Option<T>, E> {
    let begun = tokio::time::Instant::now();
    loop {
        if let Some(answer) = predicate().await? {
            return Ok(Some(answer));
        }
        let waited = begun.elapsed();
        if waited >= limit {
            return Ok(None);
        }
        tokio::time::sleep(rest(waited).min(limit - waited)).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_answers_at_once_and_gives_up_in_time() {
        assert_eq!(until(Duration::from_secs(9), || Some(1)), Some(1));
        let begin = Instant::now();
        assert_eq!(until(Duration::from_millis(30), || None::<()>), None);
        assert!(begin.elapsed() >= Duration::from_millis(30));
        assert!(begin.elapsed() < Duration::from_secs(2));
    }

    #[test]
    fn what_has_no_time_is_asked_once_and_an_error_ends_the_wait() {
        let mut asked = 0;
        let answer = until(Duration::ZERO, || {
            asked += 1;
            None::<()>
        });
        assert_eq!((answer, asked), (None, 1));
        let failed: Result<Option<()>, _> = until_ok(Duration::from_secs(9), || Err("no"));
        assert_eq!(failed, Err("no"));
    }

    #[test]
    fn a_long_wait_asks_seldom() {
        assert_eq!(rest(Duration::ZERO), SHORTEST);
        assert_eq!(rest(Duration::from_millis(80)), Duration::from_millis(10));
        assert_eq!(rest(Duration::from_secs(60)), LONGEST);
    }
}
