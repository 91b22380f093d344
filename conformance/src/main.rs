//! Work in progress.
use std::process::ExitCode;

use conformance::process::shim;

fn main() -> ExitCode {
    let mut arguments = std::env::args_os().skip(1);
    if arguments.next().is_some_and(|command| command == shim::COMMAND) {
        return shim::main(arguments);
    }
    ExitCode::SUCCESS
}
