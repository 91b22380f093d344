//! Finds the expressions in a string.

/// A string, taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Template<'a> {
    /// Nothing but one expression.
    Expression(Piece<'a>),
    /// Text, with or without expressions in it.
    Text(Vec<Part<'a>>),
}

/// A part of a text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Part<'a> {
    Literal(&'a str),
    Expression(Piece<'a>),
}

/// The text between `${` and `}`, and the byte where it begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Piece<'a> {
    pub(crate) source: &'a str,
    pub(crate) offset: usize,
}

/// An expression that does not end; `offset` is the byte of its `${`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`${{` has no closing `}}`; write `$${{` for the two characters themselves")]
pub(crate) struct Unclosed {
    pub(crate) offset: usize,
}

impl<'a> Template<'a> {
    pub(crate) fn parse(text: &'a str) -> Result<Self, Unclosed> {
        let mut parts = Vec::new();
        let mut done = 0;
        let mut from = 0;
        while let Some(found) = text[from..].find("${") {
            let at = from + found;
            if text[..at].ends_with('$') {
                // The first of the two dollar signs is the escape; the rest is literal.
                parts.push(Part::Literal(&text[done..at - 1]));
                done = at;
                from = at + 2;
                continue;
            }
            let end = closing(&text[at + 2..]).ok_or(Unclosed { offset: at })? + at + 2;
            parts.push(Part::Literal(&text[done..at]));
            parts.push(Part::Expression(Piece { source: &text[at + 2..end], offset: at + 2 }));
            done = end + 1;
            from = done;
        }
        parts.push(Part::Literal(&text[done..]));
        parts.retain(|part| *part != Part::Literal(""));
        match parts.as_slice() {
            [Part::Expression(piece)] => Ok(Self::Expression(*piece)),
            _ => Ok(Self::Text(parts)),
        }
    }

    /// All expressions in it.
    pub(crate) fn pieces(&self) -> Vec<Piece<'a>> {
        match self {
            Self::Expression(piece) => vec![*piece],
            Self::Text(parts) => parts
                .iter()
                .filter_map(|part| match part {
                    Part::Expression(piece) => Some(*piece),
                    Part::Literal(_) => None,
                })
                .collect(),
        }
    }
}

/// Where the brace is that closes an expression: braces of maps nest, and those inside quotes do not count.
fn closing(source: &str) -> Option<usize> {
    let mut depth = 0_usize;
    let mut quote = None;
    let mut chars = source.char_indices();
    while let Some((at, c)) = chars.next() {
        match quote {
            Some(_) if c == '\\' => drop(chars.next()),
            Some(open) if c == open => quote = None,
            Some(_) => {}
            None => match c {
                '"' | '\'' => quote = Some(c),
                '{' => depth += 1,
                '}' if depth == 0 => return Some(at),
                '}' => depth -= 1,
                _ => {}
            },
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    fn shown(text: &str) -> String {
        match Template::parse(text) {
            Ok(Template::Expression(piece)) => format!("={}@{}", piece.source, piece.offset),
            Ok(Template::Text(parts)) => parts
                .iter()
                .map(|part| match part {
                    Part::Literal(text) => format!("[{text}]"),
                    Part::Expression(piece) => format!("<{}@{}>", piece.source, piece.offset),
                })
                .collect::<Vec<_>>()
                .concat(),
            Err(Unclosed { offset }) => format!("unclosed@{offset}"),
        }
    }

    #[rstest]
    #[case::plain("demo", "[demo]")]
    #[case::empty("", "")]
    #[case::whole("${a + 1}", "=a + 1@2")]
    #[case::inside("x-${a}-${b}", "[x-]<a@4>[-]<b@9>")]
    #[case::two("${a}${b}", "<a@2><b@6>")]
    #[case::space_is_text(" ${a}", "[ ]<a@3>")]
    #[case::map("${{'a': {'b': 1}}.a}", "={'a': {'b': 1}}.a@2")]
    #[case::quoted_brace(r#"${a == "}" || a == '\'}'}"#, r#"=a == "}" || a == '\'}'@2"#)]
    #[case::escaped("a $${HOME} b", "[a ][${HOME} b]")]
    #[case::escaped_then_real("$${x}${y}", "[${x}]<y@7>")]
    #[case::other_dollars("$HOME $(x) $$ 5$", "[$HOME $(x) $$ 5$]")]
    #[case::unclosed("a ${b", "unclosed@2")]
    #[case::unclosed_quote("${'b}", "unclosed@0")]
    fn finds_expressions(#[case] text: &str, #[case] expected: &str) {
        assert_eq!(shown(text), expected);
    }
}
