//! One probe of one running container: when it is asked, and how.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use http_body_util::{BodyExt as _, Empty};
use hyper::body::Bytes;
use hyper_util::rt::TokioIo;
use k8s_openapi::api::core::v1::{Container, HTTPGetAction, Probe};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep_until, timeout};

use super::counter::Counter;
use super::expansion::expand;
use super::image::find_locally;
use super::surroundings::Surroundings;
use crate::process::Spawner;

/// The shortest time between two questions to a container that has not said yes yet.
const EAGER: Duration = Duration::from_millis(25);

/// Longest part of a command's output that goes into a message.
const EXCERPT: usize = 200;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    Startup,
    Readiness,
    Liveness,
}

impl Purpose {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Startup => "Startup",
            Self::Readiness => "Readiness",
            Self::Liveness => "Liveness",
        }
    }
}

/// What a probe needs to know of its container.
#[derive(Clone, Debug)]
pub(super) struct Subject {
    pub(super) container: Container,
    pub(super) address: IpAddr,
    pub(super) surroundings: Surroundings,
    pub(super) spawner: Spawner,
}

/// When a probe is asked.
///
/// The kubelet asks every `periodSeconds`, and not before `initialDelaySeconds` are over: for the first time within a period
/// after that, here at its end. A container that has not yet said yes is asked more often here, and soon after its
/// start; of these extra answers only a yes counts. They thin out, so that a yes is seen after a tenth of the time that it
/// took to come.
#[derive(Clone, Debug)]
struct Schedule {
    begin: Instant,
    period: Duration,
    /// The next question that the kubelet would ask.
    regular: Instant,
    eager: bool,
}

impl Schedule {
    fn new(probe: &Probe, purpose: Purpose, begin: Instant) -> Self {
        let seconds = |value: Option<i32>, default: u64| {
            Duration::from_secs(value.and_then(|value| value.try_into().ok()).unwrap_or(default))
        };
        let period = seconds(probe.period_seconds, 10).max(Duration::from_secs(1));
        Self {
            begin,
            period,
            regular: begin + seconds(probe.initial_delay_seconds, 0) + period,
            eager: purpose != Purpose::Liveness,
        }
    }

    /// When to ask next, and whether the kubelet would ask then too.
    fn next(&mut self, now: Instant) -> (Instant, bool) {
        let extra = now + ((now - self.begin) / 10).clamp(EAGER, self.period);
        if self.eager && extra < self.regular {
            return (extra, false);
        }
        let at = self.regular.max(now);
        self.regular = at + self.period;
        (at, true)
    }

    fn has_succeeded(&mut self) {
        self.eager = false;
    }
}

/// What a question has led to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Outcome {
    /// What was wrong, when the answer was a failure that counts.
    pub(super) failure: Option<String>,
    /// The verdict, when it is a new one.
    pub(super) verdict: Option<bool>,
}

/// Asks for as long as it is polled, and tells every failure that counts and every new verdict. A startup probe is done when
/// it has succeeded.
pub(super) async fn watch(probe: &Probe, purpose: Purpose, subject: &Subject, mut tell: impl FnMut(Outcome)) {
    let mut counter = Counter::new(probe);
    let mut schedule = Schedule::new(probe, purpose, Instant::now());
    loop {
        let (at, regular) = schedule.next(Instant::now());
        sleep_until(at).await;
        let answer = ask(probe, subject).await;
        if answer.is_ok() {
            schedule.has_succeeded();
        } else if !regular {
            continue;
        }
        let outcome = Outcome { verdict: counter.note(answer.is_ok()), failure: answer.err() };
        let is_up = outcome.verdict == Some(true);
        if outcome != Outcome::default() {
            tell(outcome);
        }
        if is_up && purpose == Purpose::Startup {
            return;
        }
    }
}

/// Asks once; the error says what was wrong, in the kubelet's words.
async fn ask(probe: &Probe, subject: &Subject) -> Result<(), String> {
    let limit = Duration::from_secs(probe.timeout_seconds.and_then(|s| s.try_into().ok()).unwrap_or(1).max(1));
    if let Some(exec) = &probe.exec {
        return execute(exec.command.as_deref().unwrap_or_default(), subject, limit).await;
    }
    let question = async {
        if let Some(get) = &probe.http_get {
            fetch(get, SocketAddr::new(subject.address, port(&get.port, &subject.container)?)).await
        } else if let Some(socket) = &probe.tcp_socket {
            let address = SocketAddr::new(subject.address, port(&socket.port, &subject.container)?);
            TcpStream::connect(address).await.map(drop).map_err(|error| format!("dial tcp {address}: {error}"))
        } else {
            Err("the node double knows only httpGet, tcpSocket and exec probes".to_owned())
        }
    };
    timeout(limit, question).await.unwrap_or_else(|_| Err(format!("no answer within {limit:?}")))
}

async fn execute(command: &[String], subject: &Subject, limit: Duration) -> Result<(), String> {
    let line = command_line(command, &subject.container);
    let launch = subject.surroundings.launch(format!("probe of {}", subject.container.name), &line);
    let completed = subject.spawner.complete(&launch, limit).await.map_err(|error| error.to_string())?;
    if completed.status.success() { Ok(()) } else { Err(excerpt(&(completed.stdout + &completed.stderr))) }
}

