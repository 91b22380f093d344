//! What the operator's roles allow, what of it was used in the whole run, and what was asked for besides.
//!
//! The requests come from the audit log of each control plane that the run has used, the grants from the roles that are
//! bound to the operator's user. What a role allows and nobody needs is what an attacker gets for nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::PathBuf;

use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding, PolicyRule, Role, RoleBinding, RoleRef, Subject};
use kube::api::{Api, ListParams};
use kube::{Client, ResourceExt};
use tokio::sync::Mutex;

use super::requests::{Request, Tail};
use super::trouble::Trouble;
use crate::environment::AuditLog;

/// The permissions of one run.
#[derive(Default)]
pub struct Permissions(Mutex<Noted>);

#[derive(Default)]
struct Noted {
    tails: BTreeMap<PathBuf, Tail>,
    used: BTreeSet<Use>,
    /// The first of each kind of request that was refused.
    forbidden: BTreeMap<(String, String, String), String>,
}

impl fmt::Debug for Permissions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Permissions")
    }
}

/// A request, as a role sees it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Use {
    verb: String,
    group: String,
    resource: String,
    namespace: Option<String>,
    name: Option<String>,
}

/// One verb on one resource that a role allows.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Grant {
    verb: String,
    group: String,
    resource: String,
    /// Of a role in a namespace.
    namespace: Option<String>,
    /// The only objects that it is about; empty: all.
    names: Vec<String>,
    /// Such as `ClusterRole dittofs-operator`.
    role: String,
}

impl Permissions {
    /// Takes in what the operator has asked for since the last call.
    pub async fn note(&self, log: AuditLog) -> Result<(), Trouble> {
        let mut noted = self.0.lock().await;
        let Noted { tails, used, forbidden } = &mut *noted;
        let tail = tails.entry(log.path.clone()).or_insert_with(|| Tail::begin(log));
        let (refused, allowed): (Vec<_>, Vec<_>) =
            tail.read().await?.into_iter().partition(|request| request.forbidden);
        used.extend(allowed.into_iter().flat_map(uses));
        for request in refused {
            let kind = (request.verb.clone(), request.group.clone(), request.resource.clone());
            forbidden.entry(kind).or_insert_with(|| request.to_string());
        }
        Ok(())
    }

    /// What was asked for so far and is not allowed: the first request of each kind.
    pub async fn forbidden(&self) -> Vec<String> {
        self.0.lock().await.forbidden.values().cloned().collect()
    }

    /// What the roles of `user` allow and nobody has used so far.
    pub async fn unused(&self, client: &Client, user: &str) -> Result<Vec<Grant>, Trouble> {
        let granted = grants(client, user)
            .await
            .map_err(|error| Trouble::broken(format!("the operator's roles cannot be read: {error}")))?;
        let noted = self.0.lock().await;
        Ok(granted.into_iter().filter(|grant| !noted.used.iter().any(|used| grant.covers(used))).collect())
    }
}

/// What a role must allow for `request`. A server-side apply that creates needs `create`, too, which no request of its
/// own shows.
fn uses(request: Request) -> Vec<Use> {
    let Request { verb, group, resource, namespace, name, code, .. } = request;
    let created = verb == "patch" && code == 201;
    let used = Use { verb, group, resource, namespace, name };
    // No role can name an object that is not there yet.
    let create = created.then(|| Use { verb: "create".to_owned(), name: None, ..used.clone() });
    [used].into_iter().chain(create).collect()
}

impl Grant {
    /// Whether `used` needed it. A wildcard allows more than any request needs, and more with every CRD: nobody needs one.
    fn covers(&self, used: &Use) -> bool {
        let Self { verb, group, resource, .. } = self;
        (verb, group, resource) == (&used.verb, &used.group, &used.resource)
            && self.namespace.as_ref().is_none_or(|own| used.namespace.as_ref() == Some(own))
            && (self.names.is_empty() || used.name.as_ref().is_some_and(|name| self.names.contains(name)))
    }

