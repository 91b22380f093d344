//! Globs over paths: `*` and `?` stay within one level, `**` does not.

/// Whether `pattern` matches the whole of `text`.
pub fn matches(pattern: &str, text: &str) -> bool {
    match pattern.chars().next() {
        None => text.is_empty(),
        Some('*') => {
            let deep = pattern.starts_with("**");
            let rest = &pattern[if deep { 2 } else { 1 }..];
            // Every end of what the star swallows, the empty one first.
            let ends = text.char_indices().map(|(at, _)| at).chain([text.len()]);
            ends.take_while(|end| deep || !text[..*end].contains('/')).any(|end| matches(rest, &text[end..]))
        }
        Some('?') => text.chars().next().is_some_and(|c| c != '/' && matches(&pattern[1..], &text[c.len_utf8()..])),
        Some(c) => text.starts_with(c) && matches(&pattern[c.len_utf8()..], &text[c.len_utf8()..]),
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("archive/db/archive.info", "archive/db/archive.info", true)]
    #[case("archive/*/archive.info", "archive/db/archive.info", true)]
    #[case("archive/*", "archive/db/archive.info", false)]
    #[case("archive/**", "archive/db/archive.info", true)]
    #[case("**/*.zst", "a/b/c.zst", true)]
    #[case("*.zst", "a.zst2", false)]
    #[case("a?c", "aüc", true)]
    #[case("a?c", "a/c", false)]
    #[case("", "a", false)]
    fn follows_the_levels(#[case] pattern: &str, #[case] text: &str, #[case] expected: bool) {
        assert_eq!(matches(pattern, text), expected);
    }
}
