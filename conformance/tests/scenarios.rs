//! Every scenario as a test: see [`conformance::nextest`].

use std::process::ExitCode;

fn main() -> ExitCode {
    conformance::nextest::main(env!("CARGO_BIN_EXE_conformance").into())
}
