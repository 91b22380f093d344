//! The projected volume from which pgBackRest reads its options, and a kubelet's part in it: what has changed in a Secret or a
//! `ConfigMap` comes into the volume by itself, whether or not the operator runs. (A kubelet takes up to two minutes for
//! that; here it happens at once.)

use std::collections::BTreeMap;

use serde_json::Value;

use super::super::context::{Context, Kind};
use super::super::names::Key;
use super::config::{Config, Repo};
use super::inner::repository;
use super::storage::Storage;
use crate::hosts::Hosts;

/// What pgBackRest can call a repository; the API lets more through.
const NAMES: [&str; 4] = ["repo1", "repo2", "repo3", "repo4"];

/// What a volume can show: the field of a source, and the kind.
pub const KINDS: [(&str, Kind); 2] = [("secret", Kind::SECRET), ("configMap", Kind::CONFIG_MAP)];

/// What pgBackRest is to be told, from the spec of the `PostgresCluster` and what it refers to. `None` while something
/// of that is missing: a kubelet leaves the volume as it is then.
pub async fn config(context: &Context, key: &Key, spec: &Value) -> anyhow::Result<Option<Config>> {
    let pgbackrest = &spec["backups"]["pgbackrest"];
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let global = pgbackrest["global"].as_object().into_iter().flatten();
    let global = global.map(|(key, value)| (key.clone(), text(value)));
    let mut config = Config { global: global.collect(), ..Config::default() };
    for repo in pgbackrest["repos"].as_array().into_iter().flatten() {
        let (name, s3) = (text(&repo["name"]), &repo["s3"]);
        match Storage::of(repo) {
            _ if !NAMES.contains(&name.as_str()) => config.unusable.push(format!("{name:?} is no repository")),
            Storage::S3 => config.repos.push(Repo {
                name,
                bucket: text(&s3["bucket"]),
                here: here(&context.hosts, &text(&s3["endpoint"])),
                endpoint: text(&s3["endpoint"]),
                region: text(&s3["region"]),
            }),
            Storage::Volume => {
                let directory = context.volume(&key.namespace, &key.named(&name))?;
                config.volumes.insert(name, directory);
            }
            Storage::Unnamed => config.unusable.push(format!("{name} has no storage")),
            other @ (Storage::Gcs | Storage::Azure) => config.unusable.push(format!("{name} is on {}", other.name())),
        }
    }
    for (kind, name, source) in sources(spec) {
        let found = context.get(kind, &key.namespace, name).await?;
        let files = found.and_then(|object| project(&object.data, source, kind == Kind::SECRET));
        match files {
            Some(files) => config.files.extend(files),
            None if source["optional"] == true => {}
            None => return Ok(None),
        }
    }
    Ok(Some(config))
}

/// Brings the volume of a cluster up to date, if the object of that kind and name is in it.
pub async fn refresh(context: &Context, key: &Key, kind: Kind, name: &str) -> anyhow::Result<()> {
    let Ok(repository) = repository(context, key) else { return Ok(()) };
    let Some(inner) = context.get(Kind::INNER, &key.namespace, &key.name).await? else { return Ok(()) };
    let spec = &inner.data["spec"];
    if sources(spec).any(|(shown, source, _)| (shown, source) == (kind, name))
        && let Some(config) = config(context, key, spec).await?
    {
        repository.configure(&config)?;
    }
    Ok(())
}

/// The objects that the volume shows: kind, name, and how.
fn sources(spec: &Value) -> impl Iterator<Item = (Kind, &str, &Value)> {
    let listed = spec["backups"]["pgbackrest"]["configuration"].as_array().into_iter().flatten();
    listed.flat_map(|source| {
        let of = |(field, kind): (&str, Kind)| Some((kind, source[field]["name"].as_str()?, &source[field]));
        KINDS.into_iter().filter_map(of)
    })
}

/// Where this machine finds the host of an endpoint that is a name of the cluster only.
fn here(hosts: &Hosts, endpoint: &str) -> Option<String> {
    let (name, port) = endpoint.split_once(':').unwrap_or((endpoint, "443"));
    let address = hosts.get(name)?;
    // pgBackRest checks certificates against names only, never against addresses. It forgets the endpoint's port.
    let host = if address.is_loopback() { "localhost".to_owned() } else { address.to_string() };
    Some(format!("{host}:{port}"))
}