/// The command line of an `exec` probe. As with the kubelet, `$(VAR)` sees the values that stand in the container's `env`
/// alone: a variable that comes from elsewhere is empty, and what comes from `envFrom` is unknown.
fn command_line(command: &[String], container: &Container) -> Vec<String> {
    let variables = container.env.iter().flatten();
    let values: BTreeMap<&str, &str> =
        variables.map(|variable| (variable.name.as_str(), variable.value.as_deref().unwrap_or_default())).collect();
    let mut line: Vec<String> = command.iter().map(|word| expand(word, |name| values.get(name).copied())).collect();
    if let Some(program) = line.first_mut() {
        find_locally(program);
    }
    line
}

async fn fetch(get: &HTTPGetAction, address: SocketAddr) -> Result<(), String> {
    if get.scheme.as_deref().is_some_and(|scheme| scheme != "HTTP") {
        return Err("the node double asks over plain HTTP only".to_owned());
    }
    let path = get.path.as_deref().unwrap_or_default();
    let path = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
    let url = format!("http://{address}{path}");
    let failed = |error: &dyn std::fmt::Display| format!("Get {url:?}: {error}");

    let stream = TcpStream::connect(address).await.map_err(|error| failed(&error))?;
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(|error| failed(&error))?;
    let mut request = hyper::Request::get(&path).header("Host", address.to_string()).header("Connection", "close");
    for header in get.http_headers.iter().flatten() {
        request = request.header(&header.name, &header.value);
    }
    let request = request.body(Empty::<Bytes>::new()).map_err(|error| failed(&error))?;
    let exchange = async move {
        let response = sender.send_request(request).await?;
        let status = response.status();
        // Read to its end, as the kubelet does: an answer that breaks off is none.
        response.into_body().collect().await?;
        Ok::<_, hyper::Error>(status)
    };
    // The connection moves the bytes, and ends when the exchange drops its sender. Its error is the exchange's too.
    let (answer, _) = tokio::join!(exchange, connection);
    let status = answer.map_err(|error| failed(&error))?;
    if status.is_success() || status.is_redirection() {
        Ok(())
    } else {
        Err(format!("HTTP probe failed with statuscode: {}", status.as_u16()))
    }
}

fn port(port: &IntOrString, container: &Container) -> Result<u16, String> {
    let number = match port {
        IntOrString::Int(number) => Some(*number),
        IntOrString::String(name) => {
            let mut ports = container.ports.iter().flatten();
            let named = ports.find(|port| port.name.as_ref() == Some(name)).map(|port| port.container_port);
            named.or_else(|| name.parse().ok())
        }
    };
    number.and_then(|number| number.try_into().ok()).ok_or_else(|| format!("couldn't find port: {port:?}"))
}

