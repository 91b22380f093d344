//! Whether a kept cluster is the one that would be made now.
//!
//! Pure. The operator under test is no part of it: it is installed again in each run.

use serde::{Deserialize, Serialize};

/// What a cluster is made of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Fingerprint {
    /// The image of its nodes.
    pub node_image: String,
    /// kind's configuration.
    pub configuration: String,
    /// Percona's operator: the real one, or the double.
    pub percona: String,
}

impl Fingerprint {
    /// What of this, which is there, differs from `wanted`, in words; empty when nothing does.
    pub fn differences(&self, wanted: &Self) -> Vec<String> {
        let mut differences = Vec::new();
        let mut compare = |what: &str, here: &str, wanted: &str| {
            if here != wanted {
                differences.push(format!("{what} is {here}, not {wanted}"));
            }
        };
        compare("the node image", &self.node_image, &wanted.node_image);
        compare("Percona", &self.percona, &wanted.percona);
        if self.configuration != wanted.configuration {
            differences.push("kind's configuration has changed".to_owned());
        }
        differences
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fingerprint() -> Fingerprint {
        Fingerprint {
            node_image: "kindest/node:v1.34.4".to_owned(),
            configuration: "nodes: []".to_owned(),
            percona: "double of 2.8.2".to_owned(),
        }
    }

    #[test]
    fn an_equal_cluster_fits() {
        assert!(fingerprint().differences(&fingerprint()).is_empty());
    }

    #[test]
    fn everything_that_differs_is_told() {
        let wanted = Fingerprint {
            node_image: "kindest/node:v1.33.1".to_owned(),
            configuration: String::new(),
            percona: "2.8.2".to_owned(),
        };
        insta::assert_snapshot!(fingerprint().differences(&wanted).join("; "), @"the node image is kindest/node:v1.34.4, not kindest/node:v1.33.1; Percona is double of 2.8.2, not 2.8.2; kind's configuration has changed");
    }
}
