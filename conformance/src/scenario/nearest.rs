//! Guesses which word was meant.

/// The one of `words` that is nearest to `word`, if it is near at all.
pub fn nearest<'a>(word: &str, words: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    // Letters of one case: `secretkey` is near `secretKey`.
    let lower = word.to_lowercase();
    let distance = |candidate: &str| strsim::damerau_levenshtein(&lower, &candidate.to_lowercase());
    let (best, distance) =
        words.into_iter().map(|word| (word, distance(word))).min_by_key(|(_, distance)| *distance)?;
    (distance <= word.chars().count().div_ceil(3)).then_some(best)
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("aply", Some("apply"))]
    #[case("asert", Some("assert"))]
    #[case("waitfor", Some("wait"))]
    #[case("sleep", None)]
    #[case("x", None)]
    fn finds_what_was_meant(#[case] word: &str, #[case] expected: Option<&str>) {
        assert_eq!(nearest(word, ["apply", "assert", "wait", "delete"]), expected);
    }
}
