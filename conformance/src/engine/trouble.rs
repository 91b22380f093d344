//! Why an operation did not end well. The kinds are kept apart from the beginning, because they are different verdicts.

use crate::environment::EnvironmentError;
use crate::path::Path;
use crate::redact;

use super::watch::{Key, Kind};

/// See the module.
#[derive(Clone, Debug, PartialEq)]
pub enum Trouble {
    /// The implementation under test is not as the scenario claims.
    Failed(Failure),
    /// The environment, the scenario's own expressions or the engine are broken: no verdict about the implementation.
    Broken(String),
    /// The environment cannot do what the scenario asks for.
    Unsupported(String),
    /// The run was interrupted.
    Interrupted,
}

/// What was expected and what was seen instead.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Failure {
    /// One sentence or fragment.
    pub message: String,
    /// Every path that does not match, by object.
    pub mismatches: Vec<Mismatched>,
    /// The objects that it is about: their timelines are shown.
    pub subjects: Vec<Subject>,
}

/// An object, or a kind of which no object was seen.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Subject {
    /// Its kind.
    pub kind: Kind,
    /// Its namespace; none for cluster-scoped kinds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// Its name; none when it is about any object of the kind.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
}

impl Subject {
    /// The key of the named object in a watch of `namespace`.
    pub fn matches(&self, key: &Key) -> bool {
        self.name.as_ref().is_none_or(|name| *name == key.name)
    }
}

impl std::fmt::Display for Subject {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.kind.kind)?;
        match &self.name {
            Some(name) => write!(f, " {name}"),
            None => write!(f, " (any)"),
        }
    }
}

/// One path that does not match.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mismatched {
    /// The object.
    pub subject: Subject,
    /// Where in it.
    pub path: Path,
    /// What should be there.
    pub expected: String,
    /// What is there; none when there is nothing.
    pub actual: Option<String>,
}

impl Failure {
    /// A failure that its message tells completely.
    pub fn new(message: impl Into<String>) -> Self {
        Self { message: redact::redact(&message.into()), ..Self::default() }
    }

    /// Adds an object whose timeline is worth showing.
    #[must_use]
    pub fn about(mut self, subject: Subject) -> Self {
        self.subjects.push(subject);
        self
    }
}

impl From<Failure> for Trouble {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

impl From<EnvironmentError> for Trouble {
    fn from(error: EnvironmentError) -> Self {
        match error {
            EnvironmentError::Unsupported(reason) => Self::Unsupported(reason),
            EnvironmentError::Broken(reason) => Self::Broken(redact::redact(&reason)),
            EnvironmentError::Violated(reason) => Self::Failed(Failure::new(reason)),
        }
    }
}

impl Trouble {
    /// Something of the environment is broken.
    pub fn broken(message: impl std::fmt::Display) -> Self {
        Self::Broken(redact::redact(&message.to_string()))
    }

    /// What went wrong, whosever fault it is; none when nothing was tried to its end.
    pub fn failure(self) -> Option<Failure> {
        match self {
            Self::Failed(failure) => Some(failure),
            Self::Broken(reason) => Some(Failure::new(reason)),
            Self::Unsupported(_) | Self::Interrupted => None,
        }
    }
}
