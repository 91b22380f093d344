//! temporary
use std::sync::Arc;
use conformance::embedded::{Embedded, Settings};
use conformance::environment::{Environment as _, Isolation, LeaseRequest};
use conformance::tools::Display;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let program = std::env::current_exe()?.parent().unwrap().parent().unwrap().join("conformance");
    let mut settings = Settings::new(program, std::env::args().nth(1).unwrap().into());
    settings.percona_crds = std::env::args().nth(2).map(Into::into);
    let started = std::time::Instant::now();
    let environment = Embedded::start(settings, &Display::stderr()).await?;
    eprintln!("up after {:?}", started.elapsed());
    eprintln!("{:?} {:?}", environment.description(), environment.capabilities());
    let site = environment.lease(LeaseRequest { scenario: "x".into(), isolation: Isolation::Namespace }).await?;
    eprintln!("leased after {:?}", started.elapsed());
    eprintln!("{:?}", site.operator().await?);
    tokio::signal::ctrl_c().await?;
    drop::<Arc<dyn conformance::environment::Site>>(site);
    let started = std::time::Instant::now();
    environment.close().await?;
    eprintln!("down after {:?}", started.elapsed());
    Ok(())
}
