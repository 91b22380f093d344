//! What the operator under test asks of the API server, as the audit log tells it.
//!
//! A watch shows what a write changed; only the audit log shows writes that changed nothing, and requests that were
//! refused. Each request is written there before it is answered, so that a reader who comes after an answer misses none;
//! what it changes is seen by watches still earlier, so that its line may come after its effect.

use std::collections::BTreeSet;
use std::fmt;

use jiff::Timestamp;
use serde::Deserialize;
use tokio::io::{AsyncReadExt as _, AsyncSeekExt as _};

use super::trouble::{Failure, Trouble};
use crate::environment::AuditLog;

/// The verbs that change something.
pub const WRITES: [&str; 5] = ["create", "update", "patch", "delete", "deletecollection"];

/// One answered request of the operator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// When it was received.
    pub received: Timestamp,
    /// What it may be called in a role: `get`, `list`, `watch`, `create`, …
    pub verb: String,
    /// The API group; empty for the core group.
    pub group: String,
    /// The resource with its subresource, such as `dittoservers/status`; a path where it is about no resource.
    pub resource: String,
    /// Its namespace; none when it is about all of them, or about none.
    pub namespace: Option<String>,
    /// The object's name; none for requests about many.
    pub name: Option<String>,
    /// HTTP status of the answer.
    pub code: u16,
    /// Whether the operator's roles do not allow it. An admission plugin that refuses (status 403, too) is not meant.
    pub forbidden: bool,
}

/// What is read of an `audit.k8s.io/v1` event.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Event {
    request_received_timestamp: Timestamp,
    verb: String,
    #[serde(rename = "requestURI")]
    request_uri: String,
    user: User,
    object_ref: Option<ObjectRef>,
    response_status: Option<Status>,
    #[serde(default)]
    annotations: std::collections::BTreeMap<String, String>,
}

#[derive(Deserialize)]
struct User {
    username: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ObjectRef {
    #[serde(default)]
    api_group: String,
    resource: Option<String>,
    subresource: Option<String>,
    namespace: Option<String>,
    name: Option<String>,
}

#[derive(Deserialize)]
struct Status {
    code: Option<u16>,
}

impl Request {
    /// The request that a line of the log tells of; none when it is somebody else's.
    fn parse(line: &str, user: &str) -> Option<Self> {
        // Most lines are not the operator's, and need not be understood.
        if !line.contains(user) {
            return None;
        }
        let event: Event = serde_json::from_str(line).ok()?;
        if event.user.username != user {
            return None;
        }
        let path = event.request_uri.split('?').next().unwrap_or_default().to_owned();
        let (group, resource, namespace, name) = match event.object_ref {
            Some(ObjectRef { api_group, resource: Some(resource), subresource, namespace, name }) => {
                let resource = subresource.map_or_else(|| resource.clone(), |part| format!("{resource}/{part}"));
                (api_group, resource, namespace, name)
            }
            _ => (String::new(), path, None, None),
        };
        Some(Self {
            received: event.request_received_timestamp,
            verb: event.verb,
            group,
            resource,
            namespace,
            name,
            code: event.response_status.and_then(|status| status.code).unwrap_or_default(),
            forbidden: event.annotations.get("authorization.k8s.io/decision").is_some_and(|said| said == "forbid"),
        })
    }
}

impl fmt::Display for Request {
    /// Such as `14:58:01.123 patch services demo (200)`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { verb, resource, code, .. } = self;
        write!(f, "{} {verb} {resource}", self.received.strftime("%H:%M:%S%.3f"))?;
        if let Some(name) = &self.name {
            write!(f, " {name}")?;
        }
        write!(f, " ({code})")
    }
}

/// A place in an audit log.
pub struct Tail {
    log: AuditLog,
    offset: u64,
    since: Timestamp,
}

impl Tail {
    /// The beginning.
    pub fn begin(log: AuditLog) -> Self {
        Self { log, offset: 0, since: Timestamp::MIN }
    }

    /// The present end: what is received from now on comes after it. The API server runs on this machine, by one clock.
    pub async fn end(log: AuditLog) -> Self {
        let since = Timestamp::now();
        let offset = tokio::fs::metadata(&log.path).await.map_or(0, |file| file.len());
        Self { log, offset, since }
    }

    /// The operator's requests since the last call.
    ///
    /// # Errors
    /// The log cannot be read: the environment is broken.
    pub async fn read(&mut self) -> Result<Vec<Request>, Trouble> {
        let failed = |error| Trouble::broken(format!("the audit log {}: {error}", self.log.path.display()));
        let mut file = tokio::fs::File::open(&self.log.path).await.map_err(failed)?;
        file.seek(std::io::SeekFrom::Start(self.offset)).await.map_err(failed)?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).await.map_err(failed)?;
        // A line without its end is still being written: its request is not answered yet.
        let complete = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
        self.offset += complete as u64;
        let text = String::from_utf8_lossy(&bytes[..complete]);
        let requests = text.lines().filter_map(|line| Request::parse(line, &self.log.operator));
        Ok(requests.filter(|request| request.received >= self.since).collect())
    }
}

/// How many requests the operator may make in a namespace until a guard is released.
pub struct Allowance {
    /// How the scenario calls the guard.
    pub name: String,
    /// The namespace.
    pub namespace: String,
    /// Which verbs count.
    pub verbs: BTreeSet<String>,
    /// Resources that do not count.
    pub except: BTreeSet<String>,
    /// How many may be.
    pub at_most: usize,
}

