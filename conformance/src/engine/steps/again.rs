//! Tries again what cannot be watched: a login, an answer by HTTP, the content of a bucket.

use std::time::Duration;

use jiff::Timestamp;

use crate::engine::deadline::Deadline;
use crate::engine::trouble::{Failure, Trouble};

/// Pause between two attempts. Short beside a login (some 30 ms), and no load.
const PAUSE: Duration = Duration::from_millis(100);

/// The attempts so far.
pub(super) struct Again<'a> {
    deadline: &'a Deadline,
    last: Option<(Failure, Timestamp)>,
}

impl<'a> Again<'a> {
    /// No attempt yet.
    pub fn until(deadline: &'a Deadline) -> Self {
        Self { deadline, last: None }
    }

    /// Makes one attempt. `None` means: make another one. At the end of the deadline the last failure counts, with the
    /// time since when it was the same; trouble that is no failure counts at once.
    pub async fn attempt<T>(&mut self, work: impl Future<Output = Result<T, Trouble>>) -> Option<Result<T, Trouble>> {
        match self.deadline.bound(work).await {
            Some(Err(Trouble::Failed(failure))) => {
                let since = match &self.last {
                    Some((before, since)) if *before == failure => *since,
                    _ => Timestamp::now(),
                };
                self.last = Some((failure, since));
                if self.deadline.bound(tokio::time::sleep(PAUSE)).await.is_some() {
                    return None;
                }
            }
            Some(outcome) => return Some(outcome),
            None => {}
        }
        let (mut failure, since) =
            self.last.take().unwrap_or_else(|| (Failure::new("there was no answer"), Timestamp::now()));
        let since = since.strftime("%H:%M:%S%.3f");
        failure.message = format!("{} (so since {since}) at the end of {}", failure.message, self.deadline);
        Some(Err(failure.into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_failure_is_no_end_and_a_success_is() {
        let deadline = Deadline::after("sql", Duration::from_mins(1));
        let mut again = Again::until(&deadline);
        assert_eq!(again.attempt(async { Err::<u8, _>(Failure::new("not yet").into()) }).await, None);
        assert_eq!(again.attempt(async { Ok(3) }).await, Some(Ok(3)));
    }

    #[tokio::test]
    async fn the_last_failure_is_told_at_the_end() {
        let deadline = Deadline::after("sql", Duration::from_millis(1));
        let outcome = Again::until(&deadline).attempt(async { Err::<(), _>(Failure::new("refused").into()) }).await;
        let Some(Err(Trouble::Failed(failure))) = outcome else { panic!("{outcome:?}") };
        assert!(failure.message.starts_with("refused (so since "), "{}", failure.message);
        assert!(failure.message.ends_with("at the end of sql (1ms)"), "{}", failure.message);
    }

    #[tokio::test]
    async fn a_broken_environment_is_not_tried_again() {
        let deadline = Deadline::after("sql", Duration::from_mins(1));
        let outcome = Again::until(&deadline).attempt(async { Err::<(), _>(Trouble::broken("no such bucket")) }).await;
        assert_eq!(outcome, Some(Err(Trouble::broken("no such bucket"))));
    }
}
