//! How many small changes of the operator the scenarios notice: a sample of what cargo-mutants would do to it, each
//! built and judged by the suite until its first failure.
//!
//! Started by `just mutants-scenarios`; takes hours. The sample is drawn from every file by its share of the mutants:
//! `MUTANTS_SAMPLE` says how many, `MUTANTS_SEED` draws another one, `MUTANTS_JOBS` says how many at a time. What is drawn
//! does not depend on lines, so that the sample stays the same while the operator changes. After it come the mutants that
//! the unit tests have missed (`just mutants-units`, if it was run), so that of every mutant it is known whether anybody
//! notices. Verdicts go to `target/mutants/scenarios.jsonl` as they come; a mutant that has one is not tried again until
//! its line is removed there.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::sync::Mutex;
use std::thread;

use libtest_mimic::{Arguments, Failed, Trial};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use self::sources::{Copy, repository, run};

#[path = "support/sources.rs"]
mod sources;

/// Stands for scenarios when the operator is not ready within its time.
const NO_START: &str = "the operator does not start";

/// How many scenarios are tried before all.
const FIRST: usize = 16;

/// A change of the operator, as `cargo mutants --list --json` tells it.
#[derive(Deserialize)]
struct Mutant {
    name: String,
    file: String,
    span: Span,
    replacement: String,
    /// Its name without the position, and which of those with that name it is.
    #[serde(skip)]
    identity: String,
}

/// What is replaced.
#[derive(Deserialize)]
struct Span {
    start: Position,
    end: Position,
}

/// Counted from 1; columns in characters.
#[derive(Clone, Copy, Deserialize)]
struct Position {
    line: usize,
    column: usize,
}

/// What became of a mutant.
#[derive(Serialize, Deserialize)]
struct Verdict {
    mutant: String,
    outcome: Outcome,
    /// The scenarios that failed before the run ended, or what else ended it, each with its first failure: by that it can be
    /// seen whether it failed for the mutant's sake.
    by: BTreeMap<String, String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Outcome {
    /// A scenario failed, or the operator did not start.
    Killed,
    /// Every scenario passed.
    Survived,
    /// It does not compile.
    Unviable,
}

impl Mutant {
    fn applied_to(&self, source: &str) -> String {
        let (start, end) = (offset(source, self.span.start), offset(source, self.span.end));
        // As cargo-mutants does it: a comment after the replacement.
        format!("{}{} /* mutant */{}", &source[..start], self.replacement, &source[end..])
    }
}

/// Where a position is, in bytes.
fn offset(source: &str, position: Position) -> usize {
    let line: usize = source.split_inclusive('\n').take(position.line - 1).map(str::len).sum();
    let within = source[line..].char_indices().nth(position.column - 1);
    line + within.map_or(source[line..].len(), |(offset, _)| offset)
}

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    let sample = Trial::test("sample", sample).with_ignored_flag(true);
    let stable = Trial::test("lines_that_move_change_no_lot", lines_that_move_change_no_lot);
    libtest_mimic::run(&arguments, vec![sample, stable]).exit_code()
}

fn lines_that_move_change_no_lot() -> Result<(), Failed> {
    let drawn = |lines: [usize; 4]| -> Vec<String> {
        let names = ["replace a -> bool with true", "replace == with !=", "replace == with !=", "delete !"];
        let mutant = |(line, name): (usize, &str)| Mutant {
            name: format!("src/a.rs:{line}:5: {name} in b"),
            file: "src/a.rs".to_owned(),
            span: Span { start: Position { line, column: 5 }, end: Position { line, column: 6 } },
            replacement: String::new(),
            identity: String::new(),
        };
        let mut mutants: Vec<_> = lines.into_iter().zip(names).map(mutant).collect();
        identify(&mut mutants);
        let (drawn, rest) = draw(mutants, 3, 1);
        assert_eq!((drawn.len(), rest.len()), (3, 1));
        drawn.into_iter().chain(rest).map(|mutant| mutant.identity).collect()
    };
    let before = drawn([1, 2, 3, 4]);
    let same = before == drawn([10, 22, 33, 44]);
    let told_apart = before.contains(&"src/a.rs: replace == with != in b (2)".to_owned());
    if same && told_apart { Ok(()) } else { Err(format!("{before:?}").into()) }
}

