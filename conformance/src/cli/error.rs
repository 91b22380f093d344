//! What went wrong, and how the program ends for it.

use std::fmt;

use crate::environment::EnvironmentError;
use crate::exit::Exit;
use crate::inert::inert;
use crate::redact::redact;
use crate::report::{ReportError, SkipError};
use crate::scenario::LoadError;
use crate::supervisor::StartError;

/// An error that ends the program.
#[derive(Debug)]
pub struct CliError {
    exit: Exit,
    message: String,
    rendered: bool,
}

impl CliError {
    /// An error with its exit code; the message is a lowercase fragment.
    pub fn new(exit: Exit, message: impl fmt::Display) -> Self {
        Self { exit, message: redact(&message.to_string()), rendered: false }
    }

    /// An error whose message is a report of many lines already.
    pub fn rendered(exit: Exit, message: String) -> Self {
        Self { exit, message, rendered: true }
    }

    /// What went wrong, without decoration.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// How the program ends.
    pub fn exit(&self) -> Exit {
        self.exit
    }

    /// The environment cannot be had.
    pub fn environment(error: &anyhow::Error) -> Self {
        let error = StartError::of(error);
        match error.exit {
            Exit::Implementation => Self::new(error.exit, error),
            exit => Self::new(exit, format!("the environment cannot be started: {error}")),
        }
    }
}

impl fmt::Display for CliError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const ERROR: anstyle::Style = anstyle::AnsiColor::Red.on_default().bold();
        if self.rendered {
            return f.write_str(&self.message);
        }
        // It may hold the end of a build's log, or what an operator said last.
        write!(f, "{ERROR}error:{ERROR:#} {}", inert(&self.message))
    }
}

impl From<LoadError> for CliError {
    fn from(error: LoadError) -> Self {
        let exit = match error {
            LoadError::NothingSelected { .. } => Exit::NothingSelected,
            LoadError::Unreadable { .. } | LoadError::Empty(_) => Exit::Usage,
        };
        Self::new(exit, error)
    }
}

impl From<EnvironmentError> for CliError {
    fn from(error: EnvironmentError) -> Self {
        Self::new(Exit::Environment, error)
    }
}

impl From<ReportError> for CliError {
    fn from(error: ReportError) -> Self {
        Self::new(Exit::Report, error)
    }
}

impl From<SkipError> for CliError {
    fn from(error: SkipError) -> Self {
        Self::new(Exit::Usage, error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_build_has_said_is_no_command() {
        let told = CliError::new(Exit::Implementation, "it ended with 1:\n::error::y\n##[group]z").to_string();
        assert!(told.ends_with(" it ended with 1:\n:\\:error::y\n##\\[group]z"), "{told}");
    }
}
