//! Waiting with a predicate and a deadline.

use std::thread;
use std::time::{Duration, Instant};

/// Asks `predicate` until it answers something or `deadline` has passed; between two questions
/// it rests, first for a millisecond, then longer, at most a tenth of a second.
pub fn until<T>(deadline: Duration, mut predicate: impl FnMut() -> Option<T>) -> Option<T> {
    let end = Instant::now() + deadline;
    let mut pause = Duration::from_millis(1);
    loop {
        if let Some(answer) = predicate() {
            return Some(answer);
        }
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return None;
        }
        thread::park_timeout(pause.min(left));
        pause = (pause * 2).min(Duration::from_millis(100));
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
        assert!(begin.elapsed() < Duration::from_secs(2));
    }
}
