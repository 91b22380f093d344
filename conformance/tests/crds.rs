//! What Percona's CRDs accept, and that ours accept the same.
//!
//! The traces `c-api-answers` and `m-ssa-raw` hold what a real API server with the real CRDs answered to requests of many
//! shapes. The same requests are made here to an API server with the real CRDs, and to one with ours; the answers are
//! compared word by word. Where the traces and CRDs are not, the test says so and passes, unless `RECORDINGS=required`.

mod support;

use std::path::{Path, PathBuf};

use http::{Request, header};
use http_body_util::BodyExt as _;
use kube::client::Body;
use serde_json::{Value, json};

use crate::support::Bench;

/// An answer of the API server, as far as it is compared.
#[derive(Debug, PartialEq, serde::Serialize)]
struct Answer {
    code: u16,
    reason: Value,
    message: Value,
    warnings: Vec<String>,
    backups: Value,
}

#[tokio::test(flavor = "multi_thread")]
async fn our_crds_answer_as_the_real_ones_did() {
    let Some(shared) = support::shared() else { return };
    let recorded = [requests(&shared, "c-api-answers", created), requests(&shared, "m-ssa-raw", applied)].concat();
    assert!(recorded.len() > 25, "the traces hold requests");

    let ours = Path::new(env!("CARGO_MANIFEST_DIR")).join("assets/crds");
    for (whose, crds) in [("the real CRDs", shared.join("crds")), ("our CRDs", ours)] {
        let bench = Bench::new().await;
        let plane = bench.control_plane(&[crds]).await;
        let client = kube::Client::try_from(plane.config()).unwrap();
        let namespace = json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": "apitest2" } });
        send(&client, post("/api/v1/namespaces", &namespace)).await;
        let mut wrong = Vec::new();
        for recorded in &recorded {
            let answer = answer(&client, &recorded.request).await;
            if answer != recorded.answer {
                let (expected, got) = (&recorded.answer, &answer);
                wrong.push(format!("{}:\n  recorded {expected:?}\n  got      {got:?}", recorded.name));
            }
        }
        plane.stop().await;
        bench.run.remove().unwrap();
        assert!(wrong.is_empty(), "{whose} answer otherwise:\n{}", wrong.join("\n"));
    }
}

/// A recorded request and its answer.
#[derive(Clone)]
struct Recorded {
    name: String,
    request: Asked,
    answer: std::sync::Arc<Answer>,
}

#[derive(Clone)]
struct Asked {
    apply: bool,
    query: String,
    object: Value,
}

fn requests(shared: &Path, trace: &str, read: fn(&Value) -> Option<Recorded>) -> Vec<Recorded> {
    let path = shared.join("traces").join(format!("{trace}.jsonl"));
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let lines = text.lines().map(|line| serde_json::from_str::<Value>(line).expect("a line of JSON"));
    // What kubectl said of the same requests is left out.
    lines
        .filter(|line| line.get("http").is_some())
        .map(|line| read(&line).unwrap_or_else(|| panic!("{line}")))
        .collect()
}

fn created(line: &Value) -> Option<Recorded> {
    let case = line["case"].as_str()?;
    let validation = line["fieldValidation"].as_str()?;
    let name = line["status"]["details"]["name"].as_str().unwrap_or("api-any");
    let mut object = cluster(name);
    let spec = &mut object["spec"];
    let s3 = json!({ "bucket": "b", "endpoint": "e:9000", "region": "us-east-1" });
    let scheduled = |schedules: Value| json!({ "pgbackrest": { "image": "x", "repos": [{ "name": "repo1", "s3": s3, "schedules": schedules }] } });
    match case {
        "omitted" => drop(spec.as_object_mut()?.remove("backups")),
        "empty" => spec["backups"] = json!({}),
        "enabled-false" => {}
        "enabled-true-only" => spec["backups"] = json!({ "enabled": true }),
        "null" => spec["backups"] = Value::Null,
        "pgbackrest-empty" => spec["backups"] = json!({ "pgbackrest": {} }),
        "repos-empty" => spec["backups"] = json!({ "pgbackrest": { "repos": [] } }),
        "repos-null" => spec["backups"] = json!({ "pgbackrest": { "repos": null } }),
        "repos-one-no-image" => {
            spec["backups"] = json!({ "pgbackrest": { "repos": [{ "name": "repo1", "s3": s3 }] } });
        }
        "false-with-empty-repos" => spec["backups"] = json!({ "enabled": false, "pgbackrest": { "repos": [] } }),
        "incr" => spec["backups"] = scheduled(json!({ "full": "0 2 * * *", "incr": "0 * * * *" })),
        "incremental" => spec["backups"] = scheduled(json!({ "full": "0 2 * * *", "incremental": "0 * * * *" })),
        "no-instances" => drop(spec.as_object_mut()?.remove("instances")),
        "instances-empty" => spec["instances"] = json!([]),
        "no-pgversion" => drop(spec.as_object_mut()?.remove("postgresVersion")),
        "pgversion-18" => spec["postgresVersion"] = json!(18),
        "pgversion-19" => spec["postgresVersion"] = json!(19),
        "user-upper" => spec["users"][0]["name"] = json!("DittoFS"),
        "user-underscore" => spec["users"][0]["name"] = json!("ditto_fs"),
        "grant-pg14" => {
            spec["postgresVersion"] = json!(14);
            spec["users"][0]["grantPublicSchemaAccess"] = json!(true);
        }
        "no-proxy" => drop(spec.as_object_mut()?.remove("proxy")),
        "proxy-empty" => spec["proxy"] = json!({}),
        "no-image" => drop(spec.as_object_mut()?.remove("image")),
        "long-name" => object["metadata"]["name"] = json!("n".repeat(60)),
        _ => return None,
    }
    let query = if validation == "default" { String::new() } else { format!("&fieldValidation={validation}") };
    let code = line["http"].as_str()?.split_whitespace().nth(1)?.parse().ok()?;
    let warnings = line["warnings"].as_array()?.iter().filter_map(|text| text.as_str()?.strip_prefix("warning: "));
    let answer = Answer {
        code,
        reason: line["status"]["reason"].clone(),
        message: line["status"]["message"].clone(),
        warnings: warnings.map(str::to_owned).collect(),
        backups: line["accepted_backups"].clone(),
    };
    Some(Recorded {
        name: format!("{case} ({validation})"),
        request: Asked { apply: false, query, object },
        answer: answer.into(),
    })
}

