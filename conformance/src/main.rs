//! The program. A child that is to be launched, the supervisor, a client of PostgreSQL and the workload are handed over
//! before anything else is looked at.

use std::process::ExitCode;

use conformance::process::shim;
use conformance::{cli, node::libpq, probe, supervisor};
use include_dir::{Dir, include_dir};

/// So that an installed program has them without a repository. Here, and not in the library: an edit of a scenario
/// compiles this file again, and nothing else.
static SCENARIOS: Dir<'static> = include_dir!("$CARGO_MANIFEST_DIR/../scenarios");

fn main() -> ExitCode {
    let mut arguments = std::env::args_os().skip(1);
    match arguments.next() {
        Some(command) if command == shim::COMMAND => shim::main(arguments),
        Some(command) if command == supervisor::COMMAND => supervisor::main(arguments),
        Some(command) if command == libpq::COMMAND => libpq::main(arguments),
        Some(command) if command == probe::COMMAND => probe::main(arguments),
        _ => cli::main(&SCENARIOS),
    }
}
