//! Command lines for a shell.

/// `words` as one line, in which a shell sees each of them as it is.
pub fn shell_line(words: impl IntoIterator<Item = String>) -> String {
    let quoted = words.into_iter().map(|word| format!("'{}'", word.replace('\'', r"'\''")));
    quoted.collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    #[test]
    fn nothing_of_a_word_means_anything_to_a_shell() {
        let words = ["it's", "$HOME", "two words"].map(str::to_owned);
        assert_eq!(super::shell_line(words), r"'it'\''s' '$HOME' 'two words'");
    }
}
