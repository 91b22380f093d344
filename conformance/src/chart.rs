//! A chart as Helm takes it: a copy with all its dependencies.
//!
//! Parts layer: files only. Helm refuses a chart whose dependencies were not downloaded, also when they are switched off.
//! Where one is missing, the copy gets a stub in its place, which cannot be installed: it is for what is switched off.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use serde::Deserialize;

/// What is read of a `Chart.yaml`.
#[derive(Debug, Deserialize)]
struct Chart {
    #[serde(default)]
    dependencies: Vec<Dependency>,
}

#[derive(Debug, Deserialize)]
struct Dependency {
    name: String,
    version: String,
}

/// A copy of a chart, removed when dropped.
#[derive(Debug)]
pub struct Staged {
    directory: tempfile::TempDir,
    stubs: Vec<String>,
}

impl Staged {
    /// Copies the chart in the directory `chart` into a new directory in `parent`.
    ///
    /// # Errors
    /// It is no chart, or a file cannot be read or written.
    pub fn new(chart: &Path, parent: &Path) -> anyhow::Result<Self> {
        let path = chart.join("Chart.yaml");
        let text = fs::read_to_string(&path).with_context(|| format!("{} cannot be read", path.display()))?;
        let description: Chart = serde_yaml::from_str(&text).with_context(|| path.display().to_string())?;
        let directory = tempfile::Builder::new()
            .prefix("chart-")
            .tempdir_in(parent)
            .with_context(|| format!("cannot create a directory in {}", parent.display()))?;
        copy(chart, directory.path())?;
        let charts = directory.path().join("charts");
        let mut stubs = Vec::new();
        for Dependency { name, version } in description.dependencies {
            let packed = charts.join(format!("{name}-{version}.tgz"));
            if !packed.exists() && !charts.join(&name).exists() {
                stub(&charts.join(&name), &name, &version)?;
                stubs.push(format!("{name} {version}"));
            }
        }
        Ok(Self { directory, stubs })
    }

    /// Where the copy is.
    pub fn path(&self) -> &Path {
        self.directory.path()
    }

    /// The dependencies that are stubs, as `name version`.
    pub fn stubs(&self) -> &[String] {
        &self.stubs
    }
}

fn copy(from: &Path, to: &Path) -> anyhow::Result<()> {
    let failed = |path: PathBuf| move || format!("cannot copy {}", path.display());
    fs::create_dir_all(to).with_context(failed(to.to_owned()))?;
    for entry in fs::read_dir(from).with_context(failed(from.to_owned()))? {
        let entry = entry.with_context(failed(from.to_owned()))?;
        let target = to.join(entry.file_name());
        if entry.file_type().with_context(failed(entry.path()))?.is_dir() {
            copy(&entry.path(), &target)?;
        } else {
            fs::copy(entry.path(), target).with_context(failed(entry.path()))?;
        }
    }
    Ok(())
}

fn stub(directory: &Path, name: &str, version: &str) -> anyhow::Result<()> {
    let description = format!("apiVersion: v2\nname: {name}\nversion: {version}\ndescription: A stub\n");
    let refusal = format!(
        "{{{{ fail \"the chart {name} {version} is a stub that cannot be installed: run `helm dependency build` first\" }}}}\n"
    );
    let templates = directory.join("templates");
    let failed = || format!("cannot write to {}", directory.display());
    fs::create_dir_all(&templates).with_context(failed)?;
    fs::write(directory.join("Chart.yaml"), description).with_context(failed)?;
    fs::write(templates.join("refusal.yaml"), refusal).with_context(failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chart(dependencies: &str) -> tempfile::TempDir {
        let chart = tempfile::tempdir().unwrap();
        fs::create_dir(chart.path().join("templates")).unwrap();
        fs::write(chart.path().join("templates/a.yaml"), "kind: A\n").unwrap();
        fs::write(chart.path().join("Chart.yaml"), format!("apiVersion: v2\nname: c\nversion: 1.0.0\n{dependencies}"))
            .unwrap();
        chart
    }

    #[test]
    fn what_is_missing_is_a_stub_and_the_chart_stays_as_it_is() {
        let chart = chart("dependencies:\n  - {name: pg-operator, version: 2.8.2, repository: x, condition: y}\n");
        let parent = tempfile::tempdir().unwrap();
        let staged = Staged::new(chart.path(), parent.path()).unwrap();
        assert_eq!(staged.stubs(), ["pg-operator 2.8.2"]);
        assert_eq!(fs::read_to_string(staged.path().join("templates/a.yaml")).unwrap(), "kind: A\n");
        let text = fs::read_to_string(staged.path().join("charts/pg-operator/Chart.yaml")).unwrap();
        assert!(text.contains("version: 2.8.2"), "{text}");
        assert!(!chart.path().join("charts").exists());
        drop(staged);
        assert_eq!(fs::read_dir(parent.path()).unwrap().count(), 0);
    }

    #[test]
    fn what_was_downloaded_is_taken() {
        let chart = chart("dependencies:\n  - {name: a, version: 1.0.0}\n  - {name: b, version: 2.0.0}\n");
        fs::create_dir_all(chart.path().join("charts/a")).unwrap();
        fs::write(chart.path().join("charts/b-2.0.0.tgz"), "packed").unwrap();
        let parent = tempfile::tempdir().unwrap();
        let staged = Staged::new(chart.path(), parent.path()).unwrap();
        assert_eq!(staged.stubs(), [""; 0]);
        assert!(staged.path().join("charts/b-2.0.0.tgz").exists());
    }

    #[test]
    fn what_is_no_chart_is_named() {
        let directory = tempfile::tempdir().unwrap();
        let error = Staged::new(directory.path(), directory.path()).unwrap_err();
        assert!(error.to_string().ends_with("/Chart.yaml cannot be read"), "{error}");
    }
}
