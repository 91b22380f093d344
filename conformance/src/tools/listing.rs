//! What is here already, for `conformance env tools`.

use std::fmt;

use super::command::Workshop;
use super::error::ToolError;
use super::tool::{Options, Tool};
use super::{helm, kind, kubernetes, minio, pgbackrest, postgres};

/// One line: a tool, and where it is.
#[derive(Debug)]
pub struct Listed {
    /// The tool.
    pub name: &'static str,
    /// Where it is; `None` when it would have to be fetched or built.
    pub found: Result<Option<Tool>, ToolError>,
}

impl fmt::Display for Listed {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.found {
            Ok(Some(tool)) => {
                write!(formatter, "{:<24} {:<10} {} ({})", self.name, tool.version, tool.path.display(), tool.source)
            }
            Ok(None) => write!(formatter, "{:<24} {:<10} fetched or built when it is needed", self.name, "-"),
            Err(error) => write!(formatter, "{:<24} {:<10} {error}", self.name, "!"),
        }
    }
}

/// Looks for every tool without fetching or building any.
pub async fn listing(workshop: &Workshop, options: &Options) -> Vec<Listed> {
    let mut list = Vec::new();
    for name in [kubernetes::ETCD, kubernetes::APISERVER, kubernetes::CONTROLLER_MANAGER] {
        list.push(Listed { name, found: kubernetes::find(workshop, options, name).await });
    }
    list.push(Listed { name: "PostgreSQL", found: postgres::find_server(workshop, options).await });
    let clients = postgres::find_clients(workshop, options).await;
    list.push(Listed { name: "psql, pg_isready", found: clients.map(|clients| clients.map(|clients| clients.psql)) });
    list.push(Listed { name: "pgBackRest", found: pgbackrest::find(workshop, options).await });
    list.push(Listed { name: "MinIO", found: minio::find(workshop, options).await });
    list.push(Listed { name: "kind", found: kind::find(workshop, options).await });
    list.push(Listed { name: "Helm", found: helm::find(workshop, options).await });
    list
}
