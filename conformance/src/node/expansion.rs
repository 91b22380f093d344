//! `$(VAR)` in values, commands and arguments, as Kubernetes expands it. Pure.

/// Replaces every `$(NAME)` that `lookup` knows. An unknown one stays as it is written, `$$` is a dollar sign, and anything
/// else after a dollar sign is left alone.
pub fn expand<'a>(text: &str, lookup: impl Fn(&str) -> Option<&'a str>) -> String {
    let mut result = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('$') {
        result.push_str(before);
        let reference = after.strip_prefix('(').and_then(|inside| inside.split_once(')'));
        rest = if let Some(after) = after.strip_prefix('$') {
            result.push('$');
            after
        } else if let Some((name, after)) = reference {
            match lookup(name) {
                Some(value) => result.push_str(value),
                None => result.extend(["$(", name, ")"]),
            }
            after
        } else {
            result.push('$');
            after
        };
    }
    result + rest
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("plain", "plain")]
    #[case("$(A)", "1")]
    #[case("x-$(A)-$(B)-y", "x-1-two-y")]
    #[case("$(C)", "$(C)")]
    #[case("$$(A)", "$(A)")]
    #[case("$$$(A)", "$1")]
    #[case("$A", "$A")]
    #[case("$(A", "$(A")]
    #[case("50$", "50$")]
    #[case("$()", "$()")]
    #[case("$($(A))", "$($(A))")]
    fn expansion(#[case] text: &str, #[case] expected: &str) {
        let lookup = |name: &str| match name {
            "A" => Some("1"),
            "B" => Some("two"),
            _ => None,
        };
        assert_eq!(expand(text, lookup), expected);
    }
}
