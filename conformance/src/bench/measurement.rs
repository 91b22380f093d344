//! What was measured. Pure.

use serde::Serialize;

use super::memory::Memory;
use crate::environment::Description;

/// A distribution of numbers of one unit.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Spread {
    /// How many there are.
    pub count: usize,
    /// The least.
    pub min: f64,
    /// Half are not above.
    pub p50: f64,
    /// Ninety-nine in a hundred are not above.
    pub p99: f64,
    /// The greatest.
    pub max: f64,
}

impl Spread {
    /// Of `values`; `None` when there are none. Percentiles are values that were seen (nearest rank).
    pub fn of(values: &[f64]) -> Option<Self> {
        let mut sorted = values.to_vec();
        sorted.sort_by(f64::total_cmp);
        let (min, max) = (*sorted.first()?, *sorted.last()?);
        let at = |percent: usize| sorted[(sorted.len() * percent).div_ceil(100).max(1) - 1];
        Some(Self { count: sorted.len(), min, p50: at(50), p99: at(99), max })
    }
}

/// What `conformance bench` has measured. Times are in seconds, latencies in milliseconds.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Measurement {
    /// What was running.
    pub description: Description,
    /// How many processors there are.
    pub processors: usize,
    /// How often everything was done.
    pub rounds: u32,
    /// How many scenarios were run.
    pub scenarios: usize,
    /// How many of them at a time.
    pub parallel: usize,
    /// From nothing to the first object that could be applied: the operator serves by then.
    pub up: Spread,
    /// The scenarios, beside each other.
    pub run: Spread,
    /// From the order to end until nothing runs any more.
    pub down: Spread,
    /// From receiving a write to the verdict, one scenario at a time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub verdict_from_received: Option<Spread>,
    /// From answering a write to the verdict, one scenario at a time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub verdict_from_answered: Option<Spread>,
    /// The most memory that was needed at a time: everything together.
    pub memory: Memory,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_values_that_were_seen() {
        let values: Vec<f64> = (1..=200).rev().map(f64::from).collect();
        assert_eq!(Spread::of(&values), Some(Spread { count: 200, min: 1.0, p50: 100.0, p99: 198.0, max: 200.0 }));
        assert_eq!(Spread::of(&[3.0]), Some(Spread { count: 1, min: 3.0, p50: 3.0, p99: 3.0, max: 3.0 }));
        assert_eq!(Spread::of(&[]), None);
    }
}
