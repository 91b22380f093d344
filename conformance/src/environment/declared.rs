//! What the implementation under test says about itself, and where it declares to differ.

use std::collections::{BTreeMap, BTreeSet};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Who makes the implementation under test. Everything may be left out.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct About {
    /// The company, group or person that maintains it.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub organization: String,
    /// The project or repository.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub project: String,
    /// Where more about it can be read.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub url: String,
    /// How its maintainers are reached.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub contact: Vec<String>,
    /// In which of its modes it runs.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub mode: String,
}

/// Where the implementation under test declares to differ. A requirement that it touches is never reported as passed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Declared {
    /// Requirements that it does not claim to meet, and why. A name that ends in `/*` means all below.
    pub unsupported: BTreeMap<String, String>,
    /// Types and reasons of a server's conditions as scenarios name them, and as the implementation does.
    pub conditions: BTreeMap<String, String>,
    /// Whether the `PerconaPGCluster` stays when its server is deleted.
    pub keeps_cluster_on_delete: bool,
    /// Defects for which the suite makes up.
    pub tolerate: BTreeSet<Tolerated>,
}

/// A defect that would hide all others. Where it is tolerated, the suite makes up for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Tolerated {
    /// `spec.proxy.pgBouncer`, without which Percona 2.8 crashes.
    MissingProxy,
    /// The images of PostgreSQL, PgBouncer and pgBackRest, without which Percona 2.8 makes nothing.
    MissingImages,
    /// Pods that the restricted Pod Security Standard refuses: the namespaces of scenarios take them then, but for those
    /// that are about just that.
    UnrestrictedPods,
}

impl Declared {
    /// Why it does not claim to meet `requirement`; `None` when it does.
    pub fn unsupported(&self, requirement: &str) -> Option<&str> {
        let meant = |pattern: &str| match pattern.strip_suffix('*') {
            Some(prefix) => requirement.starts_with(prefix),
            None => requirement == pattern,
        };
        self.unsupported.iter().find(|(pattern, _)| meant(pattern)).map(|(_, reason)| reason.as_str())
    }

    /// Everything that is declared, a fragment each.
    pub fn sentences(&self) -> Vec<String> {
        let unsupported =
            self.unsupported.iter().map(|(requirement, reason)| format!("does not claim {requirement}: {reason}"));
        let conditions = self.conditions.iter().map(|(ours, theirs)| format!("calls {ours} {theirs}"));
        let keeps = "keeps the PerconaPGCluster when its server is deleted".to_owned();
        let tolerated = self.tolerate.iter().map(|tolerated| match tolerated {
            Tolerated::MissingProxy => "leaves out spec.proxy of the PerconaPGCluster, which the suite adds".to_owned(),
            Tolerated::MissingImages => "leaves out images of the PerconaPGCluster, which the suite adds".to_owned(),
            Tolerated::UnrestrictedPods => {
                "makes pods that the restricted Pod Security Standard refuses, which the suite lets in".to_owned()
            }
        });
        unsupported.chain(conditions).chain(self.keeps_cluster_on_delete.then_some(keeps)).chain(tolerated).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[rstest::rstest]
    #[case("backup/retention", Some("no backups"))]
    #[case("gate/secret-absent", Some("no gate"))]
    #[case("gate/secret-absent-too", None)]
    #[case("backups", None)]
    fn unsupported_requirements_are_named_whole_or_by_their_area(
        #[case] requirement: &str,
        #[case] reason: Option<&str>,
    ) {
        let unsupported = [("backup/*", "no backups"), ("gate/secret-absent", "no gate")];
        let unsupported = unsupported.map(|(name, reason)| (name.to_owned(), reason.to_owned())).into();
        assert_eq!(Declared { unsupported, ..Declared::default() }.unsupported(requirement), reason);
    }
}
