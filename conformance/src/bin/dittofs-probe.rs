//! The workload that stands in for DittoFS, as a program of its own for an image; everything is in `conformance::probe`.

use std::process::ExitCode;

fn main() -> ExitCode {
    conformance::probe::main(std::env::args_os().skip(1))
}
