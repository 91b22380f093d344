//! The named deadlines. Each bounds one thing, so that a scenario says *what* it waits for and never *how long*.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::de::Visitor;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::duration;
use crate::environment::FAULT_WITHIN;

/// The names. A default bounds the embedded environment on two busy cores; slower ones scale all of them at once
/// (`--timeout-multiplier`), and a scenario may override one under `timeouts`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum TimeoutName {
    /// One write to the API server (`apply`, `create`, `patch`, the request of `delete`, `admission`).
    Apply,
    /// From now until the objects are as `assert`, `error` or `wait` says, when nothing slower is named.
    Assert,
    /// From a change of an object that the operator watches until the status follows: what a watch takes, and no poll.
    Reaction,
    /// From the request to delete an object until it is gone.
    Deletion,
    /// From the creation of a `DittoServer` with Percona until its database is ready and its Secret is complete.
    DatabaseReady,
    /// From a change until all pods run by the new template and are ready.
    Rollout,
    /// From now until the operator's own deadline for progress is over: it was started with a short one.
    ProgressDeadline,
    /// From now until a first backup has completed: stanza, full backup, WAL.
    Backup,
    /// From now until a query answers as `sql` says. One attempt within it has a shorter limit of its own.
    Sql,
    /// From now until a Service answers as `http` says.
    Http,
    /// From now until the bucket holds what `s3` says.
    S3,
    /// One `script`, from start to exit.
    Script,
    /// A fault comes into force, or is cleared.
    Fault,
    /// One more PostgreSQL starts (`database`).
    Database,
}

impl TimeoutName {
    /// Every name, in the order of the documentation.
    pub const ALL: [Self; 14] = [
        Self::Apply,
        Self::Assert,
        Self::Reaction,
        Self::Deletion,
        Self::DatabaseReady,
        Self::Rollout,
        Self::ProgressDeadline,
        Self::Backup,
        Self::Sql,
        Self::Http,
        Self::S3,
        Self::Script,
        Self::Fault,
        Self::Database,
    ];

    /// Their words in YAML, in the same order.
    pub const WORDS: [&'static str; 14] = [
        "apply",
        "assert",
        "reaction",
        "deletion",
        "databaseReady",
        "rollout",
        "progressDeadline",
        "backup",
        "sql",
        "http",
        "s3",
        "script",
        "fault",
        "database",
    ];

    /// The word in YAML.
    pub fn as_str(self) -> &'static str {
        Self::WORDS[self as usize]
    }

    /// The limit when nobody says otherwise.
    pub fn default_limit(self) -> Duration {
        Duration::from_secs(match self {
            Self::Reaction => 1,
            Self::Apply => 10,
            Self::Assert | Self::Sql | Self::Http | Self::S3 | Self::Script => 20,
            Self::Deletion | Self::ProgressDeadline | Self::Database => 30,
            Self::DatabaseReady | Self::Rollout => 60,
            Self::Backup => 120,
            // An operator that does not get ready again in its own time is to fail, and not the environment.
            Self::Fault => FAULT_WITHIN.as_secs(),
        })
    }
}

/// The limit of one operation: a name, or a duration where no name fits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Timeout {
    /// One of the names.
    Named(TimeoutName),
    /// A duration, written down.
    Exact(Duration),
}

impl<'de> Deserialize<'de> for Timeout {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // An error that is made inside of a visitor keeps the place of the word.
        deserializer.deserialize_str(TimeoutVisitor)
    }
}

struct TimeoutVisitor;

impl Visitor<'_> for TimeoutVisitor {
    type Value = Timeout;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the name of a timeout or a duration")
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Timeout, E> {
        if text.starts_with(|c: char| c.is_ascii_digit()) {
            return limit(text).map(Timeout::Exact);
        }
        let name = TimeoutName::ALL.into_iter().find(|name| name.as_str() == text);
        name.map(Timeout::Named).ok_or_else(|| E::unknown_variant(text, &TimeoutName::WORDS))
    }
}

fn limit<E: serde::de::Error>(text: &str) -> Result<Duration, E> {
    duration::parse(text).map_err(|error| E::custom(format!("`{text}` {error}")))
}

impl Serialize for Timeout {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Named(name) => serializer.serialize_str(name.as_str()),
            Self::Exact(limit) => serializer.serialize_str(&duration::format(*limit)),
        }
    }
}

impl JsonSchema for Timeout {
    fn schema_name() -> Cow<'static, str> {
        "Timeout".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let name = generator.subschema_for::<TimeoutName>();
        schemars::json_schema!({
            "description": "The name of a timeout, or a duration such as 30s where no name fits.",
            "anyOf": [name, { "type": "string", "pattern": DURATION_PATTERN }],
        })
    }
}

const DURATION_PATTERN: &str = "^([0-9]+(ms|s|m|h))+$";

/// A duration in a scenario file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limit(pub Duration);

impl<'de> Deserialize<'de> for Limit {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        limit(&String::deserialize(deserializer)?).map(Self)
    }
}

impl Serialize for Limit {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&duration::format(self.0))
    }
}

impl JsonSchema for Limit {
    fn schema_name() -> Cow<'static, str> {
        "Duration".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        schemars::json_schema!({
            "description": "A duration such as 500ms, 30s or 2m30s.",
            "type": "string",
            "pattern": DURATION_PATTERN,
        })
    }
}

/// The limits of one scenario: the defaults, its own overrides, scaled.
#[derive(Clone, Debug, PartialEq)]
pub struct Timeouts {
    overrides: BTreeMap<TimeoutName, Limit>,
    multiplier: f64,
}

impl Timeouts {
    /// Limits with a scenario's `overrides`, all scaled by `multiplier` (the `--timeout-multiplier`; 1.0 changes nothing).
    pub fn new(overrides: BTreeMap<TimeoutName, Limit>, multiplier: f64) -> Self {
        Self { overrides, multiplier }
    }

    /// The limit of `timeout`. Durations that are written down are scaled too: a slow machine is slow for them as well.
    pub fn limit(&self, timeout: Timeout) -> Duration {
        let limit = match timeout {
            Timeout::Exact(limit) => limit,
            Timeout::Named(name) => self.overrides.get(&name).map_or_else(|| name.default_limit(), |limit| limit.0),
        };
        limit.mul_f64(self.multiplier)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_those_that_serde_reads() {
        for name in TimeoutName::ALL {
            assert_eq!(serde_json::to_value(name).unwrap(), name.as_str());
        }
    }

    #[test]
    fn an_override_replaces_the_default_and_everything_is_scaled() {
        let overrides = BTreeMap::from([(TimeoutName::Backup, Limit(Duration::from_secs(10)))]);
        let timeouts = Timeouts::new(overrides, 2.0);
        assert_eq!(timeouts.limit(Timeout::Named(TimeoutName::Backup)), Duration::from_secs(20));
        assert_eq!(timeouts.limit(Timeout::Named(TimeoutName::Apply)), Duration::from_secs(20));
        assert_eq!(timeouts.limit(Timeout::Exact(Duration::from_secs(3))), Duration::from_secs(6));
    }
}
