//! What happens to the user Secret.

use std::time::Duration;

use conformance::percona::Kind;
use conformance::percona::secret::{Data, belongs};
use conformance::postgres::Target;
use futures::FutureExt as _;
use serde_json::{Value, json};

use super::{Case, IDS, Run, run, silent};
use crate::compare::Check::{Last, Mark, NotBefore, Order, Quiet, Values};
use crate::compare::{Allowed, added, mark, probe, secret};
use crate::driver::{CLUSTER, Driver, SECRET};

/// How long a driver watches that nothing happens.
const A_WHILE: Duration = Duration::from_millis(1500);
/// A password that a person has chosen; with characters that Percona never draws.
const OWN: &str = "my%own&pass+/:@word";

/// What the driver writes down about the Secret after the operator's answer.
const MARKS: &[&str] =
    &["password_changed_vs_old", "verifier_changed", "verifier_matches_password", "uri_has_new_password"];
/// What may differ in an edited Secret.
const EDITED: &[Allowed] =
    &[IDS[0], IDS[1], ("Secret.pguser.password.*", "what a person chose, also before the recording, is another one")];

/// An edit of the Secret: values in plain text, `None` removes a key.
type Edit = &'static [(&'static str, Option<&'static str>)];

pub fn cases() -> Vec<Case> {
    let mut cases = vec![
        Case {
            name: "f",
            trace: "f-secret-deleted",
            run: run!(deleted),
            checks: vec![
                silent(),
                Mark { name: "summary", fields: &["password_same", "old_ok_now", "new_ok_now"] },
                NotBefore(added("Secret", SECRET), mark("touched CR: annotation without pgv2 prefix")),
                Order(vec![
                    mark("Secret deleted"),
                    mark("touched CR: annotation without pgv2 prefix"),
                    added("Secret", SECRET),
                    probe("NEW password", true),
                ]),
                Last { kind: "Secret", field: "pguser", allowed: IDS },
                Last { kind: "Secret", field: "labels", allowed: &[] },
            ],
        },
        Case {
            name: "n10",
            trace: "n10-secret-precreated-and-labels",
            run: run!(adopted),
            checks: vec![
                Mark { name: "adopted", fields: &["password_kept", "verifier_matches", "labels", "owners"] },
                Mark { name: "12 s later", fields: &["labels"] },
                Mark { name: "end", fields: &["labels"] },
                NotBefore(
                    secret("complete again", |secret| secret["keys"].as_array().is_some_and(|keys| keys.len() == 13)),
                    mark("CR created"),
                ),
                Order(vec![
                    mark("password removed on the unlabelled Secret"),
                    mark("CR annotated"),
                    secret("complete", |secret| secret["verifier"]["matches_password"] == true),
                ]),
            ],
        },
    ];
    // (name, trace, edits before the recording, the edit, new password works?)
    let edits: [(&str, &str, &[Edit], Edit, bool); 8] = [
        ("d1", "d1-password-key-removed", &[], &[("password", None)], true),
        ("d2", "d2-password-set-empty", &[], &[("password", Some(""))], true),
        ("d3", "d3-password-and-verifier-removed", &[], &[("password", None), ("verifier", None)], true),
        ("d4", "d4-verifier-only-removed", &[], &[("verifier", None)], true),
        ("e1", "e1-own-password-verifier-left", &[], &[("password", Some(OWN))], false),
        ("e2", "e2-clear-verifier-after-e1", &[&[("password", Some(OWN))]], &[("verifier", None)], true),
        ("e3", "e3-own-password-verifier-cleared", &[], &[("password", Some(OWN)), ("verifier", None)], true),
        ("e4", "e4-uri-edited", &[], &[("uri", Some("postgresql://x:y@z/q")), ("extra", Some("kept"))], true),
    ];
    for (name, trace, before, edit, works) in edits {
        let run: Run = Box::new(move |driver| rotation(driver, before, edit, works).boxed());
        let mut checks = vec![
            silent(),
            Quiet("PerconaPGCluster"),
            Mark { name: "secret now", fields: MARKS },
            Mark { name: "summary", fields: &["old_ok_now", "new_ok_now"] },
            Values { kind: "Secret", field: "pguser", pointer: "/keys", skip: &[] },
            Values { kind: "Secret", field: "pguser", pointer: "/verifier/matches_password", skip: &[] },
            Values {
                kind: "Secret",
                field: "pguser",
                pointer: "/uri",
                skip: &[("postgresql://x:*", "the edit of e4 itself, in which the recordings show the password")],
            },
            Last { kind: "Secret", field: "pguser", allowed: EDITED },
            Last { kind: "Secret", field: "labels", allowed: &[] },
        ];
        if works && name != "e2" {
            checks.push(Order(vec![
                mark("Secret patched"),
                secret("complete", |secret| secret["verifier"]["matches_password"] == true),
                probe("NEW password (current uri)", true),
            ]));
        }
        cases.push(Case { name, trace, run, checks });
    }
    cases
}

fn encode(edit: Edit) -> Value {
    let fields = edit.iter().map(|(key, value)| ((*key).to_owned(), json!(value)));
    // `stringData` cannot remove a key.
    let (set, removed): (Vec<_>, Vec<_>) = fields.partition(|(_, value)| !value.is_null());
    json!({ "stringData": serde_json::Map::from_iter(set), "data": serde_json::Map::from_iter(removed) })
}

/// Whether nothing is left for the operator to do.
fn settled(secret: &Data) -> bool {
    let value = |key: &str| secret.get(key).filter(|value| !value.is_empty());
    let uri = value("uri").and_then(|uri| String::from_utf8_lossy(uri).parse::<Target>().ok());
    value("verifier").is_some()
        && value("password").is_some_and(|password| {
            uri.and_then(|uri| uri.password).is_some_and(|inside| inside.as_bytes() == password.as_slice())
        })
}

