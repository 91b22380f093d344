//! What is being prepared, told while it happens.
//!
//! Producers make [`Event`]s; whoever has the terminal shows them with a [`Display`]. The two may be different processes:
//! events can be sent over a socket.

use std::collections::BTreeMap;
use std::io::{IsTerminal as _, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use serde::{Deserialize, Serialize};

use crate::inert::inert;

/// How often a step that takes long reports itself where there is no terminal.
const HEARTBEAT: Duration = Duration::from_secs(15);

/// Something happened to a step.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Event {
    /// It began.
    Begin {
        /// Names the step in later events.
        step: u64,
        /// What is done: `building kube-apiserver v1.34.4`.
        what: String,
        /// What to expect: `about 6 minutes the first time`.
        hint: Option<String>,
    },
    /// It is at this point now.
    Note {
        /// The step.
        step: u64,
        /// One line.
        text: String,
    },
    /// It ended.
    End {
        /// The step.
        step: u64,
        /// Whether it reached its end.
        done: bool,
    },
}

/// The producing side. A cheap handle.
#[derive(Clone)]
pub struct Progress {
    sink: Arc<dyn Fn(Event) + Send + Sync>,
    steps: Arc<AtomicU64>,
}

impl std::fmt::Debug for Progress {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Progress").finish_non_exhaustive()
    }
}

impl Progress {
    /// Sends every event to `sink`.
    pub fn new(sink: impl Fn(Event) + Send + Sync + 'static) -> Self {
        Self { sink: Arc::new(sink), steps: Arc::default() }
    }

    /// Tells nobody.
    pub fn silent() -> Self {
        Self::new(|_| ())
    }

    /// Begins a step; it ends when it is dropped.
    pub fn begin(&self, what: impl Into<String>, hint: Option<&str>) -> Step {
        let id = self.steps.fetch_add(1, Ordering::Relaxed);
        (self.sink)(Event::Begin { step: id, what: what.into(), hint: hint.map(str::to_owned) });
        Step { id, progress: self.clone(), done: false }
    }
}

/// A step that is under way. Dropped without [`Step::done`], it counts as failed.
#[derive(Debug)]
pub struct Step {
    id: u64,
    progress: Progress,
    done: bool,
}

impl Step {
    /// Says where it is now.
    pub fn note(&self, text: impl Into<String>) {
        (self.progress.sink)(Event::Note { step: self.id, text: text.into() });
    }

    /// It has reached its end.
    pub fn done(mut self) {
        self.done = true;
    }
}

impl Drop for Step {
    fn drop(&mut self) {
        (self.progress.sink)(Event::End { step: self.id, done: self.done });
    }
}

/// The showing side: spinners on a terminal, plain lines elsewhere (logs of CI). A cheap handle.
#[derive(Clone)]
pub struct Display {
    inner: Arc<Inner>,
}

enum Inner {
    Spinners { bars: MultiProgress, shown: Mutex<BTreeMap<u64, ProgressBar>> },
    Lines { out: Mutex<Lines>, heartbeat: Duration },
}

struct Lines {
    out: Box<dyn Write + Send>,
    steps: BTreeMap<u64, Shown>,
}

struct Shown {
    what: String,
    note: Option<String>,
    since: Instant,
    told: Instant,
}

impl Display {
    /// Shows on standard error, in the way that suits it.
    pub fn stderr() -> Self {
        if std::io::stderr().is_terminal() {
            let inner = Inner::Spinners { bars: MultiProgress::new(), shown: Mutex::default() };
            Self { inner: Arc::new(inner) }
        } else {
            Self::lines(std::io::stderr(), HEARTBEAT)
        }
    }

    fn lines(out: impl Write + Send + 'static, heartbeat: Duration) -> Self {
        let out = Mutex::new(Lines { out: Box::new(out), steps: BTreeMap::new() });
        Self { inner: Arc::new(Inner::Lines { out, heartbeat }) }
    }

