//! Keeps foreign text from being a command of whoever reads the console.
//!
//! Base layer. GitHub's runner reads what a step prints: a line that begins with `::` (blanks before it do not count) is
//! a command to it, and so is `##[` anywhere. Whoever prints what an operator, a build or a cluster has said passes it
//! through [`inert`], wherever that is: output may be piped to where GitHub reads along, and nobody said so.

use std::io::Write;

use anstream::adapter::strip_str;

/// `text` in which no line is a command: a backslash stands within what would begin one. Without escape sequences of a
/// terminal, as they are taken out where there is none: the rest could be a command.
pub fn inert(text: &str) -> String {
    let mut inert = String::with_capacity(text.len());
    // A carriage return ends a line for the runner, too.
    for line in text.split_inclusive(['\n', '\r']) {
        let (line, end) = line.split_at(line.trim_end_matches(['\n', '\r']).len());
        break_up(&strip_str(line).to_string(), &mut inert);
        inert.push_str(end);
    }
    inert
}

/// One line. Only visible ASCII counts: what the runner compares may pass over the rest.
fn break_up(line: &str, inert: &mut String) {
    const NOTHING: char = '\0';
    let mut before = [NOTHING; 2];
    for letter in line.chars() {
        if letter.is_ascii_graphic() || (letter == ' ' && before[1] != NOTHING) {
            if matches!((before, letter), ([NOTHING, ':'], ':') | (['#', '#'], '[')) {
                inert.push('\\');
            }
            before = [before[1], letter];
        }
        inert.push(letter);
    }
}

/// A place to write to that gets inert text. Each write is whole lines.
#[derive(Debug)]
pub struct Inert<W>(pub W);

impl<W: Write> Write for Inert<W> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.write_all(inert(&String::from_utf8_lossy(bytes)).as_bytes())?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.0.flush()
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case::first("::error::y", r":\:error::y")]
    #[case::indented("x\n \t ::error::y\n", "x\n \t :\\:error::y\n")]
    #[case::after_a_carriage_return("x\r::error::y\r\n", "x\r:\\:error::y\r\n")]
    #[case::older("a ##[error]b ###[c]", r"a ##\[error]b ###\[c]")]
    #[case::coloured("\u{1b}[31m::error::y #\u{1b}[0m#[z]", r":\:error::y ##\[z]")]
    #[case::invisible("\u{200d}:\u{feff}:error::y #\u{0}#[z]", "\u{200d}:\u{feff}\\:error::y ##\\[z]")]
    #[case::unended("\u{1b}]0;title\n::error::y", "\n:\\:error::y")]
    #[case::path("at std::fs::read, #[test], # #[a]", "at std::fs::read, #[test], # #[a]")]
    #[case::address("listening on [::1]:5432\n: : x\n", "listening on [::1]:5432\n: : x\n")]
    fn no_line_is_a_command(#[case] text: &str, #[case] expected: &str) {
        assert_eq!(inert(text), expected);
    }

    #[test]
    fn what_is_written_is_inert() {
        let mut out = Inert(Vec::new());
        out.write_all("x\n::error::é\n".as_bytes()).unwrap();
        assert_eq!(String::from_utf8(out.0).unwrap(), "x\n:\\:error::é\n");
    }
}
