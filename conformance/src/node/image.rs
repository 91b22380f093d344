//! Which local programs stand for a container image. Pure but for looking whether a file exists.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::probe;

/// The programs of one image, on this machine.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Image {
    /// What runs when the container has no `command`; `args` are appended.
    pub entrypoint: Vec<String>,
    /// Directories that come first in the container's `PATH`, before the machine's own.
    pub path: Vec<PathBuf>,
    /// Variables that the image itself sets.
    pub environment: BTreeMap<String, String>,
    /// Whether the entrypoint is run whatever the container's `command` is: the one program of the image stands for all
    /// that the real image holds.
    pub single_program: bool,
}

/// Directories of every image: the machine's own shell and tools.
const MACHINE: [&str; 4] = ["/usr/local/bin", "/usr/bin", "/bin", "/usr/sbin"];

/// What the image of the workload is called: DittoFS's own, wherever it is kept, and that of the probe.
const WORKLOAD: [&str; 3] = ["*dittofs:*", "*dittofs@*", "*dittofs-probe:*"];

/// The image whose client tools wait for a database.
const POSTGRES: &str = "postgres:*";

impl Image {
    /// An image that holds this one program.
    pub fn of_program(program: &Path) -> Self {
        Self { entrypoint: vec![program.display().to_string()], single_program: true, ..Self::default() }
    }

    /// The image of the workload, which `conformance`, the suite's own program, is too: so that the workload is there wherever
    /// the suite is, and as old.
    pub fn of_workload(conformance: &Path) -> Self {
        let mut image = Self::of_program(conformance);
        image.entrypoint.push(probe::COMMAND.to_owned());
        image
    }

    /// The value of `PATH` in the container.
    pub fn search_path(&self) -> String {
        let own = self.path.iter().map(|directory| directory.display().to_string());
        own.chain(MACHINE.map(str::to_owned)).collect::<Vec<_>>().join(":")
    }

    /// The command line for a container, without expansion; `None` when there is nothing to run. Its program is searched as
    /// [`find_locally`] does.
    pub fn command_line(&self, command: &[String], arguments: &[String]) -> Option<Vec<String>> {
        let mut line = match command {
            [] => self.entrypoint.clone(),
            _ if self.single_program => self.entrypoint.iter().chain(&command[1..]).cloned().collect(),
            _ => command.to_vec(),
        };
        find_locally(line.first_mut()?);
        line.extend_from_slice(arguments);
        Some(line)
    }
}

/// A program that is named by an absolute path and is not there is searched by its last component: the real image keeps
/// `psql` in another directory than this machine does.
pub(super) fn find_locally(program: &mut String) {
    if program.starts_with('/') && !Path::new(program).exists() {
        *program = program.rsplit('/').next().unwrap_or_default().to_owned();
    }
}

/// Patterns of image references and what they stand for; the first that fits counts. An image without a row cannot be
/// pulled.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ImageTable(Vec<(String, Image)>);

impl ImageTable {
    /// An empty table: no image can be pulled.
    pub fn new() -> Self {
        Self::default()
    }

    /// What the scenarios use: the workload, and in `postgres` PostgreSQL's client tools. Without the tools that image cannot
    /// be pulled.
    pub fn standard(workload: &Image, postgres: Option<Image>) -> Self {
        let table = postgres.into_iter().fold(Self::new(), |table, image| table.with(POSTGRES, image));
        WORKLOAD.iter().fold(table, |table, pattern| table.with(*pattern, workload.clone()))
    }

    /// Adds a row. `*` in the pattern stands for any characters; `docker.io/` and `library/` are understood as Docker does.
    #[must_use]
    pub fn with(mut self, pattern: impl Into<String>, image: Image) -> Self {
        self.0.push((pattern.into(), image));
        self
    }

    /// The image that `reference` stands for.
    pub fn find(&self, reference: &str) -> Option<&Image> {
        let reference = familiar(reference);
        self.0.iter().find(|(pattern, _)| matches(familiar(pattern), reference)).map(|(_, image)| image)
    }
}

/// `docker.io/library/postgres:16` and `postgres:16` are one image.
fn familiar(reference: &str) -> &str {
    let reference = reference.strip_prefix("docker.io/").unwrap_or(reference);
    reference.strip_prefix("library/").unwrap_or(reference)
}

