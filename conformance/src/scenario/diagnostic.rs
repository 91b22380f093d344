//! What a person gets to see about a bad file: the place, the text underlined, what is wrong, what to do.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use miette::{MietteSpanContents, NamedSource, SourceSpan};

use super::types::Position;

/// How many characters are underlined at most.
const LONGEST: usize = 60;

/// A file's name and text, shared by all that is said about it.
#[derive(Clone, Debug)]
pub struct Source(Arc<NamedSource<String>>);

impl Source {
    /// The text of a file. `name` is how people are told about it: its path as they gave it.
    pub fn new(name: impl AsRef<str>, text: impl Into<String>) -> Self {
        Self(Arc::new(NamedSource::new(name, text.into()).with_language("YAML")))
    }

    /// The name.
    pub fn name(&self) -> &str {
        self.0.name()
    }

    /// The text.
    pub fn text(&self) -> &str {
        self.0.inner()
    }

    /// Line and column of a byte.
    pub fn position(&self, offset: usize) -> Position {
        let before = &self.text()[..self.text().floor_char_boundary(offset)];
        let line = before.matches('\n').count() + 1;
        let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
        let small = |n| u32::try_from(n).unwrap_or(u32::MAX);
        Position { line: small(line), column: small(column) }
    }
}

impl Source {
    /// The byte at a line and column, both counted from 1.
    pub(crate) fn offset(&self, line: u64, column: u64) -> usize {
        let (line, column) = (usize::try_from(line).unwrap_or(0), usize::try_from(column).unwrap_or(0));
        let text = self.text();
        let start: usize = text.split_inclusive('\n').take(line.saturating_sub(1)).map(str::len).sum();
        let rest = &text[start..];
        start + rest.char_indices().nth(column.saturating_sub(1)).map_or(rest.len(), |(at, _)| at)
    }
}

impl PartialEq for Source {
    fn eq(&self, other: &Self) -> bool {
        self.name() == other.name() && self.text() == other.text()
    }
}

/// Something wrong in a file.
#[derive(Clone, Debug, PartialEq, thiserror::Error, miette::Diagnostic)]
#[error("{message}")]
pub struct Diagnostic {
    /// What is wrong: a lowercase fragment.
    pub message: String,
    /// What to do, when that can be guessed.
    #[help]
    pub help: Option<String>,
    /// The file.
    #[source_code]
    source_code: Shared,
    /// What is underlined.
    #[label]
    span: SourceSpan,
}

/// miette wants a source that it can borrow from the diagnostic itself, and counts columns in bytes when it is left to it.
#[derive(Clone, Debug, PartialEq)]
struct Shared(Source);

impl miette::SourceCode for Shared {
    fn read_span<'a>(
        &'a self,
        span: &SourceSpan,
        before: usize,
        after: usize,
    ) -> Result<Box<dyn miette::SpanContents<'a> + 'a>, miette::MietteError> {
        let contents = self.0.0.read_span(span, before, after)?;
        let column = self.0.position(contents.span().offset()).column.saturating_sub(1);
        let column = usize::try_from(column).unwrap_or_default();
        let (name, line, count) = (self.0.name().to_owned(), contents.line(), contents.line_count());
        let counted = MietteSpanContents::new_named(name, contents.data(), *contents.span(), line, column, count);
        Ok(Box::new(counted.with_language("YAML")))
    }
}

impl Diagnostic {
    /// Says `message` about `span` of `source`.
    pub fn new(source: &Source, span: Range<usize>, message: impl Into<String>) -> Self {
        let text = source.text();
        let start = text.floor_char_boundary(span.start.min(text.len()));
        let end = text.ceil_char_boundary(span.end.min(text.len())).max(start);
        // A long line, or the lines that follow, say nothing more.
        let line = text[start..end].lines().next().unwrap_or_default();
        let length = line.char_indices().nth(LONGEST).map_or(line.len(), |(at, _)| at);
        Self {
            message: message.into(),
            help: None,
            source_code: Shared(source.clone()),
            span: SourceSpan::new(start.into(), length),
        }
    }

    /// The same with a hint.
    #[must_use]
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    /// The same with a hint, if there is one.
    #[must_use]
    pub fn maybe_help(mut self, help: Option<String>) -> Self {
        self.help = help;
        self
    }

    /// Name of the file.
    pub fn file(&self) -> &str {
        self.source_code.0.name()
    }

    /// Line and column.
    pub fn position(&self) -> Position {
        self.source_code.0.position(self.span.offset())
    }

    /// In one line, as compilers write it: `file:line:column: message`.
    pub fn line(&self) -> Line<'_> {
        Line(self)
    }
}

/// A diagnostic in one line.
pub struct Line<'a>(&'a Diagnostic);

impl fmt::Display for Line<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.0.file(), self.0.position(), self.0.message)?;
        self.0.help.as_ref().map_or(Ok(()), |help| write!(f, " ({help})"))
    }
}

/// Diagnostics with their text underlined, for a terminal of `width` columns; colours only when `colour`.
pub fn render(diagnostics: &[Diagnostic], width: usize, colour: bool) -> String {
    let theme = if colour { miette::GraphicalTheme::unicode() } else { miette::GraphicalTheme::unicode_nocolor() };
    let handler = miette::GraphicalReportHandler::new_themed(theme).with_width(width);
    let mut text = String::new();
    for diagnostic in diagnostics {
        // Writing into a string cannot fail, and the source is in memory.
        let _ = handler.render_report(&mut text, diagnostic);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_count_columns_in_characters() {
        let source = Source::new("a.yaml", "claim: a\nname: é ${y}\n");
        let at = source.text().find('$').unwrap();
        let problem = Diagnostic::new(&source, at..at + 4, "unknown binding");
        assert_eq!(problem.line().to_string(), "a.yaml:2:9: unknown binding");
        let shown = render(&[problem], 80, false);
        assert!(shown.contains("[a.yaml:2:9]"), "{shown}");
    }
}
