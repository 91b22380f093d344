//! What the pods of a cluster do about backups.

use std::io;
use std::path::PathBuf;

use kube::core::DynamicObject;
use serde_json::json;

use super::super::context::Context;
use super::super::names::Key;
use super::super::registry;
use super::inner::repository;
use super::objects::options;
use super::{Failure, Instance, Options, Repository};
use crate::process::Account;

/// Makes the pgBackRest of a PostgreSQL that is about to start with its data in `data` and its socket in `socket`; it works in
/// the directory `name` of the instance. `None` when there is no pgBackRest on this machine.
///
/// # Errors
/// Its directories cannot be made.
pub fn create(
    context: &Context,
    instance: &registry::Instance,
    name: &str,
    data: PathBuf,
    socket: PathBuf,
) -> io::Result<Option<Repository>> {
    let Some(program) = context.pgbackrest.clone() else { return Ok(None) };
    let options = Options {
        program,
        spawner: context.spawner.clone(),
        account: Account::nobody_if_root(),
        directory: instance.directory.join(name),
        instance: Instance { data, socket, port: instance.place.listen.port(), user: "postgres".to_owned() },
    };
    Repository::create(options).map(Some)
}

/// Does the work of a backup Job's pod. The result is its log.
pub async fn run_job(context: &Context, key: &Key, pod: &DynamicObject) -> Result<String, Failure> {
    let options = options(&json!({ "spec": pod.data["spec"] }));
    let options: Vec<&str> = options.iter().map(String::as_str).collect();
    repository(context, key)?.backup(&options).await
}
