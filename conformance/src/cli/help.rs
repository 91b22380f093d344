//! `conformance help`.

use clap::{Args, CommandFactory as _};

use super::{Cli, CliError};
use crate::exit::Exit;

/// Explain a command, or the exit codes.
#[derive(Clone, Debug, Args)]
pub struct Help {
    /// A command, or `exit-codes`
    #[arg(value_name = "TOPIC")]
    topic: Vec<String>,
}

impl Help {
    /// Performs the verb.
    pub fn perform(self) -> Result<Exit, CliError> {
        if self.topic == ["exit-codes"] {
            for exit in Exit::ALL {
                anstream::println!("{exit}");
            }
            return Ok(Exit::Ok);
        }
        let mut command = Cli::command();
        command.build();
        let mut named = &mut command;
        for name in &self.topic {
            named = named.find_subcommand_mut(name).ok_or_else(|| {
                CliError::new(Exit::Usage, format!("there is no help about `{name}`; try a command, or exit-codes"))
            })?;
        }
        anstream::print!("{}", named.render_long_help().ansi());
        Ok(Exit::Ok)
    }
}