fn matches(secret: &Data) -> bool {
    belongs(&String::from_utf8_lossy(&secret["verifier"]), &secret["password"])
}

async fn rotation(driver: &mut Driver, before: &[Edit], edit: Edit, works: bool) -> anyhow::Result<()> {
    driver.ready_cluster().await?;
    for edit in before {
        driver.patch(Kind::SECRET, SECRET, encode(edit)).await?;
        driver.wait_secret("settled", |secret| settled(secret) && secret["password"] == OWN.as_bytes()).await?;
    }
    let (old, uri) = (driver.secret(), driver.secret_text("uri"));
    driver.record();
    driver.probe("OLD password (old uri)", Some(uri.clone()));
    driver.mark("Secret patched", json!({}));
    driver.patch(Kind::SECRET, SECRET, encode(edit)).await?;
    // The patch itself must have been seen: what is waited for was true before it.
    driver.wait_secret("the patch", |secret| *secret != old).await?;
    driver.wait_secret("operator rewrote the Secret (rv beyond the patch)", settled).await?;
    driver.probe("NEW password (current uri)", None);
    let new = driver.secret();
    driver.mark(
        "secret now",
        json!({
            "password_changed_vs_old": new["password"] != old["password"],
            "verifier_changed": new["verifier"] != old["verifier"],
            "verifier_matches_password": matches(&new),
            "uri_has_new_password": settled(&new),
        }),
    );
    let current = driver.secret_text("uri");
    if works {
        driver.wait_probe("NEW password (current uri)", true).await?;
    } else {
        driver.nothing_for(A_WHILE).await;
    }
    let (old_works, new_works) = (driver.logs_in(&uri).await, driver.logs_in(&current).await);
    driver.mark("summary", json!({ "old_ok_now": old_works, "new_ok_now": new_works }));
    Ok(())
}

async fn deleted(driver: &mut Driver) -> anyhow::Result<()> {
    driver.ready_cluster().await?;
    let (old, uri) = (driver.secret(), driver.secret_text("uri"));
    driver.record();
    driver.delete(Kind::SECRET, SECRET).await?;
    driver.mark("Secret deleted", json!({}));
    driver.wait_gone("DELETED seen", "Secret", SECRET).await?;
    driver.nothing_for(A_WHILE).await;
    anyhow::ensure!(driver.logs_in(&uri).await, "the old password is refused although nothing has changed");
    driver.mark("touched CR: annotation without pgv2 prefix", json!({}));
    driver.patch(Kind::CLUSTER, CLUSTER, json!({ "metadata": { "annotations": { "lab/touch": "1" } } })).await?;
    driver.wait("Secret back after CR annotation lab/touch", "Secret", SECRET, |secret| secret.is_some()).await?;
    driver.probe("NEW password", None);
    let current = driver.secret_text("uri");
    driver.wait_probe("NEW password", true).await?;
    let (old_works, new_works) = (driver.logs_in(&uri).await, driver.logs_in(&current).await);
    let same = driver.secret().get("password") == old.get("password");
    driver.mark("summary", json!({ "password_same": same, "old_ok_now": old_works, "new_ok_now": new_works }));
    Ok(())
}

async fn adopted(driver: &mut Driver) -> anyhow::Result<()> {
    const PASSWORD: &str = "chosen-before-the-cluster";
    driver
        .create(json!({ "apiVersion": "v1", "kind": "Secret", "type": "Opaque",
            "metadata": { "name": SECRET }, "stringData": { "password": PASSWORD } }))
        .await?;
    driver.mark("CR created", json!({}));
    driver.create(driver.cluster()).await?;
    driver.wait_secret("Secret completed by the operator", settled).await?;
    let labels = async |driver: &Driver| -> anyhow::Result<Value> {
        let secret = driver.api(Kind::SECRET).get(SECRET).await?;
        Ok(json!(secret.metadata.labels))
    };
    let secret = driver.secret();
    driver.mark(
        "adopted",
        json!({
            "password_kept": secret["password"] == PASSWORD.as_bytes(), "verifier_matches": matches(&secret),
            "labels": labels(driver).await?, "owners": [],
        }),
    );
    let owners = driver.api(Kind::SECRET).get(SECRET).await?.metadata.owner_references.unwrap_or_default();
    anyhow::ensure!(owners.is_empty(), "the Secret has an owner");
    driver.wait_state("ready", "ready").await?;
    driver.settle().await?;
    anyhow::ensure!(driver.logs_in(&driver.secret_text("uri")).await, "the chosen password does not work");

    driver.patch(Kind::SECRET, SECRET, json!({ "metadata": { "labels": null } })).await?;
    driver.nothing_for(A_WHILE).await;
    driver.mark("12 s later", json!({ "labels": labels(driver).await? }));
    driver.patch(Kind::SECRET, SECRET, json!({ "data": { "password": null } })).await?;
    driver.mark("password removed on the unlabelled Secret", json!({}));
    driver.nothing_for(A_WHILE).await;
    anyhow::ensure!(!driver.secret().contains_key("password"), "a Secret without labels is looked after");
    driver.mark("CR annotated", json!({}));
    driver.patch(Kind::CLUSTER, CLUSTER, json!({ "metadata": { "annotations": { "lab/touch": "1" } } })).await?;
    driver.wait_secret("password regenerated after CR annotation", settled).await?;
    driver.mark("end", json!({ "labels": labels(driver).await? }));
    Ok(())
}
