//! `conformance launch`: what stands between our fork and the program (`pre_exec` would need `unsafe`).
//!
//! It makes the process the leader of a session and group of its own, changes the user, asks the kernel to kill it when
//! the supervisor dies, and becomes the program. Standard input is the write end of a pipe: when `exec` succeeds, the
//! kernel closes it and the supervisor reads nothing; else the supervisor reads what went wrong.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Write as _};
use std::os::fd::AsFd as _;
use std::os::unix::process::CommandExt as _;
use std::process::{Command, ExitCode, Stdio};

use clap::Parser as _;
use nix::sys::prctl;
use nix::sys::signal::Signal;
use nix::unistd::{self, Gid, Pid, Uid};

/// The hidden subcommand that the binary has to hand over to [`main`].
pub const COMMAND: &str = "launch";

#[derive(clap::Parser)]
#[command(no_binary_name = true)]
struct Arguments {
    #[arg(long)]
    parent: i32,
    #[arg(long, requires = "gid")]
    uid: Option<u32>,
    #[arg(long, requires = "uid")]
    gid: Option<u32>,
    #[arg(last = true, required = true)]
    command: Vec<OsString>,
}

/// Becomes the program that `arguments` (those after `launch`) name. Returns only when that fails.
pub fn main(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let arguments = match Arguments::try_parse_from(arguments) {
        Ok(arguments) => arguments,
        Err(error) => {
            eprintln!("conformance {COMMAND} is for internal use: {error}");
            return ExitCode::from(2);
        }
    };
    // The copy is closed by `exec`, as every descriptor that Rust opens.
    let report = io::stdin().as_fd().try_clone_to_owned().map(File::from);
    let message = become_program(&arguments);
    match report.and_then(|mut report| report.write_all(message.as_bytes())) {
        Ok(()) => {}
        Err(_) => eprintln!("{message}"),
    }
    ExitCode::from(127)
}

fn become_program(arguments: &Arguments) -> String {
    match prepare(arguments) {
        Ok(()) => {}
        Err(message) => return message,
    }
    let [program, rest @ ..] = arguments.command.as_slice() else {
        return "no program given".to_owned();
    };
    Command::new(program).args(rest).stdin(Stdio::null()).exec().to_string()
}

fn prepare(arguments: &Arguments) -> Result<(), String> {
    unistd::setsid().map_err(|error| format!("setsid: {error}"))?;
    if let (Some(uid), Some(gid)) = (arguments.uid, arguments.gid) {
        let gid = Gid::from_raw(gid);
        unistd::setgroups(&[gid]).map_err(|error| format!("setgroups: {error}"))?;
        unistd::setgid(gid).map_err(|error| format!("setgid: {error}"))?;
        unistd::setuid(Uid::from_raw(uid)).map_err(|error| format!("setuid: {error}"))?;
    }
    // After the change of user, which clears the death signal.
    prctl::set_pdeathsig(Signal::SIGKILL).map_err(|error| format!("prctl(PR_SET_PDEATHSIG): {error}"))?;
    // The parent may have died before the signal was armed.
    if unistd::getppid() != Pid::from_raw(arguments.parent) {
        return Err("the supervisor is gone".to_owned());
    }
    Ok(())
}
