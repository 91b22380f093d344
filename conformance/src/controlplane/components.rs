//! Noticing that a component has ended by itself.

use std::path::PathBuf;

use futures::StreamExt as _;
use futures::stream::FuturesUnordered;

use super::ready;
use crate::process::{Exit, Process};

/// The processes of a control plane, and what else a scenario cannot do without. It does not own them, and stays valid when
/// they have ended.
#[derive(Clone, Debug, Default)]
pub struct Components(Vec<Component>);

#[derive(Clone, Debug)]
struct Component {
    name: String,
    exit: Exit,
    log: PathBuf,
}

impl Components {
    /// These and `process`, which writes to `log`.
    #[must_use]
    pub fn with(mut self, process: &Process, log: PathBuf) -> Self {
        self.0.push(Component { name: process.name().to_owned(), exit: process.exit(), log });
        self
    }

    /// Waits until one of them has ended, and says which one, how, and what it wrote last.
    pub async fn ended(&self) -> anyhow::Error {
        let mut ends: FuturesUnordered<_> = self
            .0
            .iter()
            .map(async |component| {
                let status = component.exit.clone().wait().await;
                component.ended(status)
            })
            .collect();
        match ends.next().await {
            Some(error) => error,
            None => std::future::pending().await,
        }
    }
}

impl Component {
    fn ended(&self, status: std::process::ExitStatus) -> anyhow::Error {
        ready::failure(&self.name, &self.log, &format!("it has ended ({status})"))
    }
}