fn sample() -> Result<(), Failed> {
    let list = ["mutants", "--package=dittofs-operator", "--list", "--json"];
    let listed = run(Command::new("cargo").args(list).current_dir(repository()))?;
    let mut mutants: Vec<Mutant> = serde_json::from_str(&listed).map_err(|error| error.to_string())?;
    identify(&mut mutants);
    let total = mutants.len();
    let directory = repository().join("target/mutants");
    let missed = fs::read_to_string(directory.join("mutants.out/missed.txt")).unwrap_or_default();
    let missed: BTreeSet<&str> = missed.lines().collect();
    let (drawn, rest) = draw(mutants, number("MUTANTS_SAMPLE", 60), number("MUTANTS_SEED", 1));
    let missed: Vec<Mutant> = rest.into_iter().filter(|mutant| missed.contains(&*mutant.name)).collect();
    let results = directory.join("scenarios.jsonl");
    fs::create_dir_all(&directory)?;
    let known = verdicts(&results)?;
    let all = drawn.iter().chain(&missed);
    let open = all.filter(|mutant| !known.contains_key(&mutant.identity)).collect::<Vec<_>>();
    let (sample, others) = (drawn.len(), missed.len());
    eprintln!("{sample} of {total} mutants, and {others} that unit tests have missed; {} not tried yet", open.len());

    let queue = Mutex::new(open.into_iter());
    let next = || queue.lock().expect("nobody fails while holding it").next();
    let worker = || -> Result<(), String> {
        while let Some(mutant) = next() {
            // What cannot be judged now is told, and left for the next time.
            let Ok(verdict) = judge(mutant, &killers(&results)?).inspect_err(|failed| {
                eprintln!("Not judged: {}: {}", mutant.identity, failed.message().unwrap_or_default());
            }) else {
                continue;
            };
            eprintln!("{:?}: {} {:?}", verdict.outcome, verdict.mutant, verdict.by.keys());
            let line = serde_json::to_string(&verdict).map_err(|error| error.to_string())? + "\n";
            let mut file =
                OpenOptions::new().create(true).append(true).open(&results).map_err(|error| error.to_string())?;
            file.write_all(line.as_bytes()).map_err(|error| error.to_string())?;
        }
        Ok(())
    };
    thread::scope(|scope| {
        let workers = (0..number("MUTANTS_JOBS", 1)).map(|_| scope.spawn(worker)).collect::<Vec<_>>();
        workers.into_iter().try_for_each(|worker| worker.join().expect("a worker does not panic"))
    })?;

    let known = verdicts(&results)?;
    let open = drawn.iter().chain(&missed).filter(|mutant| !known.contains_key(&mutant.identity)).count();
    if open > 0 {
        return Err(format!("{open} mutants could not be judged").into());
    }
    for (name, mutants) in [("the sample", &drawn), ("what unit tests have missed", &missed)] {
        let of = |outcome| mutants.iter().filter(|mutant| known[&mutant.identity].outcome == outcome).count();
        let (killed, survived) = (of(Outcome::Killed), of(Outcome::Survived));
        eprintln!("{name}: {killed} killed, {survived} survived, {} unviable", of(Outcome::Unviable));
    }
    Ok(())
}

/// Gives every mutant its identity. `mutants` are in the order of the source.
fn identify(mutants: &mut [Mutant]) {
    let mut seen: BTreeMap<String, usize> = BTreeMap::new();
    for mutant in mutants {
        let rest = mutant.name.trim_start_matches(&mutant.file).trim_start_matches([':', ' ']);
        let rest = rest.trim_start_matches(|c: char| c.is_ascii_digit() || c == ':').trim_start();
        let name = format!("{}: {rest}", mutant.file);
        let nth = seen.entry(name.clone()).or_default();
        *nth += 1;
        mutant.identity = if *nth == 1 { name } else { format!("{name} ({nth})") };
    }
}

