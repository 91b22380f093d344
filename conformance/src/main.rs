//! The program. A child that is to be launched, and the supervisor, are handed over before anything else is looked at.

use std::process::ExitCode;

use conformance::process::shim;
use conformance::{cli, supervisor};

fn main() -> ExitCode {
    let mut arguments = std::env::args_os().skip(1);
    match arguments.next() {
        Some(command) if command == shim::COMMAND => shim::main(arguments),
        Some(command) if command == supervisor::COMMAND => supervisor::main(arguments),
        _ => cli::main(),
    }
}