fn excerpt(text: &str) -> String {
    text.trim().chars().take(EXCERPT).collect()
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    /// The first questions until one is answered with yes, in milliseconds, `!` at those of the kubelet.
    fn questions(probe: &Probe, purpose: Purpose, count: usize) -> Vec<String> {
        let begin = Instant::now();
        let mut schedule = Schedule::new(probe, purpose, begin);
        let mut now = begin;
        (0..count)
            .map(|_| {
                let (at, regular) = schedule.next(now);
                now = at;
                format!("{}{}", (at - begin).as_millis(), if regular { "!" } else { "" })
            })
            .collect()
    }

    #[test]
    fn liveness_is_asked_as_the_kubelet_does() {
        let probe = Probe { initial_delay_seconds: Some(5), period_seconds: Some(3), ..Probe::default() };
        assert_eq!(questions(&probe, Purpose::Liveness, 3), ["8000!", "11000!", "14000!"]);
        assert_eq!(questions(&Probe::default(), Purpose::Liveness, 2), ["10000!", "20000!"]);
    }

    #[test]
    fn a_startup_that_fails_counts_at_the_kubelets_times_alone() {
        let asked = questions(&Probe::default(), Purpose::Startup, 80);
        assert_eq!(asked[..2], ["25", "50"]);
        assert_eq!(asked.iter().filter(|at| at.ends_with('!')).take(2).collect::<Vec<_>>(), ["10000!", "20000!"]);
    }

    #[test]
    fn readiness_is_asked_more_often_until_it_succeeds() {
        let probe = Probe { initial_delay_seconds: Some(1), period_seconds: Some(2), ..Probe::default() };
        let asked = questions(&probe, Purpose::Readiness, 60);
        assert_eq!(asked[..4], ["25", "50", "75", "100"]);
        assert_eq!(
            asked.iter().filter(|at| at.ends_with('!')).take(3).collect::<Vec<_>>(),
            ["3000!", "5000!", "7000!"]
        );
    }

    #[test]
    fn the_extra_questions_thin_out() {
        let asked = questions(&Probe::default(), Purpose::Readiness, 80);
        let times: Vec<u64> = asked.iter().map(|at| at.trim_end_matches('!').parse().unwrap()).collect();
        for pair in times.windows(2) {
            let gap = pair[1] - pair[0];
            assert!(gap <= (pair[0] / 10).max(25) + 1, "{pair:?}");
        }
        assert!(times.last().unwrap() > &10_000, "eighty questions reach far: {times:?}");
    }

    #[test]
    fn after_a_success_the_period_alone_counts() {
        let begin = Instant::now();
        let mut schedule = Schedule::new(&Probe::default(), Purpose::Readiness, begin);
        let (at, regular) = schedule.next(begin);
        assert_eq!((at, regular), (begin + EAGER, false));
        schedule.has_succeeded();
        assert_eq!(schedule.next(at), (begin + Duration::from_secs(10), true));
        assert_eq!(schedule.next(begin + Duration::from_secs(11)), (begin + Duration::from_secs(20), true));
    }

    /// Asks a server that gives every request the same answer; tells the first line of the request, and the result.
    async fn asked(path: Option<&str>, answer: &'static str) -> (String, Result<(), String>) {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let server = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = vec![0; 1000];
            let length = stream.read(&mut request).await.unwrap();
            stream.write_all(answer.as_bytes()).await.unwrap();
            String::from_utf8(request[..length].to_vec()).unwrap()
        });
        let get = HTTPGetAction { path: path.map(str::to_owned), ..HTTPGetAction::default() };
        let result = fetch(&get, address).await.map_err(|error| error.replace(&address.to_string(), "ADDRESS"));
        let line = server.await.unwrap().lines().next().unwrap_or_default().to_owned();
        (line, result)
    }

    #[rstest]
    #[case("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok", Ok(()))]
    #[case("HTTP/1.1 204 No Content\r\n\r\n", Ok(()))]
    #[case("HTTP/1.1 302 Found\r\ncontent-length: 0\r\n\r\n", Ok(()))]
    #[case(
        "HTTP/1.1 503 Service Unavailable\r\ncontent-length: 8\r\n\r\nno disk\n",
        Err("HTTP probe failed with statuscode: 503")
    )]
    #[case("HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n", Err("HTTP probe failed with statuscode: 404"))]
    #[case("", Err("Get \"http://ADDRESS/health?x=1\": connection closed before message completed"))]
    #[tokio::test]
    async fn http_answers(#[case] answer: &'static str, #[case] expected: Result<(), &str>) {
        let (line, result) = asked(Some("/health?x=1"), answer).await;
        assert_eq!((line.as_str(), result), ("GET /health?x=1 HTTP/1.1", expected.map_err(str::to_owned)));
    }

    #[rstest]
    #[case(None, "/")]
    #[case(Some(""), "/")]
    #[case(Some("health"), "/health")]
    #[case(Some("?x=1"), "/?x=1")]
    #[tokio::test]
    async fn a_path_begins_with_a_slash(#[case] path: Option<&str>, #[case] asked_for: &str) {
        let (line, result) = asked(path, "HTTP/1.1 204 No Content\r\n\r\n").await;
        assert_eq!((line, result), (format!("GET {asked_for} HTTP/1.1"), Ok(())));
    }

    #[rstest]
    #[case::stated(&["/bin/sh", "$(A)", "$(B)"], &["/bin/sh", "1", "$(A)2"])]
    #[case::taken_from_elsewhere(&["/bin/sh", "<$(SECRET)>"], &["/bin/sh", "<>"])]
    #[case::not_of_the_spec(&["/bin/sh", "$(HOSTNAME)", "$$(A)"], &["/bin/sh", "$(HOSTNAME)", "$(A)"])]
    #[case::a_missing_absolute_program_is_searched(&["/opt/image/pg_isready", "-q"], &["pg_isready", "-q"])]
    #[case::nothing(&[], &[])]
    fn command_lines(#[case] command: &[&str], #[case] expected: &[&str]) {
        let container: Container = serde_json::from_value(serde_json::json!({"name": "c", "env": [
            {"name": "A", "value": "1"},
            {"name": "B", "value": "$(A)2"},
            {"name": "SECRET", "valueFrom": {"secretKeyRef": {"name": "creds", "key": "uri"}}},
        ]}))
        .unwrap();
        let command: Vec<String> = command.iter().map(|&word| word.to_owned()).collect();
        assert_eq!(command_line(&command, &container), expected);
    }

    #[tokio::test]
    async fn nobody_listens() {
        let address = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let error = fetch(&HTTPGetAction::default(), address).await.unwrap_err();
        assert!(error.ends_with("Connection refused (os error 111)"), "{error}");
    }

    #[test]
    fn ports_are_found_by_name_and_number() {
        let container: Container =
            serde_json::from_value(serde_json::json!({"name": "c", "ports": [{"name": "api", "containerPort": 8080}]}))
                .unwrap();
        assert_eq!(port(&IntOrString::String("api".into()), &container), Ok(8080));
        assert_eq!(port(&IntOrString::Int(99), &container), Ok(99));
        assert!(port(&IntOrString::String("none".into()), &container).is_err());
        assert!(port(&IntOrString::Int(70_000), &container).is_err());
    }
}
