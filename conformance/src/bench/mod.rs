//! Measuring: how long things take, and how much memory they need.
//!
//! Judging layer, beside `report`: plain data in, plain data and a table out. What is run is the entry layer's business.
//! Nothing here gives a verdict: numbers that hang on the machine are printed and written down, never asserted.

mod latency;
mod measurement;
mod memory;
mod table;

pub use latency::{Latencies, Writes};
pub use measurement::{Measurement, Spread};
pub use memory::{Memory, Sampler};
pub use table::table;