    /// Such as `patch perconapgclusters.pgv2.percona.com/status`, as kubectl writes it.
    pub fn permission(&self) -> String {
        let (resource, part) = self.resource.split_once('/').unwrap_or((&self.resource, ""));
        let dotted = |prefix: &str, text: &str| if text.is_empty() { String::new() } else { format!("{prefix}{text}") };
        // A path of the API server has no resource.
        let whole = if resource.is_empty() {
            self.resource.clone()
        } else {
            format!("{resource}{}{}", dotted(".", &self.group), dotted("/", part))
        };
        format!("{} {whole}", self.verb)
    }
}

impl fmt::Display for Grant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.permission(), self.role)
    }
}

/// Everything that the roles bound to `user` allow.
async fn grants(client: &Client, user: &str) -> kube::Result<BTreeSet<Grant>> {
    let all = ListParams::default();
    // What Kubernetes itself grants to everybody is not the operator's.
    let shipped = |labels: &BTreeMap<String, String>| !labels.contains_key("kubernetes.io/bootstrapping");
    let mut grants = BTreeSet::new();
    for binding in Api::<ClusterRoleBinding>::all(client.clone()).list(&all).await? {
        if shipped(binding.labels()) && binds(binding.subjects.as_deref().unwrap_or_default(), user) {
            grants.extend(of_role(client, &binding.role_ref, None).await?);
        }
    }
    for binding in Api::<RoleBinding>::all(client.clone()).list(&all).await? {
        if shipped(binding.labels()) && binds(binding.subjects.as_deref().unwrap_or_default(), user) {
            grants.extend(of_role(client, &binding.role_ref, binding.namespace()).await?);
        }
    }
    Ok(grants)
}

/// Whether `user`, a service account, is among the subjects: by itself, or by a group that Kubernetes puts it into.
fn binds(subjects: &[Subject], user: &str) -> bool {
    let own = user.strip_prefix("system:serviceaccount:").and_then(|account| account.split(':').next());
    subjects.iter().any(|subject| match subject.kind.as_str() {
        "ServiceAccount" => {
            let namespace = subject.namespace.as_deref().unwrap_or_default();
            user == format!("system:serviceaccount:{namespace}:{}", subject.name)
        }
        "Group" => match subject.name.strip_prefix("system:serviceaccounts:") {
            Some(namespace) => own == Some(namespace),
            None => ["system:serviceaccounts", "system:authenticated"].contains(&&*subject.name),
        },
        kind => kind == "User" && subject.name == user,
    })
}

async fn of_role(client: &Client, role: &RoleRef, namespace: Option<String>) -> kube::Result<Vec<Grant>> {
    let rules = match (&namespace, role.kind.as_str()) {
        (Some(namespace), "Role") => {
            Api::<Role>::namespaced(client.clone(), namespace).get_opt(&role.name).await?.and_then(|role| role.rules)
        }
        _ => Api::<ClusterRole>::all(client.clone()).get_opt(&role.name).await?.and_then(|role| role.rules),
    };
    let title = format!("{} {}", role.kind, role.name);
    Ok(rules.unwrap_or_default().iter().flat_map(|rule| of_rule(rule, &title, namespace.as_ref())).collect())
}

