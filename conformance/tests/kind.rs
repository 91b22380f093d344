//! What is left on the machine, and what is said, when a run on a kind cluster ends at a bad moment.
//!
//! Started by `just leaks-kind`; needs Docker and a node image (`CONFORMANCE_NODE_IMAGE`), takes minutes. Every round has a
//! state directory, a kubeconfig and a directory for temporary files of its own. Others may use the same daemon: only what
//! carries the names of the round's own runs is looked for.

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use conformance::process::{Signal, list};
use nix::unistd::Pid;

/// Bounds a whole run on a busy machine; only a defect lets a round reach it.
const RUN: Duration = Duration::from_mins(8);
/// Bounds what is left to do when a run was told to end.
const END: Duration = Duration::from_mins(1);
/// How often a state that nothing announces is looked at.
const LOOK: Duration = Duration::from_millis(50);

/// One run and everything that belongs to it.
struct Round {
    directory: tempfile::TempDir,
    runs: BTreeSet<String>,
    volumes: BTreeSet<String>,
}

impl Round {
    fn new() -> Self {
        // The paths of sockets must be short.
        let directory = tempfile::Builder::new().prefix("kind-").tempdir_in("/tmp").unwrap();
        fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o711)).unwrap();
        fs::write(directory.path().join("kubeconfig"), "kind: Config\napiVersion: v1\ncurrent-context: mine\n")
            .unwrap();
        Self { directory, runs: BTreeSet::new(), volumes: BTreeSet::new() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn conformance(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_conformance"));
        command.args(arguments).current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/.."));
        command.env("TMPDIR", self.directory.path()).env("XDG_STATE_HOME", self.path("state"));
        command.env("KUBECONFIG", self.path("kubeconfig")).stdin(Stdio::null());
        command
    }

    /// A runner in a process group of its own, as a shell would start it, and what it says.
    fn start(&self, more: &[&str]) -> (Child, Receiver<String>) {
        let reports = self.path("reports");
        let mut command = self.conformance(&["run", "--env", "kind", "--percona", "double", "--offline"]);
        command.args(["--filter", "secret_delayed", "--report-dir"]).arg(reports).args(more);
        let mut runner = command.stdout(Stdio::null()).stderr(Stdio::piped()).process_group(0).spawn().unwrap();
        let (tell, said) = channel();
        let stderr = BufReader::new(runner.stderr.take().unwrap());
        std::thread::spawn(move || {
            for line in stderr.lines().map_while(Result::ok) {
                eprintln!("    {line}");
                let _ = tell.send(line);
            }
        });
        (runner, said)
    }

    /// Notes which runs there are, and what they have in Docker that does not carry their names.
    fn note(&mut self) {
        let base = self.path(&format!("dittofs-conformance-{}", nix::unistd::geteuid()));
        self.runs.extend(list(&base).unwrap_or_default().iter().map(|run| run.id().to_owned()));
        for container in self.containers() {
            let format = "{{range .Mounts}}{{if eq .Type \"volume\"}}{{.Name}} {{end}}{{end}}";
            self.volumes
                .extend(docker(&["inspect", "--format", format, &container]).split_whitespace().map(str::to_owned));
        }
    }

    fn containers(&self) -> Vec<String> {
        let names = docker(&["ps", "--all", "--format", "{{.Names}}"]);
        names
            .lines()
            .filter(|name| self.runs.iter().any(|run| name.contains(run.as_str())))
            .map(str::to_owned)
            .collect()
    }

    /// Nothing in Docker, no file, no process, and nobody's kubeconfig was touched.
    fn check(&self) {
        assert!(!self.runs.is_empty(), "no run was seen");
        assert_eq!(self.containers(), Vec::<String>::new(), "containers");
        let volumes: BTreeSet<String> = docker(&["volume", "ls", "--quiet"]).lines().map(str::to_owned).collect();
        assert_eq!(volumes.intersection(&self.volumes).collect::<Vec<_>>(), Vec::<&String>::new(), "volumes");
        let temporary = docker(&["images", "--quiet", "--filter", "label=com.dittofs.conformance=temporary"]);
        assert_eq!(temporary, "", "images");
        assert!(!self.path("state").join("dittofs-conformance").exists(), "the ledger");
        let kubeconfig = fs::read_to_string(self.path("kubeconfig")).unwrap();
        assert!(kubeconfig.contains("current-context: mine") && !kubeconfig.contains("clusters"), "{kubeconfig}");
        let base = self.path(&format!("dittofs-conformance-{}", nix::unistd::geteuid()));
        let left: Vec<String> = list(&base).unwrap().iter().map(|run| run.id().to_owned()).collect();
        assert_eq!(left, Vec::<String>::new(), "directories of runs");
    }
}

