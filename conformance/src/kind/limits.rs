//! Limits of the machine on which kind is known to founder: looked at before, and named when something fails.

use std::fs;
use std::path::Path;

use super::docker::Machine;
use crate::exit::Exit;
use crate::supervisor::StartError;

/// Free space that images, a node and its volumes need.
const SPACE: u64 = 3 << 30;

/// Kernel settings below which kind's own documentation expects failures ("Pod errors due to too many open files").
const SETTINGS: [(&str, u64); 2] = [("fs/inotify/max_user_instances", 512), ("fs/inotify/max_user_watches", 524_288)];

/// Kubernetes from this minor on runs on control groups of version 2 only.
const NEEDS_CGROUP_V2: u64 = 35;

/// Refuses a machine on which a cluster of this node image is known not to come up.
///
/// # Errors
/// Says what is missing.
pub fn check(machine: &Machine, node_image: &str) -> anyhow::Result<()> {
    space(&machine.root)?;
    let minor = crate::tools::parse_version(&node_image.replace([':', '@'], " ")).map(|version| version.minor);
    if machine.cgroup_v1 && minor.is_some_and(|minor| minor >= NEEDS_CGROUP_V2) {
        let message = format!(
            "{node_image} needs control groups of version 2, and this machine has version 1; ask for `--kubernetes 1.34` or \
             older"
        );
        return Err(StartError { exit: Exit::Environment, message }.into());
    }
    Ok(())
}

/// Refuses a machine without room for a cluster. `root` is the daemon's directory; when the daemon is on another machine,
/// nothing is known.
///
/// # Errors
/// Too little is free: says where and how much.
fn space(root: &Path) -> anyhow::Result<()> {
    let Ok(statistics) = nix::sys::statvfs::statvfs(root) else { return Ok(()) };
    let free = statistics.blocks_available() * statistics.fragment_size();
    if free >= SPACE {
        return Ok(());
    }
    let message = format!(
        "{} MB are free in {}, where Docker keeps its data; a cluster needs {} MB: `docker system df` says what could go",
        free >> 20,
        root.display(),
        SPACE >> 20
    );
    Err(StartError { exit: Exit::DiskFull, message }.into())
}

/// Adds what is known to cause failures on this machine to an error.
pub fn explain(error: anyhow::Error) -> anyhow::Error {
    let hints = hints(|name| fs::read_to_string(Path::new("/proc/sys").join(name)).ok());
    if hints.is_empty() { error } else { anyhow::anyhow!("{error:#}\nperhaps because {}", hints.join("; ")) }
}

fn hints(read: impl Fn(&str) -> Option<String>) -> Vec<String> {
    SETTINGS
        .iter()
        .filter_map(|(name, least)| {
            let here: u64 = read(name)?.trim().parse().ok()?;
            let name = name.replace('/', ".");
            (here < *least).then(|| format!("{name} is only {here} here: `sudo sysctl {name}={least}` raises it"))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_low_limit_is_named_with_what_to_do() {
        let read = |name: &str| name.ends_with("instances").then(|| "128\n".to_owned());
        insta::assert_snapshot!(hints(read).join("; "), @"fs.inotify.max_user_instances is only 128 here: `sudo sysctl fs.inotify.max_user_instances=512` raises it");
    }

    #[test]
    fn high_and_unknown_limits_are_not() {
        assert!(hints(|_| Some("1000000".to_owned())).is_empty());
        assert!(hints(|_| None).is_empty());
    }

    #[rstest::rstest]
    #[case("kindest/node:v1.34.11@sha256:44e2", true, true)]
    #[case("kindest/node:v1.35.8@sha256:07b2", true, false)]
    #[case("kindest/node:v1.35.8", false, true)]
    #[case("registry:5000/my/node:latest", true, true)]
    fn new_kubernetes_needs_new_control_groups(#[case] image: &str, #[case] cgroup_v1: bool, #[case] fits: bool) {
        let machine = Machine { root: "/nowhere".into(), cgroup_v1 };
        assert_eq!(check(&machine, image).is_ok(), fits);
    }

    #[test]
    fn a_directory_that_is_not_here_says_nothing() {
        space(Path::new("/nowhere/at/all")).unwrap();
    }
}