fn of_rule(rule: &PolicyRule, title: &str, namespace: Option<&String>) -> Vec<Grant> {
    let list = |values: &Option<Vec<String>>| values.clone().unwrap_or_default();
    let mut grants = Vec::new();
    for verb in &rule.verbs {
        let mut add = |group: &str, resource: &str| {
            grants.push(Grant {
                verb: verb.clone(),
                group: group.to_owned(),
                resource: resource.to_owned(),
                namespace: namespace.cloned(),
                names: list(&rule.resource_names),
                role: title.to_owned(),
            });
        };
        for path in list(&rule.non_resource_urls) {
            add("", &path);
        }
        for group in list(&rule.api_groups) {
            for resource in list(&rule.resources) {
                add(&group, &resource);
            }
        }
    }
    grants
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    fn rule() -> PolicyRule {
        PolicyRule {
            api_groups: Some(vec!["apps".to_owned()]),
            resources: Some(vec!["statefulsets".to_owned(), "statefulsets/status".to_owned()]),
            resource_names: None,
            non_resource_urls: None,
            verbs: vec!["create".to_owned(), "patch".to_owned()],
        }
    }

    fn request(verb: &str, resource: &str, code: u16) -> Request {
        Request {
            received: jiff::Timestamp::UNIX_EPOCH,
            verb: verb.to_owned(),
            group: "apps".to_owned(),
            resource: resource.to_owned(),
            namespace: Some("a".to_owned()),
            name: Some("demo".to_owned()),
            code,
            forbidden: false,
        }
    }

    fn unused(rule: &PolicyRule, namespace: Option<&str>, requests: &[Request]) -> Vec<String> {
        let used: Vec<Use> = requests.iter().cloned().flat_map(uses).collect();
        let grants = of_rule(rule, "Role r", namespace.map(str::to_owned).as_ref());
        grants.iter().filter(|grant| !used.iter().any(|used| grant.covers(used))).map(ToString::to_string).collect()
    }

    #[test]
    fn a_permission_is_used_by_a_request_that_needs_it() {
        assert_eq!(
            unused(&rule(), None, &[request("patch", "statefulsets", 200)]),
            [
                "create statefulsets.apps (Role r)",
                "create statefulsets.apps/status (Role r)",
                "patch statefulsets.apps/status (Role r)"
            ]
        );
    }

    #[test]
    fn an_apply_that_creates_needs_both_verbs() {
        let used = [request("patch", "statefulsets", 201), request("patch", "statefulsets/status", 201)];
        assert_eq!(unused(&rule(), None, &used), [""; 0]);
    }

    #[test]
    fn a_role_of_another_namespace_or_another_object_was_not_needed() {
        let used = [request("patch", "statefulsets", 201), request("patch", "statefulsets/status", 201)];
        assert_eq!(unused(&rule(), Some("b"), &used).len(), 4);
        let named = PolicyRule { resource_names: Some(vec!["other".to_owned()]), ..rule() };
        assert_eq!(unused(&named, Some("a"), &used).len(), 4);
    }

    #[rstest]
    #[case::verbs("*", "apps", "statefulsets", "* statefulsets.apps (Role r)")]
    #[case::groups("patch", "*", "statefulsets", "patch statefulsets.* (Role r)")]
    #[case::resources("patch", "apps", "*", "patch *.apps (Role r)")]
    #[case::parts("patch", "apps", "*/status", "patch *.apps/status (Role r)")]
    fn nobody_needs_a_wildcard(
        #[case] verb: &str,
        #[case] group: &str,
        #[case] resource: &str,
        #[case] expected: &str,
    ) {
        let list = |value: &str| Some(vec![value.to_owned()]);
        let verbs = vec![verb.to_owned()];
        let wide = PolicyRule { api_groups: list(group), resources: list(resource), verbs, ..rule() };
        let used = [request("patch", "statefulsets", 200), request("patch", "statefulsets/status", 200)];
        assert_eq!(unused(&wide, None, &used), [expected]);
    }

    #[rstest]
    #[case::account("ServiceAccount", Some("system"), "operator", true)]
    #[case::of_another_namespace("ServiceAccount", Some("other"), "operator", false)]
    #[case::user("User", None, "system:serviceaccount:system:operator", true)]
    #[case::its_namespace("Group", None, "system:serviceaccounts:system", true)]
    #[case::another_namespace("Group", None, "system:serviceaccounts:other", false)]
    #[case::all_accounts("Group", None, "system:serviceaccounts", true)]
    #[case::everybody("Group", None, "system:authenticated", true)]
    #[case::some_people("Group", None, "developers", false)]
    fn roles_come_by_groups_too(
        #[case] kind: &str,
        #[case] namespace: Option<&str>,
        #[case] name: &str,
        #[case] expected: bool,
    ) {
        let (kind, name, namespace) = (kind.to_owned(), name.to_owned(), namespace.map(str::to_owned));
        let subject = Subject { kind, name, namespace, api_group: None };
        assert_eq!(binds(&[subject], "system:serviceaccount:system:operator"), expected);
    }
}
