//! The report as text: YAML for programs, Markdown for repositories, HTML for people.

use std::collections::BTreeMap;

use minijinja::syntax::SyntaxConfig;
use minijinja::value::Serde;
use minijinja::{AutoEscape, Environment};

use super::document::ConformanceReport;
use crate::report::markdown::{code, plain};

const MARKDOWN: &str = include_str!("report.md.j2");
const HTML: &str = include_str!("report.html.j2");

/// The report as YAML.
///
/// # Errors
/// It cannot be written, which a report has no reason for.
pub fn yaml(report: &ConformanceReport) -> Result<String, String> {
    serde_yaml::to_string(report).map_err(|error| error.to_string())
}

/// The report as Markdown.
///
/// # Errors
/// The template is wrong, which the tests rule out.
pub fn markdown(report: &ConformanceReport) -> Result<String, String> {
    render(AutoEscape::None, MARKDOWN, report)
}

/// The report as one HTML page that needs nothing else: no network, no script.
///
/// # Errors
/// The template is wrong, which the tests rule out.
pub fn html(report: &ConformanceReport) -> Result<String, String> {
    render(AutoEscape::Html, HTML, report)
}

fn render(escape: AutoEscape, template: &str, report: &ConformanceReport) -> Result<String, String> {
    let mut environment = Environment::new();
    environment.set_auto_escape_callback(move |_| escape.clone());
    // Blocks on lines of their own leave no trace of those lines.
    let mut syntax = SyntaxConfig::builder();
    syntax.trim_blocks(true).lstrip_blocks(true).keep_trailing_newline(true);
    environment.set_syntax(syntax.build().map_err(|error| error.to_string())?);
    environment.add_filter("words", words);
    environment.add_filter("area", area);
    environment.add_filter("plain", |text: String| plain(&text));
    environment.add_filter("code", |text: String| code(&text));
    environment.add_global("warned", Serde(warned(report)));
    let rendered = environment.render_str(template, Serde(report));
    rendered.map_err(|error| error.to_string())
}

/// The scenarios with warnings, each once.
fn warned(report: &ConformanceReport) -> BTreeMap<&str, &[String]> {
    let scenarios = report.requirements.iter().flat_map(|requirement| &requirement.scenarios);
    let warned = scenarios.filter(|scenario| !scenario.warnings.is_empty());
    warned.map(|scenario| (scenario.name.as_str(), scenario.warnings.as_slice())).collect()
}

/// A word of the report as people read it: `declaredDifferent` as `declared different`.
fn words(word: &str) -> String {
    let mut words = String::new();
    for c in word.chars() {
        if c.is_ascii_uppercase() {
            words.push(' ');
        }
        words.push(c.to_ascii_lowercase());
    }
    words
}

/// The area of a requirement.
fn area(id: &str) -> String {
    id.split('/').next().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_read_apart() {
        assert_eq!(words("declaredDifferent"), "declared different");
        assert_eq!(words("passed"), "passed");
    }
}
