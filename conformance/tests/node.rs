//! Pods on a real control plane, run by the node double.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use conformance::controlplane::{Binaries, ControlPlane, CustomResources};
use conformance::hosts::{Hosts, lookup};
use conformance::node::{BackOffLimits, Image, ImageTable, Node, Options, libpq, log_files};
use conformance::process::{Run, Spawner};
use conformance::tools::{self, Cache, Display, Workshop};
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{Endpoints, PersistentVolume, PersistentVolumeClaim, Pod, Secret, Service};
use kube::api::{DeleteParams, ListParams, Patch, PatchParams};
use kube::runtime::wait::await_condition;
use kube::{Api, Client, ResourceExt as _};
use serde_json::{Value, json};

use self::pods::{DEADLINE, Fixture, fifo, is_ready, release};

#[path = "support/pods.rs"]
mod pods;

#[tokio::test(flavor = "multi_thread")]
async fn pods_live_as_under_a_kubelet() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let base = tempfile::tempdir().unwrap();
    let run = Arc::new(Run::create(&base.path().join("runs")).unwrap());
    let spawner = Spawner::new(Arc::clone(&run), Some(env!("CARGO_BIN_EXE_conformance").into())).unwrap();
    let workshop = Workshop {
        cache: Cache::open(Cache::default_root().unwrap()).unwrap(),
        spawner: spawner.clone(),
        progress: Display::stderr().progress(),
    };
    let programs = tools::ControlPlane::prepare(&workshop, &tools::Options::from_environment()).await.unwrap();
    let mut plane = ControlPlane::start(conformance::controlplane::Options {
        binaries: Binaries {
            etcd: programs.etcd.path,
            kube_apiserver: programs.apiserver.path,
            kube_controller_manager: programs.controller_manager.path,
        },
        directory: run.directory().join("control-plane"),
        spawner: spawner.clone(),
        crds: CustomResources::default(),
        cache: Cache::default_root().unwrap(),
        audit: conformance::controlplane::Audit::default(),
    })
    .await
    .unwrap();
    plane.start_controllers().await.unwrap();

    let hosts = Hosts::create(run.directory().join("hosts")).unwrap();
    let directory = run.directory().join("node");
    let workload = Image::of_workload(Path::new(env!("CARGO_BIN_EXE_conformance")));
    let postgres = image_of_postgres(run.directory());
    let node = Node::start(Options {
        config: plane.config(),
        spawner,
        hosts: hosts.clone(),
        directory: directory.clone(),
        images: ImageTable::standard(&workload, Some(postgres)).with("shell:*", Image::default()),
        back_off: BackOffLimits { base: Duration::from_millis(200), longest: Duration::from_secs(6) },
    })
    .await
    .unwrap();
    let fixture = Fixture { client: Client::try_from(plane.config()).unwrap(), hosts, directory };

    tokio::join!(
        a_stateful_set_comes_up_in_order_rolls_and_goes(&fixture),
        a_container_that_fails_is_restarted_with_a_back_off(&fixture),
        an_unknown_image_cannot_be_pulled(&fixture),
        a_failing_liveness_probe_restarts_the_container(&fixture),
        a_volume_that_cannot_be_set_up_holds_its_pod_back(&fixture),
        a_claim_that_is_missing_holds_its_pod_back(&fixture),
        a_job_is_completed(&fixture),
        a_stop_is_graceful_until_the_grace_is_over(&fixture),
        an_unready_pod_does_not_serve(&fixture),
        a_program_that_is_missing_is_a_start_error(&fixture),
        a_client_of_postgres_finds_a_name_that_came_after_it(&fixture),
    );

    let site = fixture.site("left-over").await;
    site.shell("sleeper", "echo $$; exec sleep 1000", json!({}), json!({})).await;
    site.pod("sleeper", "ready", is_ready).await;
    node.stop().await;
    let pid = site.log("sleeper", "main").trim().to_owned();
    assert!(!Path::new("/proc").join(&pid).exists(), "the container outlives the node");

    plane.stop().await;
    run.remove().unwrap();
}

