//! Words to the person at the terminal, while there is still something to do.
//!
//! Base layer.

use std::io::Write as _;

/// A line on standard error. What cannot be written is lost: on a full disk, or to a terminal that is gone, `eprintln!`
/// panics, and what was to be cleaned up stays.
pub fn say(line: &str) {
    let _ = writeln!(anstream::stderr(), "{line}");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::passes_on_a_full_disk;

    /// Not a test by itself: this very program, started by the next test with a standard error that is full.
    #[test]
    #[ignore = "the program that the next test starts"]
    fn a_program_that_says_something() {
        say("this is lost");
    }

    #[test]
    fn what_cannot_be_said_is_no_panic() {
        passes_on_a_full_disk("say::tests::a_program_that_says_something");
    }
}