/// Draws from every file by its share, at least one. The second part is the rest.
fn draw(mutants: Vec<Mutant>, size: usize, seed: usize) -> (Vec<Mutant>, Vec<Mutant>) {
    let total = mutants.len();
    let mut files: BTreeMap<String, Vec<Mutant>> = BTreeMap::new();
    for mutant in mutants {
        files.entry(mutant.file.clone()).or_default().push(mutant);
    }
    let lot = |mutant: &Mutant| Sha256::digest(format!("{seed} {}", mutant.identity));
    let (mut drawn, mut rest) = (Vec::new(), Vec::new());
    for (_, mut mutants) in files {
        let share = (mutants.len() * size).div_ceil(total);
        mutants.sort_by_cached_key(lot);
        rest.extend(mutants.split_off(share));
        drawn.extend(mutants);
    }
    drawn.sort_by_cached_key(lot);
    (drawn, rest)
}

/// Builds the operator with the change in it, and runs the suite until something fails: `first` some scenarios of it, then all.
fn judge(mutant: &Mutant, first: &[String]) -> Result<Verdict, Failed> {
    let verdict = |outcome, by| Ok(Verdict { mutant: mutant.identity.clone(), outcome, by });
    let copy = Copy::take()?;
    let file = copy.path.join(&mutant.file);
    let source = fs::read_to_string(&file)?;
    fs::write(&file, mutant.applied_to(&source))?;

    let mut build = Command::new("cargo");
    build.args(["build", "--quiet", "--workspace", "--bin=dittofs-operator"]).current_dir(&copy.path);
    build.env_remove("CARGO_TARGET_DIR").stderr(Stdio::null());
    if !build.status()?.success() {
        return verdict(Outcome::Unviable, BTreeMap::new());
    }
    for names in [first, &[]].iter().skip(usize::from(first.is_empty())) {
        let reports = tempfile::tempdir()?;
        let output = copy.suite(reports.path()).arg("--fail-fast").args(*names).output()?;
        match output.status.code() {
            Some(0) => {}
            Some(1) => return verdict(Outcome::Killed, unsuccessful(reports.path(), "failed")?),
            Some(11) => return verdict(Outcome::Killed, BTreeMap::from([(NO_START.to_owned(), String::new())])),
            code => {
                let errors = unsuccessful(reports.path(), "error").unwrap_or_default();
                let said = String::from_utf8_lossy(&output.stderr);
                return Err(format!("the suite ended with {code:?}: {errors:?}\n{said}").into());
            }
        }
    }
    verdict(Outcome::Survived, BTreeMap::new())
}

/// The scenarios that have killed most of the mutants so far, which are tried first.
fn killers(results: &PathBuf) -> Result<Vec<String>, String> {
    let mut kills: BTreeMap<String, usize> = BTreeMap::new();
    let known = verdicts(results).map_err(|failed| format!("{failed:?}"))?;
    for scenario in known.into_values().flat_map(|verdict| verdict.by.into_keys()).filter(|by| by != NO_START) {
        *kills.entry(scenario).or_default() += 1;
    }
    let mut kills: Vec<_> = kills.into_iter().collect();
    kills.sort_by_key(|(_, times)| std::cmp::Reverse(*times));
    Ok(kills.into_iter().take(FIRST).map(|(scenario, _)| format!("={scenario}")).collect())
}

/// The scenarios with a verdict, each with its first failure.
fn unsuccessful(reports: &Path, verdict: &str) -> Result<BTreeMap<String, String>, Failed> {
    let report: Value = serde_json::from_str(&fs::read_to_string(reports.join("report.json"))?)?;
    let outcomes = report["outcomes"].as_array().into_iter().flatten();
    let failed = outcomes.filter(|outcome| outcome["verdict"] == verdict);
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    Ok(failed.map(|one| (text(&one["scenario"]), text(&one["failures"][0]["message"]))).collect())
}

fn verdicts(results: &PathBuf) -> Result<BTreeMap<String, Verdict>, Failed> {
    let Ok(lines) = fs::read_to_string(results) else { return Ok(BTreeMap::new()) };
    let read = |line| serde_json::from_str(line).map(|verdict: Verdict| (verdict.mutant.clone(), verdict));
    Ok(lines.lines().map(read).collect::<Result<_, _>>()?)
}

fn number(variable: &str, default: usize) -> usize {
    std::env::var(variable).ok().and_then(|value| value.parse().ok()).unwrap_or(default)
}
