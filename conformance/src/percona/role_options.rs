//! The options of a role (`spec.users[].options`), as Percona reads them before it alters the role.
//!
//! Pure. Percona parses them with PostgreSQL's own grammar, discards them all when they are no options, leaves out
//! passwords, and writes the rest anew (`sanitizeAlterRoleOptions` in its source). What that grammar knows beside this
//! one is discarded too: quoted words, strings with a prefix or between dollars, and the `USER` of the groups of old.

/// The options that are one word.
const FLAGS: [&str; 14] = [
    "bypassrls",
    "createdb",
    "createrole",
    "inherit",
    "login",
    "nobypassrls",
    "nocreatedb",
    "nocreaterole",
    "noinherit",
    "nologin",
    "noreplication",
    "nosuperuser",
    "replication",
    "superuser",
];
/// The words of the other options.
const WORDS: [&str; 7] = ["connection", "encrypted", "limit", "null", "password", "until", "valid"];
/// What separates words.
const SPACE: [char; 6] = [' ', '\t', '\n', '\r', '\x0b', '\x0c'];

#[derive(Debug, PartialEq, Eq)]
enum Token<'a> {
    Word(&'static str),
    /// With its quotes.
    Text(&'a str),
    Number(i32),
}

/// What is left of the options in `alter role … with`: nothing when they are no options.
pub fn sanitized(options: &str) -> String {
    tokens(options).and_then(|tokens| kept(&tokens)).map(|kept| kept.join(" ")).unwrap_or_default()
}

/// The message of the Event `InvalidUser` about the options of the user at `index`; `None` when they are as they should
/// be. Percona's shows the options as they are. Here they end before the first quote: what follows may be a password.
pub fn complaint(index: usize, options: &str) -> Option<String> {
    let quote = options.find(['\'', '"', '$']);
    let shown = quote.map_or_else(|| options.to_owned(), |quote| format!("{}…", &options[..quote]));
    let comment = ["--", "/*", "*/"].into_iter().any(|mark| options.contains(mark));
    let password = options.to_ascii_lowercase().contains("password");
    let said: Vec<String> = [(comment, "cannot contain comments"), (password, "cannot assign password")]
        .into_iter()
        .filter(|(holds, _)| *holds)
        .map(|(_, what)| format!("spec.users[{index}].options: Invalid value: {shown:?}: {what}"))
        .collect();
    match said.as_slice() {
        [] => None,
        [one] => Some(one.clone()),
        several => Some(format!("[{}]", several.join(", "))),
    }
}

/// The options without passwords; `None` when one of them is none.
fn kept(mut rest: &[Token<'_>]) -> Option<Vec<String>> {
    let mut kept = Vec::new();
    while !rest.is_empty() {
        let (option, after) = match rest {
            [Token::Word("encrypted"), Token::Word("password"), Token::Text(_), after @ ..]
            | [Token::Word("password"), Token::Text(_) | Token::Word("null"), after @ ..] => (None, after),
            [Token::Word("connection"), Token::Word("limit"), Token::Number(limit), after @ ..] => {
                (Some(format!("CONNECTION LIMIT {limit}")), after)
            }
            [Token::Word("valid"), Token::Word("until"), Token::Text(time), after @ ..] => {
                (Some(format!("VALID UNTIL {time}")), after)
            }
            [Token::Word(flag), after @ ..] if FLAGS.contains(flag) => (Some(flag.to_uppercase()), after),
            _ => return None,
        };
        kept.extend(option);
        rest = after;
    }
    Some(kept)
}

/// The text without comments and space; `None` when something in it belongs to no option.
fn tokens(text: &str) -> Option<Vec<Token<'_>>> {
    let (mut tokens, mut rest) = (Vec::new(), text);
    loop {
        rest = rest.trim_start_matches(SPACE);
        let Some(first) = rest.chars().next() else { return Some(tokens) };
        if let Some(comment) = rest.strip_prefix("--") {
            rest = comment.find(['\n', '\r']).map_or("", |end| &comment[end..]);
        } else if let Some(comment) = rest.strip_prefix("/*") {
            rest = after_comment(comment)?;
        } else if first == '\'' {
            let (quoted, after) = quoted(rest)?;
            tokens.push(Token::Text(quoted));
            rest = after;
        } else if matches!(first, '+' | '-' | '0'..='9') {
            let (value, after) = number(rest)?;
            tokens.push(Token::Number(value));
            rest = after;
        } else {
            let end = rest.find(|c: char| !(c.is_alphanumeric() || c == '_')).unwrap_or(rest.len());
            let (word, after) = rest.split_at(end);
            let mut known = FLAGS.into_iter().chain(WORDS);
            tokens.push(Token::Word(known.find(|known| known.eq_ignore_ascii_case(word))?));
            rest = after;
        }
    }
}

/// What follows the end of a comment, in which there may be others.
fn after_comment(mut rest: &str) -> Option<&str> {
    let mut depth = 1_u32;
    while depth > 0 {
        if let Some(after) = rest.strip_prefix("*/") {
            (depth, rest) = (depth - 1, after);
        } else if let Some(after) = rest.strip_prefix("/*") {
            (depth, rest) = (depth + 1, after);
        } else {
            let mut characters = rest.chars();
            characters.next()?;
            rest = characters.as_str();
        }
    }
    Some(rest)
}

/// The string at the beginning, in which a quote is doubled, and what follows it.
fn quoted(text: &str) -> Option<(&str, &str)> {
    let mut end = 1;
    loop {
        end += text[end..].find('\'')? + 1;
        if !text[end..].starts_with('\'') {
            return Some(text.split_at(end));
        }
        end += 1;
    }
}

/// The integer at the beginning, and what follows it.
fn number(text: &str) -> Option<(i32, &str)> {
    let negative = text.starts_with('-');
    let digits = text.strip_prefix(['-', '+']).unwrap_or(text).trim_start_matches(SPACE);
    let (digits, after) = digits.split_at(digits.find(|c: char| !c.is_ascii_digit()).unwrap_or(digits.len()));
    if after.starts_with(|c: char| c.is_alphanumeric() || c == '_' || c == '.') {
        return None;
    }
    let value: i32 = digits.parse().ok()?;
    Some((if negative { -value } else { value }, after))
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case::none("", "")]
    #[case::flags("CreateDB  createrole\n", "CREATEDB CREATEROLE")]
    #[case::with_values("connection limit -1 valid until '2030''s'", "CONNECTION LIMIT -1 VALID UNTIL '2030''s'")]
    #[case::a_password("LOGIN PASSWORD 'x y' CREATEDB", "LOGIN CREATEDB")]
    #[case::only_a_password("encrypted password 'x'", "")]
    #[case::no_password("PASSWORD NULL SUPERUSER", "SUPERUSER")]
    #[case::comments("LOGIN -- CREATEDB\n NOINHERIT /* a /* b */ c */ CREATEROLE", "LOGIN NOINHERIT CREATEROLE")]
    #[case::a_comment_to_the_end("LOGIN -- note", "LOGIN")]
    #[case::commas("CREATEDB,CREATEROLE", "")]
    #[case::an_unknown_word("LOGIN CREATEUSER", "")]
    #[case::of_create_role("LOGIN IN ROLE other", "")]
    #[case::no_value("LOGIN CONNECTION LIMIT", "")]
    #[case::another_value("VALID UNTIL 2030", "")]
    #[case::no_integer("CONNECTION LIMIT 1.5", "")]
    #[case::too_large("CONNECTION LIMIT 2147483648", "")]
    #[case::an_open_string("LOGIN VALID UNTIL 'x", "")]
    #[case::an_open_comment("LOGIN /* x", "")]
    #[case::another_statement("LOGIN) ; drop table x", "")]
    fn options_are_those_of_postgresql_s_grammar(#[case] options: &str, #[case] expected: &str) {
        assert_eq!(sanitized(options), expected);
    }

    #[rstest]
    #[case("LOGIN CREATEDB", None)]
    #[case("LOGIN -- note", Some(r#"spec.users[1].options: Invalid value: "LOGIN -- note": cannot contain comments"#))]
    #[case("Password 'x'", Some(r#"spec.users[1].options: Invalid value: "Password …": cannot assign password"#))]
    #[case(
        "/* a */ PASSWORD 'x'",
        Some(
            "[spec.users[1].options: Invalid value: \"/* a */ PASSWORD …\": cannot contain comments, \
             spec.users[1].options: Invalid value: \"/* a */ PASSWORD …\": cannot assign password]"
        )
    )]
    fn what_is_wrong_with_options_is_said_without_a_password(#[case] options: &str, #[case] expected: Option<&str>) {
        assert_eq!(complaint(1, options).as_deref(), expected);
    }
}