fn applied(line: &Value) -> Option<Recorded> {
    let case = line["case"].as_str()?;
    let mut object = cluster("demo-postgres");
    let spec = &mut object["spec"];
    match case {
        "SSA schedules.incr" => {
            let s3 = json!({ "bucket": "b", "endpoint": "e:9000", "region": "us-east-1" });
            let repo = json!({ "name": "repo1", "s3": s3, "schedules": { "full": "0 2 * * *", "incr": "0 * * * *" } });
            spec["backups"] = json!({ "pgbackrest": { "image": "x", "repos": [repo] } });
        }
        "SSA backups omitted" => drop(spec.as_object_mut()?.remove("backups")),
        "SSA backups {}" => spec["backups"] = json!({}),
        "SSA backups enabled:false" => {}
        "SSA unknown top-level field" => spec["bogus"] = json!(1),
        _ => return None,
    }
    let answer = Answer {
        code: line["http"].as_u64()?.try_into().ok()?,
        reason: line["reason"].clone(),
        message: line["message"].clone(),
        warnings: line["warning"].as_str().map(str::to_owned).into_iter().collect(),
        backups: line["backups"].clone(),
    };
    let query = line["query"].as_str()?.to_owned();
    Some(Recorded {
        name: format!("{case}{query}"),
        request: Asked { apply: true, query, object },
        answer: answer.into(),
    })
}

fn cluster(name: &str) -> Value {
    json!({
        "apiVersion": "pgv2.percona.com/v2", "kind": "PerconaPGCluster",
        "metadata": { "namespace": "apitest2", "name": name },
        "spec": {
            "crVersion": "2.8.2", "postgresVersion": 17, "imagePullPolicy": "IfNotPresent", "image": "x", "port": 5432,
            "users": [{ "name": "dittofs", "databases": ["dittofs"] }],
            "instances": [{ "name": "instance1", "dataVolumeClaimSpec": {
                "accessModes": ["ReadWriteOnce"], "resources": { "requests": { "storage": "1Gi" } } } }],
            "proxy": { "pgBouncer": { "replicas": 1, "image": "x" } },
            "backups": { "enabled": false },
            "extensions": { "builtin": { "pg_stat_monitor": false, "pg_audit": false } },
        },
    })
}

fn post(path: &str, object: &Value) -> Request<Body> {
    let body = Body::from(object.to_string().into_bytes());
    Request::post(path).header(header::CONTENT_TYPE, "application/json").body(body).unwrap()
}

async fn send(client: &kube::Client, request: Request<Body>) -> (u16, Vec<String>, Value) {
    let response = client.send(request).await.unwrap();
    let code = response.status().as_u16();
    let warnings = response.headers().get_all(header::WARNING).iter().filter_map(|value| value.to_str().ok());
    let warnings = warnings.map(str::to_owned).collect();
    let body = response.into_body().collect().await.unwrap().to_bytes();
    (code, warnings, serde_json::from_slice(&body).unwrap())
}

async fn answer(client: &kube::Client, asked: &Asked) -> std::sync::Arc<Answer> {
    let path = "/apis/pgv2.percona.com/v2/namespaces/apitest2/perconapgclusters";
    let request = if asked.apply {
        let path = format!("{path}/demo-postgres?dryRun=All&fieldManager=lab&force=true{}", asked.query);
        let body = Body::from(asked.object.to_string().into_bytes());
        Request::patch(path).header(header::CONTENT_TYPE, "application/apply-patch+yaml").body(body).unwrap()
    } else {
        post(&format!("{path}?dryRun=All{}", asked.query), &asked.object)
    };
    let (code, warnings, body) = send(client, request).await;
    let refused = body["kind"] == "Status";
    let when = |condition: bool, value: &Value| if condition { value.clone() } else { Value::Null };
    Answer {
        code,
        reason: when(refused, &body["reason"]),
        message: when(refused, &body["message"]),
        warnings,
        backups: when(!refused, &body["spec"]["backups"]),
    }
    .into()
}

/// The real CRDs say more than ours; what both are asked to hold must come out the same.
#[test]
fn our_crds_are_valid_yaml_with_one_version_each() {
    let directory = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("assets/crds");
    for entry in std::fs::read_dir(directory).unwrap() {
        let text = std::fs::read_to_string(entry.unwrap().path()).unwrap();
        let crd: Value = serde_yaml::from_str(&text).unwrap();
        assert_eq!(crd["spec"]["versions"].as_array().map(Vec::len), Some(1), "{}", crd["metadata"]["name"]);
    }
}