fn docker(arguments: &[&str]) -> String {
    let output = Command::new("docker").args(arguments).output().unwrap();
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

/// Waits until the runner says a line that contains `words`.
fn wait_for(round: &mut Round, said: &Receiver<String>, words: &str) {
    let deadline = Instant::now() + RUN;
    loop {
        assert!(Instant::now() < deadline, "it never said {words:?}");
        match said.recv_timeout(LOOK) {
            Ok(line) if line.contains(words) => return round.note(),
            Ok(_) => {}
            Err(std::sync::mpsc::RecvTimeoutError::Timeout) => round.note(),
            Err(error) => panic!("it ended without saying {words:?}: {error}"),
        }
    }
}

fn wait(runner: &mut Child, limit: Duration) -> ExitStatus {
    let deadline = Instant::now() + limit;
    loop {
        if let Some(status) = runner.try_wait().unwrap() {
            return status;
        }
        assert!(Instant::now() < deadline, "the runner does not end");
        std::thread::sleep(LOOK);
    }
}

fn signal(pid: u32, signal: Signal) {
    nix::sys::signal::kill(Pid::from_raw(pid.try_into().unwrap()), signal).unwrap();
}

/// Interrupted at each of these words, a run ends with 130 and leaves nothing.
#[rstest::rstest]
#[case::at_the_beginning("creating the kind cluster")]
#[case::while_images_are_loaded("loading images into the nodes")]
#[case::while_minio_starts("starting dittofs-conformance/minio")]
#[case::while_the_operator_is_installed("installing dittofs-operator")]
#[case::while_scenarios_run("installing dittofs-operator: done")]
#[ignore = "needs Docker; `just leaks-kind`"]
fn interrupted_at_any_phase_it_leaves_nothing(#[case] words: &str) {
    let mut round = Round::new();
    let (mut runner, said) = round.start(&[]);
    wait_for(&mut round, &said, words);
    let begin = Instant::now();
    signal(runner.id(), Signal::SIGINT);
    let status = wait(&mut runner, END);
    eprintln!("ended {:?} after Ctrl-C at {words:?}", begin.elapsed());
    assert_eq!(status.code(), Some(130), "{status}");
    round.check();
}

#[test]
#[ignore = "needs Docker; `just leaks-kind`"]
fn when_the_runner_is_killed_the_supervisor_cleans_up() {
    let mut round = Round::new();
    let (mut runner, said) = round.start(&[]);
    wait_for(&mut round, &said, "installing dittofs-operator: done");
    signal(runner.id(), Signal::SIGKILL);
    runner.wait().unwrap();
    let deadline = Instant::now() + END;
    let base = round.path(&format!("dittofs-conformance-{}", nix::unistd::geteuid()));
    while !list(&base).unwrap().is_empty() {
        assert!(Instant::now() < deadline, "the supervisor does not end");
        std::thread::sleep(LOOK);
    }
    round.check();
}

#[test]
#[ignore = "needs Docker; `just leaks-kind`"]
fn when_the_supervisor_is_killed_clean_does_the_rest() {
    let mut round = Round::new();
    let (mut runner, said) = round.start(&[]);
    wait_for(&mut round, &said, "installing dittofs-operator: done");
    let base = round.path(&format!("dittofs-conformance-{}", nix::unistd::geteuid()));
    let run = list(&base).unwrap().remove(0);
    signal(run.state.unwrap().supervisor.pid, Signal::SIGKILL);
    assert_eq!(wait(&mut runner, RUN).code(), Some(3), "an environment failure");
    assert!(!round.containers().is_empty(), "somebody else has cleaned up");
    let output = round.conformance(&["clean"]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success() && said.contains("removed 1 kind cluster(s)"), "{said}");
    round.check();
}

/// A kept cluster is used again when it fits, and the message says why one does not.
#[test]
#[ignore = "needs Docker; `just leaks-kind`"]
fn a_kept_cluster_is_used_again_until_it_is_cleaned() {
    let mut round = Round::new();
    let (mut runner, said) = round.start(&["--keep"]);
    wait_for(&mut round, &said, "installing dittofs-operator: done");
    assert_eq!(wait(&mut runner, RUN).code(), Some(0));
    let kept = round.containers();
    assert_eq!(kept.len(), 1, "the node stays, and nothing else: {kept:?}");

    let changed = round.path("changed.yaml");
    let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../kind-config.yaml")).unwrap();
    fs::write(&changed, text + "# changed\n").unwrap();
    let (mut runner, said) = round.start(&["--reuse", "--kind-config", changed.to_str().unwrap()]);
    wait_for(&mut round, &said, "kind's configuration has changed");
    assert_eq!(wait(&mut runner, END).code(), Some(3));

    let (mut runner, said) = round.start(&["--reuse", "--keep"]);
    wait_for(&mut round, &said, "taking the kept cluster");
    assert_eq!(wait(&mut runner, RUN).code(), Some(0));
    round.note();
    assert_eq!(round.containers(), kept);

    assert!(round.conformance(&["clean"]).status().unwrap().success());
    assert_eq!(round.containers(), kept, "only when it is asked for");
    assert!(round.conformance(&["clean", "--kept"]).status().unwrap().success());
    round.check();
}

/// One that somebody has stopped or deleted by hand is told, and the second is forgotten.
#[test]
#[ignore = "needs Docker; `just leaks-kind`"]
fn a_kept_cluster_that_was_deleted_by_hand_is_made_again() {
    let mut round = Round::new();
    let (mut runner, said) = round.start(&["--keep"]);
    wait_for(&mut round, &said, "installing dittofs-operator: done");
    assert_eq!(wait(&mut runner, RUN).code(), Some(0));
    let [node] = &round.containers()[..] else { panic!("one node is kept") };

    docker(&["stop", "--time", "0", node]);
    let (mut runner, said) = round.start(&["--reuse"]);
    wait_for(&mut round, &said, "its node does not run");
    assert_eq!(wait(&mut runner, END).code(), Some(3));

    docker(&["rm", "--force", "--volumes", node]);
    let (mut runner, said) = round.start(&["--reuse"]);
    wait_for(&mut round, &said, "was deleted by somebody");
    wait_for(&mut round, &said, "creating the kind cluster");
    assert_eq!(wait(&mut runner, RUN).code(), Some(0));
    round.check();
}

/// A daemon that goes away in the middle is an environment failure, told as such; what it holds is removed when it is back.
#[test]
#[ignore = "needs Docker; `just leaks-kind`"]
fn when_the_daemon_goes_away_that_is_said_and_clean_does_the_rest() {
    let mut round = Round::new();
    let relay = Relay::start(&round.path("docker.sock"));
    let host = format!("unix://{}", relay.path.display());
    let mut command = round.conformance(&["run", "--env", "kind", "--percona", "double", "--offline"]);
    command.args(["--filter", "secret_delayed", "--report-dir"]).arg(round.path("reports")).env("DOCKER_HOST", host);
    let log = round.path("log");
    let mut runner =
        command.stdout(fs::File::create(&log).unwrap()).stderr(Stdio::piped()).process_group(0).spawn().unwrap();
    let (tell, said) = channel();
    let stderr = BufReader::new(runner.stderr.take().unwrap());
    std::thread::spawn(move || stderr.lines().map_while(Result::ok).for_each(|line| drop(tell.send(line))));
    wait_for(&mut round, &said, "installing dittofs-operator: done");
    drop(relay);
    assert_eq!(wait(&mut runner, RUN).code(), Some(3), "an environment failure");
    let text = fs::read_to_string(&log).unwrap() + &said.try_iter().collect::<String>();
    assert!(text.contains("the Docker daemon is gone"), "{text}");
    assert!(!round.containers().is_empty());
    assert!(round.conformance(&["clean"]).status().unwrap().success());
    round.check();
}

/// Stands between a run and the daemon. When it is dropped, the daemon is gone for that run.
struct Relay {
    path: PathBuf,
    stop: Option<tokio::sync::oneshot::Sender<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Relay {
    fn start(path: &Path) -> Self {
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        let socket = path.to_owned();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let listener = tokio::net::UnixListener::bind(&socket).unwrap();
                let relaying = async {
                    let mut connections = tokio::task::JoinSet::new();
                    loop {
                        let (mut near, _) = listener.accept().await.unwrap();
                        connections.spawn(async move {
                            let mut far = tokio::net::UnixStream::connect("/var/run/docker.sock").await.unwrap();
                            let _ = tokio::io::copy_bidirectional(&mut near, &mut far).await;
                        });
                    }
                };
                tokio::select! {
                    () = relaying => {}
                    _ = stopped => {}
                }
            });
            fs::remove_file(&socket).unwrap();
        });
        let relay = Self { path: path.to_owned(), stop: Some(stop), thread: Some(thread) };
        while !path.exists() {
            std::thread::sleep(LOOK);
        }
        relay
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        drop(self.stop.take());
        self.thread.take().unwrap().join().unwrap();
    }
}
