//! Foreign text in Markdown: what a log, a file or an operator says must not become markup. Pure.

/// `text` as text: on one line, in a table too, and without what would begin something there. What stands between a pair
/// of backticks stays code.
pub fn plain(text: &str) -> String {
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let mut rest = line.as_str();
    let mut plain = String::new();
    while let Some((before, after)) = rest.split_once('`') {
        escape(before, &mut plain);
        match after.split_once('`') {
            Some((code, after)) if !code.trim().is_empty() && !code.contains(['|', '\\']) => {
                plain.extend(["`", code, "`"]);
                rest = after;
            }
            // A reference begins no code, wherever another backtick may come.
            _ => {
                plain.push_str("&#96;");
                rest = after;
            }
        }
    }
    escape(rest, &mut plain);
    at_the_beginning(plain)
}

/// `text` as code, whatever is in it.
pub fn code(text: &str) -> String {
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let longest = line.split(|c| c != '`').map(str::len).max().unwrap_or(0);
    let fence = "`".repeat(longest + 1);
    let space = if line.starts_with('`') || line.ends_with('`') { " " } else { "" };
    format!("{fence}{space}{line}{space}{fence}")
}

fn escape(text: &str, plain: &mut String) {
    let word = |c: Option<char>| c.is_some_and(char::is_alphanumeric);
    let mut before = None;
    let mut letters = text.chars().peekable();
    while let Some(c) = letters.next() {
        match c {
            '<' => plain.push_str("&lt;"),
            '&' => plain.push_str("&amp;"),
            // Within a word, as in a name, it emphasizes nothing.
            '_' if word(before) && word(letters.peek().copied()) => plain.push(c),
            '|' | '\\' | '[' | '*' | '_' | '~' => plain.extend(['\\', c]),
            c => plain.push(c),
        }
        before = Some(c);
    }
}

/// What would make a heading, a quotation or a list of a line does not begin it.
fn at_the_beginning(line: String) -> String {
    let (number, rest) = line.split_at(line.chars().take_while(char::is_ascii_digit).count());
    match rest.chars().next() {
        Some('#' | '>' | '-' | '+' | '=') if number.is_empty() => format!("\\{line}"),
        Some('.' | ')') if !number.is_empty() && matches!(rest[1..].chars().next(), None | Some(' ')) => {
            format!("{number}\\{rest}")
        }
        _ => line,
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case::table("a | b\n<script> `<name>`", r"a \| b &lt;script> `<name>`")]
    #[case::unpaired("panic: ` <img src=x>", "panic: &#96; &lt;img src=x>")]
    #[case::third("`a` ` <b>", "`a` &#96; &lt;b>")]
    #[case::double("`` <b> ``", "&#96;` <b> `&#96;")]
    #[case::cell("`a\\|b`", r"&#96;a\\\|b&#96;")]
    #[case::link("[a](http://b) ![c](d)", r"\[a](http://b) !\[c](d)")]
    #[case::emphasis("*a* _b_ ~~c~~ secret_absent", r"\*a\* \_b\_ \~\~c\~\~ secret_absent")]
    #[case::reference("&lt;b>", "&amp;lt;b>")]
    #[case::escaped(r"\<b> \| c", r"\\&lt;b> \\\| c")]
    #[case::heading("# a", r"\# a")]
    #[case::list("- a", r"\- a")]
    #[case::numbered("12. a", r"12\. a")]
    #[case::number("12 a", "12 a")]
    #[case::version("0.1.0", "0.1.0")]
    #[case::result("1\n\n**success**: all", r"1 \*\*success\*\*: all")]
    fn foreign_text_stays_text(#[case] text: &str, #[case] expected: &str) {
        assert_eq!(plain(text), expected);
    }

    #[rstest]
    #[case("run x", "`run x`")]
    #[case("run `x`", "`` run `x` ``")]
    #[case("a``b\nc", "```a``b c```")]
    fn code_stays_code(#[case] text: &str, #[case] expected: &str) {
        assert_eq!(code(text), expected);
    }
}
