//! The binary `dittofs-operator`.

use clap::Parser as _;
use dittofs_operator::cli::Cli;

fn main() -> anyhow::Result<()> {
    // One provider in the whole program; it fails only when one is installed already.
    rustls::crypto::ring::default_provider().install_default().ok();
    Cli::parse().execute()
}
