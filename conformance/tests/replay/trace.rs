//! A timeline, recorded or ours, made comparable.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::sync::LazyLock;

use regex::Regex;
use serde_json::{Map, Value};

/// One line.
#[derive(Clone, Debug, PartialEq)]
pub enum Line {
    /// What a watch saw: the fields of the view, all of them or the changed ones.
    Object { t: u64, rv: u64, kind: String, name: String, event: String, fields: Map<String, Value> },
    /// An Event of the API: on what, type, reason, message.
    Event { t: u64, rv: u64, on: String, fields: Map<String, Value> },
    /// What the driver did or found.
    Mark { t: u64, name: String, fields: Map<String, Value> },
    /// A change of the outcome of a login that is tried again and again.
    Probe { t: u64, label: String, ok: bool, output: String },
}

/// A whole timeline.
#[derive(Clone, Debug, Default)]
pub struct Trace(pub Vec<Line>);

/// What differs between any two runs, and what stands in its place.
static ALWAYS: LazyLock<Vec<(Regex, &str)>> = LazyLock::new(|| {
    [
        // Times, and the hashes that are computed from templates and SQL texts.
        (r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(\.\d+)?(Z|\+0000)?", "<time>"),
        (r#""(databaseRevision|usersRevision|exporterConfiguration|postgresRevision|repoOptionsHash|systemIdentifier|controller-revision-hash|pod-template-hash|postgres-operator.crunchydata.com/pgbackrest-hash)":"[^"]*""#, r#""$1":"<hash>""#),
        (r#""ip(s?)":\[[^\]]*\]"#, r#""ip$1":["<ip>"]"#),
        (r#""imageID":"[^"]+""#, r#""imageID":"<image>""#),
        // Names with a random part.
        (r"(demo-postgres-instance1)-[a-z0-9]{4}\b", "$1-<id>"),
        (r"(demo-postgres-pgbouncer)-[a-z0-9]{5,10}-[a-z0-9]{5}\b", "$1-<id>"),
        (r"(demo-postgres-backup)-[a-z0-9]{4}-[a-z0-9]{5}\b", "$1-<id>-<id>"),
        (r"(demo-postgres-backup)-[a-z0-9]{4}\b", "$1-<id>"),
        (r"\b[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\b", "<uid>"),
        // Where the bucket is.
        (r#""endpoint":"[^"]*""#, r#""endpoint":"<endpoint>""#),
        // pgBackRest's name of a full backup.
        (r"\b\d{8}-\d{6}F\b", "<backup>"),
    ]
    .map(|(pattern, replacement)| (Regex::new(pattern).unwrap(), replacement))
    .into()
});

impl Trace {
    /// Reads a recording.
    pub fn read(path: &Path) -> Self {
        let text = std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        Self::parse(&text)
    }

    /// Reads lines of JSON in the recordings' format.
    pub fn parse(text: &str) -> Self {
        let namespace = text
            .lines()
            .find_map(|line| serde_json::from_str::<Value>(line).ok()?["ns"].as_str().map(str::to_owned))
            .unwrap_or_default();
        let local = [
            (Regex::new(&format!(r"\.{namespace}\.svc")).unwrap(), ".<ns>.svc"),
            (Regex::new(&format!(r"/{namespace}/demo-postgres")).unwrap(), "/<ns>/demo-postgres"),
        ];
        let lines = text.lines().filter(|line| !line.is_empty()).map(|line| {
            let value: Value = serde_json::from_str(line).expect("a line of JSON");
            let text = ALWAYS.iter().chain(&local).fold(value.to_string(), |text, (pattern, replacement)| {
                pattern.replace_all(&text, *replacement).into_owned()
            });
            (serde_json::from_str(&text).expect("still JSON"), value["rv"].clone())
        });
        Self(lines.filter_map(|(line, rv)| Line::of(line, &rv)).collect())
    }

    /// The first views of all objects of a kind (those that were there, and those that appeared), by name.
    pub fn first(&self, kind: &str) -> BTreeMap<&str, &Map<String, Value>> {
        let mut found = BTreeMap::new();
        for line in &self.0 {
            if let Line::Object { kind: this, name, event, fields, .. } = line
                && this == kind
                && (event == "ADDED" || event == "EXISTING")
            {
                found.entry(name.as_str()).or_insert(fields);
            }
        }
        found
    }

    /// The last views of the objects of a kind that are still there at the end, by name.
    pub fn last(&self, kind: &str) -> BTreeMap<String, Map<String, Value>> {
        let mut found: BTreeMap<String, Map<String, Value>> = BTreeMap::new();
        for line in &self.0 {
            let Line::Object { kind: this, name, event, fields, .. } = line else { continue };
            if this != kind {
                continue;
            }
            if event == "DELETED" {
                found.remove(name);
            } else {
                found.entry(name.clone()).or_default().extend(fields.clone());
            }
        }
        found
    }

    /// The values that a field of an object of this kind has had, without repetitions.
    pub fn values(&self, kind: &str, field: &str, pointer: &str) -> Vec<String> {
        let mut values: Vec<String> = Vec::new();
        for line in &self.0 {
            let Line::Object { kind: this, fields, .. } = line else { continue };
            let Some(value) = fields.get(field).filter(|_| this == kind) else { continue };
            let value = match value.pointer(pointer) {
                None | Some(Value::Null) => "absent".to_owned(),
                Some(Value::String(text)) => text.clone(),
                Some(other) => other.to_string(),
            };
            if values.last() != Some(&value) {
                values.push(value);
            }
        }
        values
    }
}

impl Line {
    fn of(line: Value, rv: &Value) -> Option<Self> {
        let Value::Object(mut fields) = line else { return None };
        let mut text = |key: &str| match fields.remove(key) {
            Some(Value::String(text)) => Some(text),
            _ => None,
        };
        let (mark, probe, kind, event, on, name) =
            (text("mark"), text("probe"), text("kind"), text("ev"), text("on"), text("name"));
        let output = text("output").unwrap_or_default();
        let t = fields.remove("t_ms").and_then(|t| t.as_u64()).unwrap_or_default();
        let rv = rv.as_str().and_then(|rv| rv.parse().ok()).unwrap_or_default();
        fields.remove("rv");
        if let Some(name) = mark {
            return Some(Self::Mark { t, name, fields });
        }
        if let Some(label) = probe {
            return Some(Self::Probe { t, label, ok: fields.get("ok") == Some(&Value::Bool(true)), output });
        }
        if let Some(on) = on {
            return Some(Self::Event { t, rv, on, fields });
        }
        let (kind, name, event) = (kind?, name?, event?);
        if let Some(Value::Object(changed)) = fields.remove("changed") {
            fields = changed;
        }
        for field in fields.values_mut() {
            settle(field);
        }
        Some(Self::Object { t, rv, kind, name, event, fields })
    }

    /// When it was seen.
    pub fn time(&self) -> u64 {
        match self {
            Self::Object { t, .. } | Self::Event { t, .. } | Self::Mark { t, .. } | Self::Probe { t, .. } => *t,
        }
    }

    /// The version of the API server's store that it belongs to; 0 when it belongs to none.
    pub fn version(&self) -> u64 {
        match self {
            Self::Object { rv, .. } | Self::Event { rv, .. } => *rv,
            _ => 0,
        }
    }
}

/// Takes out of a view what only that one password or recording has.
fn settle(view: &mut Value) {
    let Some(view) = view.as_object_mut() else { return };
    if !view.contains_key("pgbouncer-uri") {
        return;
    }
    view.retain(|key, _| !key.ends_with("_pw"));
    if let Some(password) = view.get_mut("password").and_then(Value::as_object_mut) {
        password.remove("special_chars");
    }
    if view.get("password").is_none_or(|password| password["length"] == 0) {
        // Without a password, the first recordings called every password in a URI the current one.
        for value in view.values_mut().filter_map(|value| value.as_str().map(str::to_owned).map(|text| (value, text))) {
            *value.0 = Value::String(value.1.replace("<PW>", "<OTHER-PW>"));
        }
    }
}

impl fmt::Display for Trace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|line| writeln!(f, "{line:?}"))
    }
}