fn matches(pattern: &str, text: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == text,
        Some((before, after)) => text
            .strip_prefix(before)
            .is_some_and(|rest| (0..=rest.len()).any(|at| rest.is_char_boundary(at) && matches(after, &rest[at..]))),
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("postgres:*", "postgres:16-alpine", true)]
    #[case("postgres:*", "docker.io/library/postgres:16-alpine", true)]
    #[case("docker.io/library/postgres:*", "postgres:16", true)]
    #[case("postgres:*", "evil/postgres:16", false)]
    #[case("postgres:16", "postgres:16-alpine", false)]
    #[case("*/dittofs:*", "ghcr.io/marmos91/dittofs:0.1.0", true)]
    #[case("*/dittofs:*", "ghcr.io/marmos91/dittofs-extra:0.1.0", false)]
    #[case("a*b*c", "a-b-b-c", true)]
    #[case("*", "", true)]
    fn patterns(#[case] pattern: &str, #[case] reference: &str, #[case] found: bool) {
        assert_eq!(ImageTable::new().with(pattern, Image::default()).find(reference).is_some(), found);
    }

    #[rstest]
    #[case("ghcr.io/marmos91/dittofs:0.1.0", Some("/probe"))]
    #[case("registry:5000/x/dittofs@sha256:00", Some("/probe"))]
    #[case("dittofs-probe:dev", Some("/probe"))]
    #[case("postgres:16-alpine", Some("/psql"))]
    #[case("ghcr.io/marmos91/dittofs-operator:0.1.0", None)]
    #[case("busybox:1", None)]
    fn the_standard_table(#[case] reference: &str, #[case] entrypoint: Option<&str>) {
        let workload = Image::of_workload(Path::new("/probe"));
        let table = ImageTable::standard(&workload, Some(Image::of_program(Path::new("/psql"))));
        assert_eq!(table.find(reference).map(|image| image.entrypoint[0].as_str()), entrypoint);
        assert_eq!(ImageTable::standard(&workload, None).find("postgres:16"), None);
    }

    #[test]
    fn the_first_row_that_fits_counts() {
        let image = |program: &str| Image { entrypoint: vec![program.to_owned()], ..Image::default() };
        let table = ImageTable::new().with("a:1", image("first")).with("a:*", image("second"));
        assert_eq!(table.find("a:1"), Some(&image("first")));
        assert_eq!(table.find("a:2"), Some(&image("second")));
    }

    #[rstest]
    #[case::entrypoint(&[], &["x"], &["/bin/sh", "-e", "x"])]
    #[case::command_replaces_the_entrypoint(&["/bin/true"], &["x"], &["/bin/true", "x"])]
    #[case::a_missing_absolute_program_is_searched(&["/opt/image/psql", "-c"], &[], &["psql", "-c"])]
    fn command_lines(#[case] command: &[&str], #[case] arguments: &[&str], #[case] expected: &[&str]) {
        let own = |words: &[&str]| words.iter().map(|&word| word.to_owned()).collect::<Vec<_>>();
        let image = Image { entrypoint: own(&["/bin/sh", "-e"]), ..Image::default() };
        assert_eq!(image.command_line(&own(command), &own(arguments)), Some(own(expected)));
    }

    #[test]
    fn one_program_stands_for_every_command_of_its_image() {
        let image = Image { entrypoint: vec!["/bin/sh".into()], single_program: true, ..Image::default() };
        let line = image.command_line(&["/app/dittofs".into(), "start".into()], &["--debug".into()]);
        assert_eq!(line.unwrap(), ["/bin/sh", "start", "--debug"]);
        let line = Image::of_workload(Path::new("/bin/sh")).command_line(&["/app/dittofs".into()], &["start".into()]);
        assert_eq!(line.unwrap(), ["/bin/sh", "workload", "start"]);
    }

    #[test]
    fn without_command_and_entrypoint_there_is_nothing_to_run() {
        assert_eq!(Image::default().command_line(&[], &["x".into()]), None);
    }

    #[test]
    fn the_images_own_directories_come_first() {
        let image = Image { path: vec!["/tools".into()], ..Image::default() };
        assert_eq!(image.search_path(), "/tools:/usr/local/bin:/usr/bin:/bin:/usr/sbin");
    }
}
