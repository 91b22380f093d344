//! What keeps a run from being one in which all scenarios have passed, so that it cannot say everything of the whole.

/// See the module.
#[derive(Clone, Debug, Default)]
pub struct Missing {
    /// It is of some scenarios.
    pub partial: bool,
    /// The first that did not pass.
    pub unpassed: Option<String>,
}

impl Missing {
    /// Why it says nothing that something was not seen: a scenario that was not run could show it. What was seen is not seen less in
    /// the whole.
    pub fn some_scenarios(&self) -> Option<String> {
        self.partial.then(|| "it is about a whole run, and this one is of some scenarios".to_owned())
    }

    /// The same of what only scenarios show that have passed.
    pub fn some_passed(&self) -> Option<String> {
        let unpassed = self.unpassed.as_ref();
        let unpassed = || unpassed.map(|name| format!("it is about a whole run, and in this one {name} did not pass"));
        self.some_scenarios().or_else(unpassed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[rstest::rstest]
    #[case::nothing(false, None, [false, false])]
    #[case::one_failed(false, Some("a"), [false, true])]
    #[case::some_ran(true, None, [true, true])]
    #[case::some_ran_and_one_failed(true, Some("a"), [true, true])]
    fn a_failure_hides_only_what_it_could_have_used(
        #[case] partial: bool,
        #[case] unpassed: Option<&str>,
        #[case] expected: [bool; 2],
    ) {
        let missing = Missing { partial, unpassed: unpassed.map(str::to_owned) };
        assert_eq!([missing.some_scenarios().is_some(), missing.some_passed().is_some()], expected);
    }
}
