//! The workload that stands in for DittoFS; everything is in `conformance::probe`.

use std::process::ExitCode;

use clap::Parser as _;
use conformance::probe::{Options, run};

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    match run(Options::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("dittofs-probe: {error:#}");
            ExitCode::FAILURE
        }
    }
}
