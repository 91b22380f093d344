//! The operators: one program, told by a word how it misbehaves.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::process::ExitCode;

use futures::StreamExt as _;
use kube::Client;
use kube::api::{Api, DynamicObject, ListParams, Patch, PatchParams, PostParams};
use kube::core::{ApiResource, GroupVersionKind};
use kube::runtime::watcher;
use serde_json::json;

/// The operator, until it is killed.
pub fn operate(mode: &str, address: &str) -> ExitCode {
    if mode == "silent" {
        loop {
            std::thread::park();
        }
    }
    let Ok(listener) = TcpListener::bind(address) else { return ExitCode::FAILURE };
    let mode = mode.to_owned();
    std::thread::spawn(move || {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let runtime = tokio::runtime::Runtime::new().expect("a runtime");
        runtime.block_on(act(&mode)).expect("access to the API server");
    });
    for connection in listener.incoming() {
        let Ok(mut connection) = connection else { continue };
        let _ = connection.read(&mut [0; 1024]);
        let _ = connection.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
    }
    ExitCode::SUCCESS
}

/// What it does besides being ready.
async fn act(mode: &str) -> Result<(), kube::Error> {
    let client = Client::try_default().await?;
    let kind = ApiResource::from_gvk(&GroupVersionKind::gvk("dittofs.dittofs.com", "v1alpha1", "DittoServer"));
    match mode {
        "garbage" => {
            let servers: Api<DynamicObject> = Api::all_with(client.clone(), &kind);
            let mut events = std::pin::pin!(watcher(servers, watcher::Config::default()));
            while let Some(event) = events.next().await {
                let Ok(watcher::Event::Apply(server)) = event else { continue };
                if !server.data["status"].is_null() {
                    continue;
                }
                let namespace = server.metadata.namespace.unwrap_or_default();
                let api: Api<DynamicObject> = Api::namespaced_with(client.clone(), &namespace, &kind);
                let garbage = json!({"status": {
                    "phase": 42,
                    "observedGeneration": "yesterday",
                    "conditions": [null, "Ready", {"type": {"a": []}}, {"type": "Ready", "status": 1}],
                    "\u{0}\u{202e}": "\u{1b}[2J".repeat(1000),
                }});
                let name = server.metadata.name.unwrap_or_default();
                let _ = api.patch_status(&name, &PatchParams::default(), &Patch::Merge(&garbage)).await;
            }
        }
        "flood" => {
            let flood = (0..8).map(|_| async {
                let all: Api<DynamicObject> = Api::all_with(client.clone(), &kind);
                loop {
                    let _ = all.list(&ListParams::default()).await;
                }
            });
            futures::future::join_all(flood).await;
        }
        "different" => {
            let servers: Api<DynamicObject> = Api::all_with(client.clone(), &kind);
            let mut events = std::pin::pin!(watcher(servers, watcher::Config::default()));
            while let Some(event) = events.next().await {
                let Ok(watcher::Event::Apply(server)) = event else { continue };
                if server.data["status"].is_null() {
                    differ(&client, &kind, &server).await?;
                }
            }
        }
        _ => std::future::pending().await,
    }
    Ok(())
}

/// Makes an incomplete cluster that nobody owns, and says so by a name of its own.
async fn differ(client: &Client, kind: &ApiResource, server: &DynamicObject) -> Result<(), kube::Error> {
    let namespace = server.metadata.namespace.clone().unwrap_or_default();
    let name = server.metadata.name.clone().unwrap_or_default();
    let cluster = GroupVersionKind::gvk("pgv2.percona.com", "v2", "PerconaPGCluster");
    let clusters = Api::namespaced_with(client.clone(), &namespace, &ApiResource::from_gvk(&cluster));
    let claim = json!({"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}});
    let incomplete = DynamicObject::new(&format!("{name}-postgres"), &ApiResource::from_gvk(&cluster)).data(json!({
        "spec": {
            "postgresVersion": 16,
            "instances": [{"name": "instance1", "replicas": 1, "dataVolumeClaimSpec": claim}],
            "backups": {"enabled": false},
        },
    }));
    clusters.create(&PostParams::default(), &incomplete).await?;
    let servers: Api<DynamicObject> = Api::namespaced_with(client.clone(), &namespace, kind);
    let status = json!({"status": {"conditions": [{"type": "Db", "status": "False", "reason": "NotYet"}]}});
    servers.patch_status(&name, &PatchParams::default(), &Patch::Merge(&status)).await.map(drop)
}
