//! `script`: anything that has no operation of its own.

use std::process::Stdio;

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use serde_json::{Value, json};
use tokio::process::Command;

use crate::engine::context::Context;
use crate::engine::deadline::Deadline;
use crate::engine::trouble::{Failure, Trouble};
use crate::redact::redact;
use crate::scenario::expression::{evaluate, evaluate_text};
use crate::scenario::operations::Script;
use crate::scenario::pattern::Pattern;

/// Runs the script in an empty directory; it and what it started end with the operation.
pub async fn script(script: &Script, context: &mut Context, deadline: &Deadline) -> Result<Value, Trouble> {
    let directory = tempfile::tempdir().map_err(|error| Trouble::broken(format!("no directory for it: {error}")))?;
    let mut command = Command::new("sh");
    command.args(["-eu", "-c", &script.content]).current_dir(directory.path()).env_clear();
    command.env("PATH", std::env::var_os("PATH").unwrap_or_default());
    for variable in &script.env {
        let value = evaluate(&variable.value, &context.bindings)?;
        command.env(&variable.name, value.as_str().map_or_else(|| value.to_string(), str::to_owned));
    }
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
    let child = command.spawn().map_err(|error| Trouble::broken(format!("sh cannot be started: {error}")))?;
    let group = Group(child.id().and_then(|id| i32::try_from(id).ok()));
    let output = deadline.bound(child.wait_with_output()).await;
    drop(group);
    let output = output.ok_or_else(|| Failure::new(format!("the script did not end within {deadline}")))?;
    let output = output.map_err(|error| Trouble::broken(format!("the script's output cannot be read: {error}")))?;

    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim_end_matches('\n').to_owned();
    let (stdout, stderr) = (text(&output.stdout), text(&output.stderr));
    let exit_code = output.status.code();
    if exit_code != Some(script.exit_code) {
        let ended = exit_code.map_or_else(|| "was killed".to_owned(), |code| format!("ended with {code}"));
        let message = format!("the script {ended}, and not with {}\n{stdout}\n{stderr}", script.exit_code);
        return Err(Failure::new(message.trim_end()).into());
    }
    if let Some(expected) = &script.stdout {
        let pattern = Pattern::resolve(&Value::String(expected.clone()), &context.bindings)?;
        if !pattern.matches(&Value::String(stdout.clone())) {
            let expected = evaluate_text(expected, &context.bindings).unwrap_or_else(|_| expected.clone());
            return Err(Failure::new(format!("the script printed `{}`, expected `{expected}`", redact(&stdout))).into());
        }
    }
    Ok(json!({"exitCode": exit_code, "stdout": stdout, "stderr": stderr}))
}

/// The script's process group: killed when this is dropped, so that nothing outlives the operation.
struct Group(Option<i32>);

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(id) = self.0 {
            // It has ended by itself in the usual case.
            let _ = killpg(Pid::from_raw(id), Signal::SIGKILL);
        }
    }
}