impl Allowance {
    /// Judges the requests that were made.
    pub fn judge(&self, requests: &[Request]) -> Result<(), Failure> {
        let counted: Vec<&Request> = requests
            .iter()
            .filter(|request| request.namespace.as_ref() == Some(&self.namespace))
            .filter(|request| self.verbs.contains(&request.verb) && !self.except.contains(&request.resource))
            .collect();
        if counted.len() <= self.at_most {
            return Ok(());
        }
        let Self { name, at_most, .. } = self;
        Err(Failure::new(format!(
            "guard {name} (requests) was violated: {} requests of the operator, at most {at_most} expected\n{}",
            counted.len(),
            listed(&counted),
        )))
    }
}

/// How many requests a failure lists.
const SHOWN: usize = 20;

/// The first of each kind of request, a line each: how often it was tried again says nothing more.
fn listed(requests: &[&Request]) -> String {
    let mut seen = BTreeSet::new();
    let first = requests.iter().filter(|it| seen.insert((&it.verb, &it.group, &it.resource, &it.name, it.code)));
    first.take(SHOWN).map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

/// What the operator's roles did not allow, of what it asked for in `namespace` or in no namespace.
pub fn forbidden(requests: &[Request], namespace: &str) -> Option<Failure> {
    let own = |request: &&Request| request.forbidden && request.namespace.as_deref().is_none_or(|it| it == namespace);
    let refused: Vec<&Request> = requests.iter().filter(own).collect();
    let failure = || Failure::new(format!("the operator asked for what its roles do not allow\n{}", listed(&refused)));
    (!refused.is_empty()).then(failure)
}

#[cfg(test)]
mod tests {
    use super::*;

    const USER: &str = "system:serviceaccount:system:operator";

    fn line(user: &str, verb: &str, resource: &str, namespace: &str, decision: &str) -> String {
        format!(
            r#"{{"requestReceivedTimestamp":"2026-01-02T03:04:05.678901Z","verb":"{verb}","requestURI":"/apis/x?y=z","#
        ) + &format!(
            r#""user":{{"username":"{user}"}},"objectRef":{{"resource":"{resource}","namespace":"{namespace}","name":"demo"}},"#
        ) + &format!(
            r#""responseStatus":{{"code":200}},"annotations":{{"authorization.k8s.io/decision":"{decision}"}}}}"#
        )
    }

    fn requests(lines: &[String]) -> Vec<Request> {
        lines.iter().filter_map(|line| Request::parse(line, USER)).collect()
    }

    fn allowance(at_most: usize) -> Allowance {
        Allowance {
            name: "quiet".to_owned(),
            namespace: "a".to_owned(),
            verbs: WRITES.map(str::to_owned).into(),
            except: ["leases".to_owned()].into(),
            at_most,
        }
    }

    #[test]
    fn only_counted_requests_of_the_operator_in_the_namespace_are_judged() {
        let made = requests(&[
            line(USER, "patch", "services", "a", "allow"),
            line(USER, "patch", "services", "b", "allow"),
            line(USER, "get", "secrets", "a", "allow"),
            line(USER, "update", "leases", "a", "allow"),
            line("somebody", "patch", "services", "a", "allow"),
        ]);
        assert_eq!(made.len(), 4);
        assert!(allowance(1).judge(&made).is_ok());
        let failure = allowance(0).judge(&made).unwrap_err();
        insta::assert_snapshot!(failure.message, @r"
        guard quiet (requests) was violated: 1 requests of the operator, at most 0 expected
        03:04:05.678 patch services demo (200)
        ");
    }

    #[test]
    fn what_the_roles_refuse_is_told() {
        let made = requests(&[
            line(USER, "patch", "services", "a", "forbid"),
            line(USER, "patch", "services", "a", "forbid"),
            line(USER, "get", "secrets", "b", "forbid"),
            line(USER, "get", "secrets", "a", "allow"),
        ]);
        insta::assert_snapshot!(forbidden(&made, "a").unwrap().message, @r"
        the operator asked for what its roles do not allow
        03:04:05.678 patch services demo (200)
        ");
        assert_eq!(forbidden(&made, "c"), None);
    }

    #[tokio::test]
    async fn a_tail_gives_each_request_once_and_no_half_lines() {
        let directory = tempfile::tempdir().unwrap();
        let log = AuditLog { path: directory.path().join("audit.log"), operator: USER.to_owned() };
        let first = line(USER, "get", "secrets", "a", "allow");
        let second = line(USER, "list", "pods", "a", "allow");
        std::fs::write(&log.path, format!("{first}\n{}", &second[..20])).unwrap();
        let mut tail = Tail::begin(log.clone());
        assert_eq!(tail.read().await.unwrap().len(), 1);
        std::fs::write(&log.path, format!("{first}\n{second}\n")).unwrap();
        let read = tail.read().await.unwrap();
        assert_eq!(read.iter().map(|request| request.verb.as_str()).collect::<Vec<_>>(), ["list"]);
        assert_eq!(Tail::end(log).await.read().await.unwrap(), []);
    }

    #[tokio::test]
    async fn what_was_received_before_and_answered_later_does_not_count() {
        let directory = tempfile::tempdir().unwrap();
        let log = AuditLog { path: directory.path().join("audit.log"), operator: USER.to_owned() };
        std::fs::write(&log.path, "").unwrap();
        let mut tail = Tail::end(log.clone()).await;
        let before = line(USER, "patch", "dittoservers/status", "a", "allow");
        let after = before.replace("2026-01-02", "9998-01-02").replace("patch", "delete");
        std::fs::write(&log.path, format!("{before}\n{after}\n")).unwrap();
        let read = tail.read().await.unwrap();
        assert_eq!(read.iter().map(|request| request.verb.as_str()).collect::<Vec<_>>(), ["delete"]);
    }
}