    /// A producing side whose events are shown here.
    pub fn progress(&self) -> Progress {
        let display = self.clone();
        Progress::new(move |event| display.show(event))
    }

    /// Shows one event.
    pub fn show(&self, event: Event) {
        match &*self.inner {
            Inner::Spinners { bars, shown } => spin(bars, &mut lock(shown), event),
            Inner::Lines { out, heartbeat } => lock(out).show(event, *heartbeat),
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn spin(bars: &MultiProgress, shown: &mut BTreeMap<u64, ProgressBar>, event: Event) {
    match event {
        Event::Begin { step, what, hint } => {
            let style = ProgressStyle::with_template("{spinner} {prefix} [{elapsed}] {wide_msg:.dim}");
            let bar = bars.add(ProgressBar::new_spinner());
            bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_spinner()));
            bar.set_prefix(what);
            bar.set_message(hint.unwrap_or_default());
            bar.enable_steady_tick(Duration::from_millis(120));
            shown.insert(step, bar);
        }
        Event::Note { step, text } => {
            if let Some(bar) = shown.get(&step) {
                bar.set_message(text);
            }
        }
        Event::End { step, .. } => {
            if let Some(bar) = shown.remove(&step) {
                bar.finish_and_clear();
            }
        }
    }
}

impl Lines {
    /// Builds and downloads speak all the time, so a heartbeat needs no timer: the next note after the interval is told.
    fn show(&mut self, event: Event, heartbeat: Duration) {
        match event {
            Event::Begin { step, what, hint } => {
                self.tell(&format!("{what}{} …", hint.map(|hint| format!(" ({hint})")).unwrap_or_default()));
                let now = Instant::now();
                self.steps.insert(step, Shown { what, note: None, since: now, told: now });
            }
            Event::Note { step, text } => {
                let Some(shown) = self.steps.get_mut(&step) else { return };
                shown.note = Some(text);
                if shown.told.elapsed() >= heartbeat {
                    shown.told = Instant::now();
                    let line = shown.to_string();
                    self.tell(&line);
                }
            }
            Event::End { step, done } => {
                let Some(shown) = self.steps.remove(&step) else { return };
                let took = shown.since.elapsed().as_secs();
                self.tell(&format!("{}: {} after {took} s", shown.what, if done { "done" } else { "failed" }));
            }
        }
    }

    fn tell(&mut self, line: &str) {
        // Whoever closed standard error does not want to know.
        let _ = writeln!(self.out, "{}", inert(line)).and_then(|()| self.out.flush());
    }
}

impl std::fmt::Display for Shown {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{} … {} s", self.what, self.since.elapsed().as_secs())?;
        self.note.iter().try_for_each(|note| write!(formatter, ": {note}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Clone, Default)]
    struct Buffer(Arc<Mutex<Vec<u8>>>);

    impl Write for Buffer {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            lock(&self.0).write(bytes)
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    fn told(heartbeat: Duration) -> String {
        let buffer = Buffer::default();
        let progress = Display::lines(buffer.clone(), heartbeat).progress();
        let build = progress.begin("building etcd v3.6.5", Some("about a minute the first time"));
        build.note("go.uber.org/zap");
        let fetch = progress.begin("fetching PostgreSQL 16", None);
        build.done();
        drop(fetch);
        String::from_utf8(std::mem::take(&mut lock(&buffer.0))).unwrap()
    }

    #[test]
    fn every_step_is_told_when_it_begins_and_ends() {
        insta::assert_snapshot!(told(HEARTBEAT), @r"
        building etcd v3.6.5 (about a minute the first time) …
        fetching PostgreSQL 16 …
        building etcd v3.6.5: done after 0 s
        fetching PostgreSQL 16: failed after 0 s
        ");
    }

    #[test]
    fn a_step_that_takes_long_says_where_it_is() {
        assert!(told(Duration::ZERO).contains("building etcd v3.6.5 … 0 s: go.uber.org/zap\n"));
    }
}
