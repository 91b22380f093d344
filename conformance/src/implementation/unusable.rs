//! Whose fault it is when an operator cannot be had.

use std::fmt;

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
}
