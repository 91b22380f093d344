//! Values by name.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::Value;

/// What expressions may refer to. Cheap to clone: a step takes a copy, adds its own, and drops it at its end.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Bindings(Arc<BTreeMap<String, Value>>);

impl Bindings {
    /// No bindings.
    pub fn new() -> Self {
        Self::default()
    }

    /// Binds `name` to `value`, in place of an older value of that name.
    pub fn set(&mut self, name: impl Into<String>, value: Value) {
        Arc::make_mut(&mut self.0).insert(name.into(), value);
    }

    /// The value of `name`.
    pub fn get(&self, name: &str) -> Option<&Value> {
        self.0.get(name)
    }

    /// All names, in alphabetical order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }
}

impl<N: Into<String>> FromIterator<(N, Value)> for Bindings {
    fn from_iter<I: IntoIterator<Item = (N, Value)>>(iter: I) -> Self {
        Self(Arc::new(iter.into_iter().map(|(name, value)| (name.into(), value)).collect()))
    }
}
