//! Whose fault it is when an operator cannot be had.

use std::fmt;

use anyhow::anyhow;

use crate::environment::EnvironmentError;

/// The implementation under test cannot be built, installed or started. A context of errors: the causes say why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unusable;

impl fmt::Display for Unusable {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("the implementation under test cannot be used")
    }
}

/// Somebody else listens on a port that the implementation under test was given, or has by its file. A context of errors: the
/// implementation is not to blame for them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PortTaken(pub u16);

impl fmt::Display for PortTaken {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "another program listens on port {} of 127.0.0.1 (address already in use)", self.0)
    }
}

/// An error that is told more than once, of which it stays known whether it is [`Unusable`].
#[derive(Clone, Debug)]
pub(crate) struct Told {
    message: String,
    unusable: bool,
}

impl Told {
    /// Keeps what is to be told of `error`.
    pub(crate) fn of(error: &anyhow::Error) -> Self {
        let unusable = error.is::<Unusable>();
        // What is said again with the context is not kept with the text.
        let own = Unusable.to_string();
        let causes: Vec<String> = error.chain().map(ToString::to_string).filter(|cause| *cause != own).collect();
        Self { message: causes.join(": "), unusable }
    }

    /// The error, once more.
    pub(crate) fn again(&self) -> anyhow::Error {
        let error = anyhow!("{}", self.message);
        if self.unusable { error.context(Unusable) } else { error }
    }
}

impl Unusable {
    /// Says so of `error`, unless the API server could not be asked, or somebody else has taken a port: that is the environment's
    /// fault.
    pub(crate) fn blame(error: anyhow::Error) -> anyhow::Error {
        let unanswered = |cause: &kube::Error| !matches!(cause, kube::Error::Api(_) | kube::Error::Discovery(_));
        let is_another_s =
            error.is::<PortTaken>() || error.chain().filter_map(|cause| cause.downcast_ref()).any(unanswered);
        if is_another_s || error.is::<Self>() {
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
    use anyhow::Context as _;

    use super::*;

    #[test]
    fn only_an_api_server_that_does_not_answer_is_another_s_fault() {
        let refused = kube::Error::Api(Box::new(kube::core::Status::failure("field is immutable", "Invalid")));
        let unreachable = kube::Error::Service("connection refused".into());
        let blamed = |error: anyhow::Error| Unusable::blame(error).context("starting").is::<Unusable>();
        assert!(blamed(anyhow!("it ended with exit status: 7")));
        assert!(blamed(Err::<(), _>(refused).context("installing").unwrap_err()));
        assert!(!blamed(Err::<(), _>(unreachable).context("installing").unwrap_err()));
        assert!(!blamed(anyhow!("it ended with exit status: 1").context(PortTaken(20_001)).context("starting")));
    }

    #[test]
    fn an_error_that_is_told_again_is_the_same() {
        let error = Unusable::blame(anyhow!("exit status: 7").context("it ended")).context("starting");
        let again = Told::of(&error).again().context("a second control plane");
        assert_eq!(
            format!("{again:#}"),
            "a second control plane: the implementation under test cannot be used: starting: it ended: exit status: 7"
        );
        assert!(matches!(Unusable::or_broken(again), EnvironmentError::Violated(_)));
        let again = Told::of(&anyhow!("no disk").context("starting")).again();
        assert!(matches!(Unusable::or_broken(again), EnvironmentError::Broken(why) if why == "starting: no disk"));
    }

    #[test]
    fn an_operator_that_does_not_start_again_fails_the_scenario() {
        let error = Unusable::blame(anyhow!("not ready within 30 s")).context("starting it again");
        assert!(matches!(Unusable::or_broken(error), EnvironmentError::Violated(why) if why.contains("within 30 s")));
        assert!(matches!(Unusable::or_broken(anyhow!("no disk")), EnvironmentError::Broken(_)));
    }
}
