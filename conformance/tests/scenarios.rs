//! Every scenario as a test: see [`conformance::nextest`].

use std::path::PathBuf;
use std::process::ExitCode;

fn main() -> ExitCode {
    // Where nextest runs an archive, the program is not where it was compiled.
    let program = std::env::var_os("NEXTEST_BIN_EXE_conformance");
    conformance::nextest::main(program.map_or_else(|| env!("CARGO_BIN_EXE_conformance").into(), PathBuf::from))
}
