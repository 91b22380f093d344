//! Expressions in values: `${…}` holds CEL, as in kro.
//!
//! A string that is nothing but one `${…}` becomes the value of the expression, of whatever type. Inside a longer
//! string the value becomes text. `$${` is a plain `${`. Bindings are CEL variables: `${namespace}`, `${env.s3.bucket}`.
//! Keys of maps are never expressions.

mod bindings;
mod cel;
mod check;
mod evaluate;
mod template;

pub use bindings::Bindings;
pub use cel::Compiled;
pub use check::{Problem, Scope, check};
pub(crate) use evaluate::resolved;
pub use evaluate::{ExpressionError, evaluate, evaluate_as, evaluate_text};
pub(crate) use template::Template;

/// The variable that stands for the judged value in a pattern.
pub const SELF: &str = "self";

/// The variable that stands for what an operation gave, in its `outputs`.
pub const RESULT: &str = "result";
/// The number of a repetition, in what `times` repeats.
pub const INDEX: &str = "index";
