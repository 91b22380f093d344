//! `conformance list`.

use clap::Args;

use super::CliError;
use super::selection::Selection;
use crate::environment::Isolation;
use crate::exit::Exit;

/// List the scenarios and what they claim. Starts nothing.
#[derive(Clone, Debug, Args)]
pub struct List {
    #[command(flatten)]
    selection: Selection,
    /// Only the names, one a line
    #[arg(long = "names")]
    names_only: bool,
    /// The requirements and the scenarios that cover them, as Markdown
    #[arg(long, conflicts_with = "names_only")]
    requirements: bool,
    /// The known defects and the scenarios that they make fail, as Markdown
    #[arg(long, conflicts_with_all = ["names_only", "requirements"])]
    defects: bool,
}

impl List {
    /// Performs the verb.
    pub async fn perform(self) -> Result<Exit, CliError> {
        let selection = self.selection.open().await?;
        if self.requirements {
            let requirements = selection.known_requirements()?;
            anstream::print!("{}", requirements.page(&selection.entries()?));
            return Ok(Exit::Ok);
        }
        if self.defects {
            anstream::print!("{}", selection.defects_page()?);
            return Ok(Exit::Ok);
        }
        let mut broken = 0;
        for entry in selection.entries()? {
            let Ok(scenario) = &entry.scenario else {
                broken += 1;
                anstream::println!("{} (has mistakes: see `conformance lint`)", entry.name);
                continue;
            };
            if self.names_only {
                anstream::println!("{}", entry.name);
                continue;
            }
            let isolation = match scenario.isolation {
                Isolation::Namespace => "",
                Isolation::Operator => " [alone]",
                Isolation::Cluster => " [own control plane]",
            };
            anstream::println!("{}{isolation}\n    {}", entry.name, scenario.claim);
        }
        Ok(if broken > 0 { Exit::Usage } else { Exit::Ok })
    }
}
