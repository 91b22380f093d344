//! Builds programs from Go modules. Go's checksum database vouches for the sources.

use std::fs;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::command::Workshop;
use super::error::ToolError;
use super::progress::Step;
use super::tool::on_path;

/// A program to build.
pub(super) struct Build<'a> {
    /// What messages call it.
    pub name: &'a str,
    /// The module that it comes from.
    pub module: &'a str,
    /// Its version.
    pub version: &'a str,
    /// Source of a `main` package of ours that is built instead of a package of the module.
    pub main: Option<&'a str>,
    /// The package to build: `.` for `main`.
    pub package: &'a str,
    /// Versions of the modules that the module's own `go.mod` replaces by directories of its repository.
    pub replace: Option<fn(&str) -> String>,
    /// Values for variables: `package.variable=value`.
    pub variables: Vec<String>,
}

/// What `go list -m -json` says about a module.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Module {
    go_mod: PathBuf,
    #[serde(default)]
    go_version: String,
}

impl Build<'_> {
    /// Builds it into the file `output`.
    pub(super) async fn run(&self, workshop: &Workshop, step: &Step, output: &Path) -> Result<(), ToolError> {
        let go = on_path("go").ok_or_else(|| self.unavailable("there is no Go on the PATH", "install Go"))?;
        let scratch = workshop.scratch()?;
        let directory = scratch.path();
        let command = |name: &str| {
            Workshop::launch(name, &go)
                .directory(directory)
                // Modules that only `main` imports are added to go.mod on the way; nothing is ever fetched in place
                // of the Go that the user has; temporary files go where a sweep finds them.
                .envs([("GOFLAGS", "-mod=mod"), ("GOTOOLCHAIN", "local"), ("CGO_ENABLED", "0"), ("GOWORK", "off")])
                .env("GOTMPDIR", directory)
        };
        let write = |file: &str, text: &str| {
            let path = directory.join(file);
            fs::write(&path, text).map_err(ToolError::file("write", path))
        };

        step.note(format!("looking up {}@{}", self.module, self.version));
        let mut list = command("go list").args(["list", "-m", "-json"]);
        list = list.arg(format!("{}@{}", self.module, self.version));
        let module = workshop.output(list).await.map_err(|error| self.not_found(error))?;
        // Warnings about the network may come before or after the object.
        let module: Module = object(&module)
            .and_then(|object| serde_json::from_str(object).ok())
            .ok_or_else(|| self.unavailable("go list answered something that is no module", "run it by hand"))?;

        let ours = workshop.output(command("go env").args(["env", "GOVERSION"])).await?;
        if is_older(&ours, &module.go_version) {
            let reason = format!("it needs Go {}, this machine has {}", module.go_version, ours.trim());
            return Err(self.unavailable(&reason, "install a newer Go, or ask for an older version"));
        }
        let theirs = fs::read_to_string(&module.go_mod).map_err(ToolError::file("read", &module.go_mod))?;
        write("go.mod", &self.go_mod(&theirs, &module.go_version))?;
        if let Some(main) = self.main {
            write("main.go", main)?;
        }
        let flags = self.variables.iter().fold("-s -w".to_owned(), |flags, variable| flags + " -X " + variable);
        let build = command("go build")
            .args(["build", "-v", "-trimpath", "-buildvcs=false", "-ldflags", &flags, "-o"])
            .arg(output)
            .arg(self.package);
        workshop.work(build, step).await?.map_err(|reason| self.unavailable(&reason, "see above; is the disk full?"))
    }

    /// The `go.mod` of the module that builds it. Language version and defaults are the program's own.
    fn go_mod(&self, theirs: &str, go_version: &str) -> String {
        let mut text = format!("module dittofs.local/build\n\ngo {go_version}\n");
        if let Some(godebug) = theirs.lines().find(|line| line.starts_with("godebug default=")) {
            text = format!("{text}\n{godebug}\n");
        }
        text = format!("{text}\nrequire {} {}\n", self.module, self.version);
        if let Some(version) = self.replace {
            for name in replaced(theirs) {
                text = format!("{text}replace {name} => {name} {}\n", version(self.version));
            }
        }
        text
    }

    fn not_found(&self, error: ToolError) -> ToolError {
        match error {
            ToolError::Unavailable { reason, .. } => self.unavailable(&reason, "is the network (GOPROXY) there?"),
            other => other,
        }
    }

    fn unavailable(&self, reason: &str, remedy: &str) -> ToolError {
        ToolError::Unavailable {
            what: format!("{} {}", self.name, self.version),
            reason: format!("building it from {} failed: {reason}", self.module),
            remedy: remedy.to_owned(),
        }
    }
}

fn object(text: &str) -> Option<&str> {
    text.get(text.find('{')?..=text.rfind('}')?)
}

/// The modules that a `go.mod` replaces by a directory of its own repository.
fn replaced(go_mod: &str) -> Vec<&str> {
    go_mod
        .lines()
        .filter_map(|line| line.trim().trim_start_matches("replace ").split_once(" => ./"))
        .map(|(name, _)| name.trim())
        .collect()
}

/// Whether Go `ours` (`go1.26.8`) is older than what a module needs (`1.24.0`).
fn is_older(ours: &str, needed: &str) -> bool {
    let numbers = |version: &str| -> Vec<u32> {
        let version = version.trim();
        version.trim_start_matches("go").split('.').map_while(|number| number.parse().ok()).collect()
    };
    numbers(ours) < numbers(needed)
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("go1.26.8", "1.24.0", false)]
    #[case("go1.24.0\n", "1.24.0", false)]
    #[case("go1.23.4", "1.24.0", true)]
    #[case("go1.9", "1.22", true)]
    #[case("go1.26.8", "", false)]
    fn a_go_that_is_too_old_is_noticed(#[case] ours: &str, #[case] needed: &str, #[case] older: bool) {
        assert_eq!(is_older(ours, needed), older);
    }

    #[test]
    fn staging_modules_are_replaced_by_their_published_versions() {
        let theirs = "module k8s.io/kubernetes\n\ngo 1.24.0\n\ngodebug default=go1.24\n\nrequire (\n\tk8s.io/api v0.0.0\n)\n\n\
                      replace (\n\tk8s.io/api => ./staging/src/k8s.io/api\n\tk8s.io/x => k8s.io/y v1\n)\n";
        let build = Build {
            name: "kube",
            module: "k8s.io/kubernetes",
            version: "v1.34.4",
            main: None,
            package: ".",
            replace: Some(|version| version.replacen("v1.", "v0.", 1)),
            variables: Vec::new(),
        };
        insta::assert_snapshot!(build.go_mod(theirs, "1.24.0"), @r"
        module dittofs.local/build

        go 1.24.0

        godebug default=go1.24

        require k8s.io/kubernetes v1.34.4
        replace k8s.io/api => k8s.io/api v0.34.4
        ");
    }
}