/// An image with a `psql` that tells the address to which it would connect.
fn image_of_postgres(directory: &Path) -> Image {
    let (program, scripts) = (directory.join("psql"), directory.join("libpq"));
    std::fs::write(&program, "#!/bin/sh\necho ${PGHOSTADDR:-unknown}\n").unwrap();
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
    libpq::install(&scripts, Path::new(env!("CARGO_BIN_EXE_conformance")), [program.as_path()]).unwrap();
    Image { path: vec![scripts], ..Image::default() }
}

async fn a_client_of_postgres_finds_a_name_that_came_after_it(fixture: &Fixture) {
    let site = fixture.site("names").await;
    let [before, after] = ["before", "after"].map(|gate| fixture.directory.join(gate));
    fifo(&before);
    fifo(&after);
    let container = json!({"name": "main", "image": "postgres:16-alpine",
        "command": ["/bin/sh", "-c", "psql && cat $(BEFORE) $(AFTER) && psql && psql -h other"],
        "env": [{"name": "BEFORE", "value": before}, {"name": "AFTER", "value": after},
            {"name": "PGHOST", "value": "db.names.svc"}]});
    site.create::<Pod>(json!({"metadata": {"name": "client"}, "spec": {
        "restartPolicy": "Never", "containers": [container]}}))
        .await;
    release(before).await;
    fixture.hosts.set(["db.names.svc".to_owned()], "127.0.0.5".parse().unwrap()).unwrap();
    release(after).await;
    site.state("client", "terminated/Completed").await;
    let seen = ["unknown", "go", "go", "127.0.0.5", "unknown"];
    assert_eq!(site.log("client", "main").lines().collect::<Vec<_>>(), seen);
}

