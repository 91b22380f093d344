//! `conformance schema`.

use clap::{Args, ValueEnum};

use super::CliError;
use crate::exit::Exit;
use crate::{implementation, scenario};

/// Print a JSON schema, for editors and other tools.
#[derive(Clone, Debug, Args)]
pub struct Schema {
    /// Of which file
    #[arg(value_enum)]
    what: What,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum What {
    /// A scenario
    Scenario,
    /// What scenarios share: a file that a step names in `use`
    StepTemplate,
    /// The description of an implementation
    Implementation,
}

impl Schema {
    /// Performs the verb.
    pub fn perform(self) -> Result<Exit, CliError> {
        let text = match self.what {
            What::Scenario => scenario::schema(),
            What::StepTemplate => scenario::template_schema(),
            What::Implementation => serde_json::to_string_pretty(&implementation::schema())
                .map(|text| text + "\n")
                .map_err(|error| CliError::new(Exit::Usage, error))?,
        };
        anstream::print!("{text}");
        Ok(Exit::Ok)
    }
}
