//! The API server with its etcd, as two processes.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, bail};
use kube::Client;

use super::apiserver::Audit;
use super::components::Components;
use super::kubeconfig::Access;
use super::{apiserver, etcd, ready};
use crate::pki::Authority;
use crate::ports::Port;
use crate::process::{Process, Spawner};

/// How long the API server may take to answer `/readyz`. A cold start of a loaded machine takes some ten seconds.
const READY_WITHIN: Duration = Duration::from_mins(1);

/// How often another port is tried when somebody takes the one that was free a moment ago.
const PORT_ATTEMPTS: u32 = 5;

/// Group of the administrator, to whom everything is allowed.
const ADMINISTRATORS: &str = "system:masters";

/// Where the programs are.
#[derive(Clone, Debug)]
pub struct Binaries {
    /// etcd.
    pub etcd: PathBuf,
    /// kube-apiserver.
    pub kube_apiserver: PathBuf,
    /// kube-controller-manager.
    pub kube_controller_manager: PathBuf,
}

/// A running API server.
pub(super) struct Server {
    directory: PathBuf,
    etcd: Process,
    apiserver: Process,
    /// The administrator's access.
    pub access: Access,
    /// The administrator's access, as a client configuration.
    pub config: kube::Config,
    /// Where the API server listens.
    _port: Port,
}

impl Server {
    /// Starts etcd on `<directory>/etcd` (empty when it is not there) and the API server before it.
    pub async fn start(binaries: &Binaries, directory: &Path, audit: Audit, spawner: &Spawner) -> anyhow::Result<Self> {
        let authority = Authority::create("dittofs-conformance control plane")?;
        write_files(directory, audit, &authority).with_context(|| format!("writing to {}", directory.display()))?;
        let admin = authority.client("dittofs-conformance", Some(ADMINISTRATORS))?;
        let etcd = spawner.spawn(&etcd::launch(&binaries.etcd, directory)).await?;
        for attempt in 1.. {
            let port = Port::choose().context("looking for a free port")?;
            let server = format!("https://127.0.0.1:{}", port.number());
            let access = Access::by_certificate(&server, authority.certificate(), &admin);
            let config = access.config().await?;
            let log = directory.join("kube-apiserver.log");
            let apiserver =
                spawner.spawn(&apiserver::launch(&binaries.kube_apiserver, directory, port.number())).await?;
            let client = patient_client(&config)?;
            match wait(&etcd, &apiserver, directory, &client).await {
                Ok(()) => {
                    // The controllers are given everything, instead of a service account for each of them.
                    let manager = authority.client("system:kube-controller-manager", Some(ADMINISTRATORS))?;
                    Access::by_certificate(&server, authority.certificate(), &manager)
                        .write(&directory.join("controllers.kubeconfig"))?;
                    access.write(&directory.join("admin.kubeconfig"))?;
                    return Ok(Self { directory: directory.to_owned(), etcd, apiserver, access, config, _port: port });
                }
                Err(error) if apiserver.exit().status().is_none() || !port_was_taken(&log) => return Err(error),
                Err(_) if attempt < PORT_ATTEMPTS => std::fs::remove_file(&log)?,
                Err(error) => {
                    return Err(error.context(format!("{PORT_ATTEMPTS} free ports in turn were taken by others")));
                }
            }
        }
        bail!("unreachable: the last attempt returns")
    }

    /// Both, to notice that one has ended.
    pub fn components(&self) -> Components {
        let log = |name: &str| self.directory.join(name);
        Components::default().with(&self.etcd, log("etcd.log")).with(&self.apiserver, log("kube-apiserver.log"))
    }

    /// Ends both at once; the data directory is not fit for another start.
    pub async fn kill(&self) {
        self.apiserver.kill().await;
        self.etcd.kill().await;
    }

    /// Ends both in order, so that the data directory is complete.
    pub async fn stop(&self) {
        self.apiserver.kill().await;
        self.etcd.stop().await;
    }
}

/// The certificates and keys, and the audit policy.
fn write_files(directory: &Path, audit: Audit, authority: &Authority) -> anyhow::Result<()> {
    let pki = directory.join("pki");
    std::fs::create_dir(&pki)?;
    std::fs::write(pki.join("ca.crt"), authority.certificate())?;
    authority
        .server(["127.0.0.1", "localhost", "kubernetes.default.svc", "kubernetes.default"])?
        .write(&pki.join("server.crt"), &pki.join("server.key"))?;
    // What signs the tokens of service accounts: any key pair, here that of a certificate nobody needs.
    let signer = rcgen::KeyPair::generate()?;
    crate::redact::register(&signer.serialize_pem());
    std::fs::write(pki.join("service-account.pub"), signer.public_key_pem())?;
    std::fs::write(pki.join("service-account.key"), signer.serialize_pem())?;
    std::fs::write(directory.join("audit-policy.yaml"), audit.policy())?;
    Ok(())
}

/// A client that leaves retrying to us.
fn patient_client(config: &kube::Config) -> anyhow::Result<Client> {
    let mut config = config.clone();
    config.default_retry = false;
    Ok(Client::try_from(config)?)
}

async fn wait(etcd: &Process, apiserver: &Process, directory: &Path, client: &Client) -> anyhow::Result<()> {
    let log = directory.join("kube-apiserver.log");
    let answers = ready::ready(apiserver, &log, READY_WITHIN, async || {
        let answer = client.request_text(http::Request::get("/readyz").body(Vec::new())?).await?;
        anyhow::ensure!(answer == "ok", "/readyz says {answer:?}");
        Ok(())
    });
    tokio::select! {
        biased;
        status = etcd.wait() => {
            Err(ready::failure("etcd", &directory.join("etcd.log"), &format!("it ended with {status}")))
        }
        outcome = answers => outcome,
    }
}

fn port_was_taken(log: &Path) -> bool {
    ready::tail(log, 15).is_ok_and(|lines| lines.contains("address already in use"))
}
