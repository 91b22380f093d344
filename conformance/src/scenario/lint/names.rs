//! Guards and faults: what is released exists, and every guard is released.

use std::collections::BTreeMap;
use std::ops::Range;

use crate::scenario::diagnostic::{Diagnostic, Source};
use crate::scenario::nearest::nearest;
use crate::scenario::node::Node;
use crate::scenario::operations::{Action, Release};

use super::{Place, Problems};

/// The guards and faults of a scenario, by name.
#[derive(Default)]
pub(super) struct Names {
    guards: BTreeMap<String, State>,
    faults: BTreeMap<String, State>,
}

enum State {
    /// Where it began: file and place.
    Open(Source, Range<usize>),
    Released,
}

impl Names {
    pub(super) fn operation(&mut self, action: &Action, place: Place, node: &Node, problems: &mut Problems) {
        let span = |field: &str| node.get(field).map_or(node.span.clone(), |node| node.span.clone());
        match action {
            Action::Guard(guard) => {
                let span = span("name");
                if place == Place::Afterwards {
                    problems.add(&span, "a guard stands in `try`", None);
                }
                begin(&mut self.guards, "guard", &guard.name, span, problems);
            }
            Action::Fault(fault) => {
                begin(&mut self.faults, "fault", &fault.name, span("name"), problems);
                if fault.inject.is_momentary() {
                    self.faults.insert(fault.name.clone(), State::Released);
                }
            }
            Action::Release(Release::Guard(name)) => {
                let span = span("guard");
                if place == Place::Afterwards {
                    let help = "in `catch` and `finally` its verdict would change nothing".to_owned();
                    problems.add(&span, "a guard is released in `try`", help);
                }
                end(&mut self.guards, "guard", name, &span, problems);
            }
            Action::Release(Release::Fault(name)) => end(&mut self.faults, "fault", name, &span("fault"), problems),
            _ => {}
        }
    }

    /// To be called after the last operation.
    pub(super) fn end(self, problems: &mut Problems) {
        for (name, state) in self.guards {
            if let State::Open(source, span) = state {
                let help = format!("end it with `release: {{guard: {name}}}`, where it is judged");
                let message = format!("the guard `{name}` is never released");
                problems.found.push(Diagnostic::new(&source, span, message).help(help));
            }
        }
    }
}

fn begin(known: &mut BTreeMap<String, State>, what: &str, name: &str, span: Range<usize>, problems: &mut Problems) {
    if known.contains_key(name) {
        problems.add(&span, format!("there is a {what} called `{name}` already"), None);
    }
    known.insert(name.to_owned(), State::Open(problems.source.clone(), span));
}

fn end(known: &mut BTreeMap<String, State>, what: &str, name: &str, span: &Range<usize>, problems: &mut Problems) {
    match known.get_mut(name) {
        Some(state @ State::Open(..)) => *state = State::Released,
        Some(State::Released) => problems.add(span, format!("the {what} `{name}` is over already"), None),
        None => {
            let help = nearest(name, known.keys().map(String::as_str)).map(|near| format!("did you mean `{near}`?"));
            problems.add(span, format!("no {what} called `{name}` stands above"), help);
        }
    }
}