async fn a_stateful_set_comes_up_in_order_rolls_and_goes(fixture: &Fixture) {
    let site = fixture.site("stateful").await;
    let gate = fixture.directory.join("gate");
    fifo(&gate);
    site.create::<Service>(json!({"metadata": {"name": "demo-headless"}, "spec": {
        "clusterIP": "None", "selector": {"app": "demo"}, "ports": [{"port": 8080}]}}))
        .await;
    site.create::<Service>(json!({"metadata": {"name": "demo-api"}, "spec": {
        "selector": {"app": "demo"}, "ports": [{"port": 8080, "targetPort": "api"}]}}))
        .await;
    site.create::<Secret>(json!({"metadata": {"name": "creds"}, "stringData": {"other": "x"}})).await;
    site.create::<StatefulSet>(json!({"metadata": {"name": "demo"}, "spec": {
        "serviceName": "demo-headless",
        "selector": {"matchLabels": {"app": "demo"}},
        "template": {"metadata": {"labels": {"app": "demo"}}, "spec": {
            "initContainers": [{"name": "wait", "image": "shell:1", "command": ["/bin/sh", "-c", "cat $(GATE)"],
                "env": [{"name": "GATE", "value": gate}]}],
            "containers": [{"name": "dittofs", "image": "ghcr.io/marmos91/dittofs:0.1.0",
                "ports": [{"name": "api", "containerPort": 8080}],
                "env": [{"name": "LEVEL", "valueFrom": {"secretKeyRef": {"name": "creds", "key": "level"}}}],
                "readinessProbe": {"httpGet": {"path": "/health/ready", "port": "api"}},
                "livenessProbe": {"httpGet": {"path": "/health", "port": "api"}}}],
        }},
        "volumeClaimTemplates": [{"metadata": {"name": "metadata"}, "spec": {
            "accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}}],
    }}))
    .await;

    let waits = |pod: &Value| pod["status"]["initContainerStatuses"][0]["state"]["running"].is_object();
    let pod = site.pod("demo-0", "waiting for the gate", waits).await;
    assert_eq!(pod["status"]["phase"], "Pending");
    assert_eq!(pod["status"]["containerStatuses"][0]["state"]["waiting"]["reason"], "PodInitializing");
    release(gate.clone()).await;

    let pod = site.state("demo-0", "waiting/CreateContainerConfigError").await;
    assert_eq!(
        pod["status"]["containerStatuses"][0]["state"]["waiting"]["message"],
        "couldn't find key level in Secret stateful/creds"
    );
    let level = json!({"stringData": {"level": "debug"}});
    site.api::<Secret>().patch("creds", &PatchParams::default(), &Patch::Merge(level)).await.unwrap();
    let first = site.pod("demo-0", "ready", is_ready).await;
    assert_eq!((site.log("demo-0", "wait").as_str(), &first["status"]["phase"]), ("go\n", &json!("Running")));

    let claim = site.api::<PersistentVolumeClaim>().get("metadata-demo-0").await.unwrap();
    assert_eq!(claim.status.unwrap().phase.as_deref(), Some("Bound"));
    site.known("demo-api", true).await;
    let address = lookup(fixture.hosts.path(), "demo-0.demo-headless.stateful.svc").unwrap().unwrap();
    tokio::net::TcpStream::connect((address, 8080)).await.unwrap();
    let endpoints = await_condition(site.api::<Endpoints>(), "demo-api", |endpoints: Option<&Endpoints>| {
        endpoints.is_some_and(|endpoints| endpoints.subsets.as_ref().is_some_and(|subsets| !subsets.is_empty()))
    });
    tokio::time::timeout(DEADLINE, endpoints).await.expect("the API server takes the pod's address").unwrap();

    let roll = json!({"spec": {"template": {"metadata": {"annotations": {"digest": "2"}}}}});
    site.api::<StatefulSet>().patch("demo", &PatchParams::default(), &Patch::Merge(roll)).await.unwrap();
    let uid = &first["metadata"]["uid"];
    let replaced = |pod: &Value| pod.is_object() && pod["metadata"]["uid"] != *uid && waits(pod);
    site.pod("demo-0", "replaced", replaced).await;
    release(gate).await;
    let second = site.pod("demo-0", "ready again", is_ready).await;
    assert_eq!(second["metadata"]["annotations"]["digest"], "2");
    assert_ne!(second["status"]["podIP"], first["status"]["podIP"]);

    site.api::<StatefulSet>().delete("demo", &DeleteParams::default()).await.unwrap();
    site.pod("demo-0", "gone", Value::is_null).await;
    site.known("demo-api", false).await;
    assert!(site.log("demo-0", "dittofs").contains("stopping"), "it was stopped gracefully");

    site.api::<PersistentVolumeClaim>().delete("metadata-demo-0", &DeleteParams::default()).await.unwrap();
    let volume = format!("pvc-{}", claim.metadata.uid.unwrap());
    let gone = await_condition(
        Api::<PersistentVolume>::all(fixture.client.clone()),
        &volume,
        |v: Option<&PersistentVolume>| v.is_none(),
    );
    tokio::time::timeout(DEADLINE, gone).await.expect("the volume goes with its claim").unwrap();
}

async fn a_container_that_fails_is_restarted_with_a_back_off(fixture: &Fixture) {
    let site = fixture.site("restarts").await;
    let policy = json!({"terminationMessagePolicy": "FallbackToLogsOnError"});
    site.shell("demo", "echo first line; echo out of luck; exit 3", json!({}), policy).await;
    let pod = site.state("demo", "waiting/CrashLoopBackOff").await;
    let status = &pod["status"]["containerStatuses"][0];
    assert_eq!(status["restartCount"], 1, "the first restart was immediate");
    let last = &status["lastState"]["terminated"];
    assert_eq!((&last["exitCode"], &last["reason"]), (&json!(3), &json!("Error")));
    assert_eq!(last["message"], "first line\nout of luck");
    let again = |pod: &Value| pod["status"]["containerStatuses"][0]["restartCount"].as_i64() >= Some(3);
    site.pod("demo", "restarted three times", again).await;
    assert!(log_files(&fixture.directory, "restarts", "demo", "main").unwrap().len() >= 4, "a log for each run");
}

async fn an_unknown_image_cannot_be_pulled(fixture: &Fixture) {
    let site = fixture.site("images").await;
    site.shell("demo", "true", json!({}), json!({"image": "registry.example/none:1"})).await;
    site.state("demo", "waiting/ErrImagePull").await;
    let pod = site.state("demo", "waiting/ImagePullBackOff").await;
    assert_eq!(pod["status"]["phase"], "Pending");
}

async fn a_failing_liveness_probe_restarts_the_container(fixture: &Fixture) {
    let site = fixture.site("liveness").await;
    let probe = json!({"livenessProbe": {"exec": {"command": ["/bin/sh", "-c", "echo sick; exit 1"]},
        "periodSeconds": 1, "failureThreshold": 1}});
    site.shell("demo", "exec sleep 1000", json!({}), probe).await;
    let restarted = |pod: &Value| pod["status"]["containerStatuses"][0]["restartCount"].as_i64() >= Some(1);
    site.pod("demo", "restarted", restarted).await;
    site.told("Unhealthy", "Liveness probe failed: sick").await;
}

async fn a_volume_that_cannot_be_set_up_holds_its_pod_back(fixture: &Fixture) {
    let site = fixture.site("volumes").await;
    let spec = |optional: bool| {
        let source = json!({"secretName": "late", "optional": optional, "items": [{"key": "uri", "path": "uri"}]});
        let mounts = json!([{"name": "creds", "mountPath": "/creds"}]);
        let begins = ["/bin/sh", "-c", "echo begun"];
        let init = json!({"name": "init", "image": "shell:1", "command": begins, "volumeMounts": mounts});
        json!({"initContainers": [init], "volumes": [{"name": "creds", "secret": source}]})
    };
    site.shell("optional", "exec sleep 1000", spec(true), json!({})).await;
    site.pod("optional", "ready", is_ready).await;

    site.shell("needed", "exec sleep 1000", spec(false), json!({})).await;
    let failed = |why: &str| format!("MountVolume.SetUp failed for volume \"creds\" : {why}");
    site.told("FailedMount", &failed("secret \"late\" not found")).await;
    let pod = site.state("needed", "waiting/PodInitializing").await;
    let status = &pod["status"];
    assert_eq!((&status["phase"], &status["podIP"]), (&json!("Pending"), &Value::Null));
    assert_eq!(status["initContainerStatuses"][0]["state"]["waiting"]["reason"], "PodInitializing");

    site.create::<Secret>(json!({"metadata": {"name": "late"}, "stringData": {"other": "x"}})).await;
    site.told("FailedMount", &failed("references non-existent secret key: uri")).await;
    assert_eq!(site.log("needed", "init"), "", "no container has been started");
    let key = json!({"stringData": {"uri": "x"}});
    site.api::<Secret>().patch("late", &PatchParams::default(), &Patch::Merge(key)).await.unwrap();
    let pod = site.pod("needed", "ready", is_ready).await;
    assert!(pod["status"]["podIP"].is_string());
    assert_eq!(site.log("needed", "init"), "begun\n");
}

async fn a_claim_that_is_missing_holds_its_pod_back(fixture: &Fixture) {
    let site = fixture.site("claims").await;
    let volume = json!({"name": "data", "persistentVolumeClaim": {"claimName": "late"}});
    site.shell("demo", "exec sleep 1000", json!({"volumes": [volume]}), json!({})).await;
    let why = "Unable to attach or mount volumes: unmounted volumes=[data], unattached volumes=[], \
               failed to process volumes=[data]: error processing PVC claims/late: \
               failed to fetch PVC from API server: persistentvolumeclaims \"late\" not found";
    site.told("FailedMount", why).await;
    let pod = site.state("demo", "waiting/ContainerCreating").await;
    assert_eq!(pod["status"]["phase"], "Pending");
    site.create::<PersistentVolumeClaim>(json!({"metadata": {"name": "late"}, "spec": {
        "accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}}))
        .await;
    site.pod("demo", "ready", is_ready).await;
}

async fn a_job_is_completed(fixture: &Fixture) {
    let site = fixture.site("jobs").await;
    site.create::<Job>(json!({"metadata": {"name": "demo"}, "spec": {"template": {"spec": {
        "restartPolicy": "Never",
        "containers": [{"name": "main", "image": "shell:1", "command": ["/bin/sh", "-c", "echo $HOSTNAME"]}],
    }}}}))
    .await;
    let complete = await_condition(site.api::<Job>(), "demo", |job: Option<&Job>| {
        job.and_then(|job| job.status.as_ref()?.succeeded) == Some(1)
    });
    tokio::time::timeout(DEADLINE, complete).await.expect("the job succeeds").unwrap();
    let pod = site.api::<Pod>().list(&ListParams::default()).await.unwrap().items.pop().unwrap();
    assert_eq!(site.log(&pod.name_any(), "main").trim(), pod.name_any());
    site.api::<Job>().delete("demo", &DeleteParams::background()).await.unwrap();
    site.pod(&pod.name_any(), "gone", Value::is_null).await;
}

async fn a_stop_is_graceful_until_the_grace_is_over(fixture: &Fixture) {
    let site = fixture.site("grace").await;
    let polite = "trap 'echo bye; exit 0' TERM; echo up; while :; do sleep 0.1; done";
    let stubborn = "trap '' TERM; echo up; while :; do sleep 0.1; done";
    let is_up = |script: &str| json!({"readinessProbe": {"exec": {"command": ["/bin/sh", "-c", script]}}});
    site.shell("polite", polite, json!({}), is_up("grep -q up 0.log")).await;
    site.shell("stubborn", stubborn, json!({"terminationGracePeriodSeconds": 1}), is_up("grep -q up 0.log")).await;
    for name in ["polite", "stubborn"] {
        site.pod(name, "ready", is_ready).await;
        site.api::<Pod>().delete(name, &DeleteParams::default()).await.unwrap();
    }
    for name in ["polite", "stubborn"] {
        site.pod(name, "gone", Value::is_null).await;
    }
    assert_eq!((site.log("polite", "main"), site.log("stubborn", "main")), ("up\nbye\n".into(), "up\n".into()));
}

async fn an_unready_pod_does_not_serve(fixture: &Fixture) {
    let site = fixture.site("readiness").await;
    site.create::<Service>(json!({"metadata": {"name": "demo"}, "spec": {
        "selector": {"app": "demo"}, "ports": [{"port": 8080}]}}))
        .await;
    let probe = json!({"readinessProbe": {"exec": {"command": ["/bin/sh", "-c", "test -e ready"]},
        "periodSeconds": 1, "failureThreshold": 1}});
    let pod = site.shell("demo", "exec sleep 1000", json!({}), probe).await;
    let labels = json!({"metadata": {"labels": {"app": "demo"}}});
    site.api::<Pod>().patch("demo", &PatchParams::default(), &Patch::Merge(labels)).await.unwrap();
    let unready = site.state("demo", "running").await;
    assert!(!is_ready(&unready));

    let directory = fixture.directory.join(format!("pods/readiness_demo_{}/main", pod.metadata.uid.unwrap()));
    std::fs::write(directory.join("ready"), "").unwrap();
    site.pod("demo", "ready", is_ready).await;
    site.known("demo", true).await;
    std::fs::remove_file(directory.join("ready")).unwrap();
    site.pod("demo", "unready", |pod| !is_ready(pod)).await;
    site.known("demo", false).await;
}

async fn a_program_that_is_missing_is_a_start_error(fixture: &Fixture) {
    let site = fixture.site("missing").await;
    let command = json!({"command": ["/opt/none"]});
    site.shell("demo", "", json!({"restartPolicy": "Never"}), command).await;
    let pod = site.state("demo", "terminated/StartError").await;
    assert_eq!(pod["status"]["phase"], "Failed");
    let terminated = &pod["status"]["containerStatuses"][0]["state"]["terminated"];
    assert_eq!(terminated["exitCode"], 128);
    assert!(terminated["message"].as_str().unwrap().contains("none"), "{terminated}");
}
