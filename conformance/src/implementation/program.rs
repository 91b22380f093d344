//! What an operator is started and installed from: whoever keeps one running looks there for changes.

use std::ffi::OsString;
use std::path::PathBuf;

use super::file::Implementation;
use super::setup::{Prepared, values};
use super::template::Values;
use crate::tools::program_in;

impl Implementation {
    /// The operator's program: with a slash, relative to the directory of the file; else it is looked for in the `PATH` that
    /// the operator gets, and stays as it is where it is not found.
    pub fn program(&self, log_level: &str) -> PathBuf {
        let values = values(self, log_level);
        let program = self.start.command.first().map(|word| word.render(&values)).unwrap_or_default();
        if program.contains('/') {
            return self.directory.join(program);
        }
        program_in(&self.path(&values), &self.directory, &program).unwrap_or_else(|| program.into())
    }

    fn path(&self, values: &Values) -> OsString {
        let given = self.start.env.get("PATH").map(|path| OsString::from(path.render(values)));
        given.or_else(|| std::env::var_os("PATH")).unwrap_or_default()
    }

    /// The files that its command names, beside the program: a jar, a script, a configuration as in `--config=FILE`.
    fn named(&self, log_level: &str) -> Vec<PathBuf> {
        let values = values(self, log_level);
        let words: Vec<String> = self.start.command.iter().skip(1).map(|word| word.render(&values)).collect();
        let options = words.iter().filter_map(|word| Some(word.split_once('=')?.1));
        let named = words.iter().map(String::as_str).chain(options).map(|word| self.directory.join(word));
        named.filter(|path| path.is_file()).collect()
    }

    /// The chart by which it is installed into a cluster, where that is a directory or an archive on this machine.
    pub fn chart(&self) -> Option<PathBuf> {
        let chart = self.directory.join(&self.cluster.as_ref()?.chart);
        chart.exists().then_some(chart)
    }
}

impl Prepared {
    /// The files that the operator, and the release before it, are started from. Those that the commands only name are left
    /// out where they are not there.
    pub fn files(&self) -> Vec<PathBuf> {
        let mut files = vec![self.implementation.program(&self.log_level)];
        files.extend(self.implementation.named(&self.log_level));
        files.extend(self.previous.iter().flat_map(|previous| previous.files()));
        files
    }

    /// Whether the same is installed, also of the release before it.
    pub fn installs_as(&self, other: &Self) -> bool {
        let previous = match (&self.previous, &other.previous) {
            (Some(one), Some(another)) => one.installs_as(another),
            (one, another) => one.is_none() && another.is_none(),
        };
        previous && self.implementation == other.implementation && self.manifests == other.manifests
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;
    use std::path::Path;
    use std::sync::Arc;

    use super::*;
    use crate::process::{Run, Spawner};

    const FILE: &str = "\
apiVersion: conformance.dittofs.com/v1alpha1
kind: Implementation
name: somebodys-operator
version: 1.2.3
manifests:
  - file: role.yaml
serviceAccount: { namespace: system, name: operator }
start:
  command: [java, -jar, build/operator.jar, '--config=operator.yaml', '--port=${healthPort}', missing.txt]
  env: { PATH: '/nowhere:bin' }
ready: http://127.0.0.1:${healthPort}/readyz
images: { workload: [ghcr.io/somebody/dittofs] }
";
    const ROLE: &str = "{apiVersion: rbac.authorization.k8s.io/v1, kind: ClusterRole, metadata: {name: r}, rules: []}";

    /// A directory with the file, a program in its own `PATH`, and what that is started with.
    fn directory() -> tempfile::TempDir {
        let directory = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| std::fs::write(directory.path().join(name), text).unwrap();
        std::fs::create_dir(directory.path().join("bin")).unwrap();
        std::fs::create_dir(directory.path().join("build")).unwrap();
        write("implementation.yaml", FILE);
        write("role.yaml", ROLE);
        write("bin/java", "#!/bin/sh\n");
        let executable = std::fs::Permissions::from_mode(0o755);
        std::fs::set_permissions(directory.path().join("bin/java"), executable).unwrap();
        write("build/operator.jar", "jar");
        write("operator.yaml", "{}");
        directory
    }

    async fn prepared(directory: &Path) -> Prepared {
        let implementation = Implementation::load(&directory.join("implementation.yaml")).unwrap();
        let run = Arc::new(Run::create(&directory.join("runs")).unwrap());
        // Nothing is started.
        let spawner = Spawner::new(run, Some("/bin/false".into())).unwrap();
        let log = directory.join("build.log");
        Prepared::prepare(implementation, &spawner, &log, "info".to_owned()).await.unwrap()
    }

    #[tokio::test]
    async fn a_program_of_the_path_and_what_it_is_started_with_are_found() {
        let directory = directory();
        let prepared = prepared(directory.path()).await;
        let root = std::fs::canonicalize(directory.path()).unwrap();
        assert_eq!(prepared.files(), ["bin/java", "build/operator.jar", "operator.yaml"].map(|file| root.join(file)));
    }

    #[tokio::test]
    async fn a_changed_role_is_a_change() {
        let directory = directory();
        let before = prepared(directory.path()).await;
        assert!(before.installs_as(&prepared(directory.path()).await));
        let role = ROLE.replace("rules: []", "rules: [{apiGroups: [''], resources: [pods], verbs: [get]}]");
        std::fs::write(directory.path().join("role.yaml"), role).unwrap();
        assert!(!before.installs_as(&prepared(directory.path()).await));
    }

    #[test]
    fn a_chart_is_found_where_it_is_on_this_machine() {
        let chart = |name: &str| {
            let cluster = format!("cluster: {{ chart: '{name}', release: r, deployment: d, workload: ['w:1'] }}\n");
            let implementation = Implementation::parse("a test", &format!("{FILE}{cluster}")).unwrap();
            let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
            Implementation { directory, ..implementation }.chart()
        };
        assert!(chart("operator/chart").is_some_and(|path| path.join("Chart.yaml").is_file()));
        assert_eq!(chart("oci://example.com/charts/operator"), None);
    }
}
