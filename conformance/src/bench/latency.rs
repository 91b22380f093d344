//! From the API server's write to the verdict of the assertion that waited for it.
//!
//! The audit log says when a write was received and answered, and which version came of it; the engine notes which
//! version ended a wait, and when. Both clocks are this machine's.

use std::collections::BTreeMap;
use std::io::{self, BufRead as _};
use std::path::Path;

use jiff::Timestamp;
use serde::Deserialize;

use super::measurement::Spread;
use crate::engine::Sighting;

/// The writes of an audit log, by the version (the `resourceVersion`, which no two writes share) that came of them.
#[derive(Clone, Debug, Default)]
pub struct Writes(BTreeMap<String, Write>);

#[derive(Clone, Copy, Debug)]
struct Write {
    received: Timestamp,
    answered: Timestamp,
}

/// What is read of an `audit.k8s.io/v1` event.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Event {
    request_received_timestamp: Timestamp,
    stage_timestamp: Timestamp,
    response_object: Option<Object>,
}

#[derive(Deserialize)]
struct Object {
    metadata: Option<Metadata>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Metadata {
    resource_version: Option<String>,
}

impl Writes {
    /// Reads an audit log. A write that changed nothing has the version of an earlier one: the earliest counts.
    ///
    /// # Errors
    /// It cannot be read, or a line of it is no audit event. A last line without its end is still being written.
    pub fn read(log: &Path) -> io::Result<Self> {
        let mut writes = Self::default();
        let mut reader = io::BufReader::new(std::fs::File::open(log)?);
        let mut line = String::new();
        while reader.read_line(&mut line)? > 0 && line.ends_with('\n') {
            writes.add(&line)?;
            line.clear();
        }
        Ok(writes)
    }

    fn add(&mut self, line: &str) -> io::Result<()> {
        let event: Event = serde_json::from_str(line)?;
        let version = event.response_object.and_then(|object| object.metadata?.resource_version);
        if let Some(version) = version {
            let write = Write { received: event.request_received_timestamp, answered: event.stage_timestamp };
            self.0
                .entry(version)
                .and_modify(|earlier| {
                    if write.received < earlier.received {
                        *earlier = write;
                    }
                })
                .or_insert(write);
        }
        Ok(())
    }

    /// How long it took from each write to the verdict that it led to.
    ///
    /// Left out: what was there before the wait began (no assertion waited for it), and versions that no write of the
    /// log has made (kinds whose answers are not logged).
    pub fn latencies<'a>(&self, sightings: impl IntoIterator<Item = &'a Sighting>) -> Latencies {
        let mut latencies = Latencies::default();
        for sighting in sightings {
            let Some(write) = self.0.get(&sighting.resource_version) else { continue };
            if sighting.since > write.received {
                continue;
            }
            latencies.received.push(milliseconds(write.received, sighting.at));
            latencies.answered.push(milliseconds(write.answered, sighting.at));
        }
        latencies
    }
}

/// Latencies in milliseconds.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Latencies {
    received: Vec<f64>,
    answered: Vec<f64>,
}

impl Latencies {
    /// Takes in those of another round.
    pub fn extend(&mut self, other: Self) {
        self.received.extend(other.received);
        self.answered.extend(other.answered);
    }

    /// From the moment in which the API server received the write: admission and etcd are in it.
    pub fn from_received(&self) -> Option<Spread> {
        Spread::of(&self.received)
    }

    /// From the API server's answer to the writer. The watch is often told before: then it is negative.
    pub fn from_answered(&self) -> Option<Spread> {
        Spread::of(&self.answered)
    }
}

fn milliseconds(from: Timestamp, to: Timestamp) -> f64 {
    to.duration_since(from).as_secs_f64() * 1000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(milliseconds: i64) -> Timestamp {
        Timestamp::from_millisecond(milliseconds).unwrap()
    }

    fn sighting(version: &str, since: i64, seen: i64) -> Sighting {
        let (kind, resource_version) = ("Pod".to_owned(), version.to_owned());
        Sighting { resource_version, kind, since: at(since), at: at(seen) }
    }

    fn event(version: Option<&str>, received: i64, answered: i64) -> String {
        let response =
            version.map(|version| serde_json::json!({"kind": "Pod", "metadata": {"resourceVersion": version}}));
        serde_json::json!({
            "kind": "Event",
            "verb": "update",
            "requestReceivedTimestamp": at(received),
            "stageTimestamp": at(answered),
            "responseObject": response,
        })
        .to_string()
    }

    fn writes(events: &[String]) -> Writes {
        let log = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(log.path(), events.join("\n") + "\n" + &events[0][..20]).unwrap();
        Writes::read(log.path()).unwrap()
    }

    #[test]
    fn a_version_is_tied_to_the_write_that_made_it() {
        let writes = writes(&[event(Some("7"), 100, 104), event(Some("8"), 200, 203), event(None, 1, 2)]);
        let latencies = writes.latencies(&[sighting("7", 50, 106), sighting("8", 150, 202)]);
        assert_eq!(latencies, Latencies { received: vec![6.0, 2.0], answered: vec![2.0, -1.0] });
    }

    #[test]
    fn a_write_that_changed_nothing_does_not_count() {
        let writes = writes(&[event(Some("7"), 100, 104), event(Some("7"), 200, 203)]);
        assert_eq!(writes.latencies(&[sighting("7", 50, 106)]).received, [6.0]);
    }

    #[test]
    fn what_was_there_before_the_wait_is_no_latency() {
        let writes = writes(&[event(Some("7"), 100, 104)]);
        let latencies = writes.latencies(&[sighting("7", 101, 106), sighting("9", 0, 1)]);
        assert_eq!(latencies, Latencies::default());
        assert_eq!(latencies.from_received(), None);
    }

    #[test]
    fn another_file_is_no_audit_log() {
        let log = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(log.path(), "{}\n").unwrap();
        assert!(Writes::read(log.path()).is_err());
    }
}
