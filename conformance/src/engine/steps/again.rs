//! Tries again what cannot be watched: a login, an answer by HTTP, the content of a bucket.

use std::time::Duration;

use jiff::Timestamp;

use crate::engine::deadline::Deadline;
use crate::engine::trouble::{Failure, Trouble};

/// Pause between two attempts. Short beside a login (some 30 ms), and no load.
const PAUSE: Duration = Duration::from_millis(100);

/// Calls `attempt` until it succeeds or the deadline is over; then its last failure counts, with the time since when
/// it was the same. Trouble that is no failure ends it at once.
pub(super) async fn until<T>(
    deadline: &Deadline,
    mut attempt: impl AsyncFnMut() -> Result<T, Trouble>,
) -> Result<T, Trouble> {
    let mut last: Option<(Failure, Timestamp)> = None;
    loop {
        let end = match deadline.bound(attempt()).await {
            Some(Err(Trouble::Failed(failure))) => {
                let since = match &last {
                    Some((before, since)) if *before == failure => *since,
                    _ => Timestamp::now(),
                };
                last = Some((failure, since));
                deadline.bound(tokio::time::sleep(PAUSE)).await.is_none()
            }
            Some(outcome) => return outcome,
            None => true,
        };
        if end {
            let (mut failure, since) = last.unwrap_or_else(|| (Failure::new("there was no answer"), Timestamp::now()));
            let since = since.strftime("%H:%M:%S%.3f");
            failure.message = format!("{} (so since {since}) at the end of {deadline}", failure.message);
            return Err(failure.into());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn it_is_tried_again_until_it_succeeds() {
        let mut attempts = 0;
        let attempt = async || {
            attempts += 1;
            if attempts == 3 { Ok(attempts) } else { Err(Failure::new("not yet").into()) }
        };
        assert_eq!(until(&Deadline::after("sql", Duration::from_mins(1)), attempt).await, Ok(3));
    }

    #[tokio::test]
    async fn the_last_failure_is_told_at_the_end() {
        let deadline = Deadline::after("sql", Duration::from_millis(1));
        let outcome = until(&deadline, async || Err::<(), _>(Failure::new("connection refused").into())).await;
        let Err(Trouble::Failed(failure)) = outcome else { panic!("{outcome:?}") };
        assert!(failure.message.starts_with("connection refused (so since "), "{}", failure.message);
        assert!(failure.message.ends_with("at the end of sql (1ms)"), "{}", failure.message);
    }

    #[tokio::test]
    async fn a_broken_environment_is_not_tried_again() {
        let deadline = Deadline::after("sql", Duration::from_mins(1));
        let outcome = until(&deadline, async || Err::<(), _>(Trouble::broken("no such bucket"))).await;
        assert_eq!(outcome, Err(Trouble::broken("no such bucket")));
    }
}