/// The files that a projected volume shows of a Secret's or `ConfigMap`'s data; `None` when one is missing that it must
/// show.
fn project(object: &Value, source: &Value, encoded: bool) -> Option<BTreeMap<String, Vec<u8>>> {
    use base64::Engine as _;
    let decode = |value: &Value, encoded: bool| {
        let text = value.as_str().unwrap_or_default();
        if encoded {
            base64::engine::general_purpose::STANDARD.decode(text).unwrap_or_default()
        } else {
            text.as_bytes().to_owned()
        }
    };
    // Only a `ConfigMap` has both.
    let fields = [("data", encoded), ("binaryData", true)];
    let shown: BTreeMap<&String, Vec<u8>> = fields
        .into_iter()
        .flat_map(|(field, encoded)| object[field].as_object().into_iter().flatten().map(move |each| (each, encoded)))
        .map(|((key, value), encoded)| (key, decode(value, encoded)))
        .collect();
    let Some(items) = source["items"].as_array() else {
        return Some(shown.into_iter().map(|(key, value)| (key.clone(), value)).collect());
    };
    let pick = |item: &Value| {
        let key = item["key"].as_str()?;
        let (_, content) = shown.iter().find(|(shown, _)| shown.as_str() == key)?;
        Some((item["path"].as_str()?.to_owned(), content.clone()))
    };
    let picked = items.iter().map(pick);
    if source["optional"] == true { Some(picked.flatten().collect()) } else { picked.collect() }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_volume_shows_all_keys_or_the_named_ones() {
        let secret = json!({ "data": { "s3.conf": "W2dsb2JhbF0=", "ca.crt": "Q0E=" } });
        let file = |name: &str, content: &str| (name.to_owned(), content.as_bytes().to_owned());
        let shown = |source: Value| project(&secret, &source, true);
        assert_eq!(shown(Value::Null), Some([file("s3.conf", "[global]"), file("ca.crt", "CA")].into()));
        let trust = json!({ "key": "ca.crt", "path": "trust.crt" });
        assert_eq!(shown(json!({ "items": [trust] })), Some([file("trust.crt", "CA")].into()));
        let both = json!([trust, { "key": "gone", "path": "gone" }]);
        assert_eq!(shown(json!({ "items": both })), None);
        assert_eq!(shown(json!({ "items": both, "optional": true })), Some([file("trust.crt", "CA")].into()));
    }

    #[test]
    fn a_volume_shows_both_sorts_of_data_of_a_config_map() {
        let map = json!({ "data": { "options.conf": "[global]" }, "binaryData": { "ca.crt": "Q0E=" } });
        let file = |name: &str, content: &str| (name.to_owned(), content.as_bytes().to_owned());
        let shown = |source: Value| project(&map, &source, false);
        assert_eq!(shown(Value::Null), Some([file("options.conf", "[global]"), file("ca.crt", "CA")].into()));
        let trust = json!({ "key": "ca.crt", "path": "s3/ca.crt" });
        assert_eq!(shown(json!({ "items": [trust] })), Some([file("s3/ca.crt", "CA")].into()));
        let both = json!([trust, { "key": "gone", "path": "gone" }]);
        assert_eq!(shown(json!({ "items": both })), None);
        assert_eq!(shown(json!({ "items": both, "optional": true })), Some([file("s3/ca.crt", "CA")].into()));
    }

    #[test]
    fn a_volume_shows_the_objects_that_the_spec_names() {
        let configuration = json!([{ "secret": { "name": "keys" } }, { "configMap": { "name": "options" } }]);
        let spec = json!({ "backups": { "pgbackrest": { "configuration": configuration } } });
        let shown: Vec<_> = sources(&spec).map(|(kind, name, _)| (kind, name)).collect();
        assert_eq!(shown, [(Kind::SECRET, "keys"), (Kind::CONFIG_MAP, "options")]);
        assert_eq!(sources(&json!({})).count(), 0);
    }
}
