//! Whose fault it is when an operator cannot be had.

use std::fmt;

use crate::environment::EnvironmentError;

/// The implementation under test cannot be built, installed or started. A context of errors: the causes say why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unusable;

impl fmt::Display for Unusable {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("the implementation under test cannot be used")
    }
}

impl Unusable {
    /// Says so of `error`, unless the API server could not be asked: that is the environment's fault.
    pub(crate) fn blame(error: anyhow::Error) -> anyhow::Error {
        let unanswered = |cause: &kube::Error| !matches!(cause, kube::Error::Api(_) | kube::Error::Discovery(_));
        if error.chain().filter_map(|cause| cause.downcast_ref()).any(unanswered) || error.is::<Self>() {
            return error;
        }
        error.context(Self)
    }

    /// What such an error says of a run that goes on: an operator that does not start again fails the scenario, and all else is the
    /// environment's.
    #[allow(clippy::needless_pass_by_value, reason = "used with map_err")]
    pub(crate) fn or_broken(error: anyhow::Error) -> EnvironmentError {
        let message = format!("{error:#}");
        if error.is::<Self>() { EnvironmentError::Violated(message) } else { EnvironmentError::Broken(message) }
    }
}

#[cfg(test)]
mod tests {
    use anyhow::{Context as _, anyhow};

    use super::*;

    #[test]
    fn only_an_api_server_that_does_not_answer_is_another_s_fault() {
        let refused = kube::Error::Api(Box::new(kube::core::Status::failure("field is immutable", "Invalid")));
        let unreachable = kube::Error::Service("connection refused".into());
        let blamed = |error: anyhow::Error| Unusable::blame(error).context("starting").is::<Unusable>();
        assert!(blamed(anyhow!("it ended with exit status: 7")));
        assert!(blamed(Err::<(), _>(refused).context("installing").unwrap_err()));
        assert!(!blamed(Err::<(), _>(unreachable).context("installing").unwrap_err()));
    }

    #[test]
    fn an_operator_that_does_not_start_again_fails_the_scenario() {
        let error = Unusable::blame(anyhow!("not ready within 30 s")).context("starting it again");
        assert!(matches!(Unusable::or_broken(error), EnvironmentError::Violated(why) if why.contains("within 30 s")));
        assert!(matches!(Unusable::or_broken(anyhow!("no disk")), EnvironmentError::Broken(_)));
    }
}
