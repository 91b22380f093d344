//! Durations as Kubernetes writes them: `500ms`, `30s`, `2m30s`, `1h`.
//!
//! Base layer.

use std::time::Duration;

/// Why a text is not a duration: a fragment that reads after "`text`".
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DurationError {
    /// It does not begin with a number.
    #[error("is no duration: write a number and a unit, such as 500ms, 30s, 2m30s or 1h")]
    Malformed,
    /// A number has no unit, or an unknown one.
    #[error("has a number without a unit: use ms, s, m or h")]
    Unit,
    /// Zero, or more than a day.
    #[error("is outside of what makes sense here: more than zero and at most 24h")]
    Range,
}

/// The longest duration that is accepted: nothing in a test run may take longer.
const LONGEST: Duration = Duration::from_hours(24);

/// Reads a duration. Units are `ms`, `s`, `m` and `h`, each at most whole numbers, largest first by habit only.
///
/// # Errors
/// The text is no such duration, is zero, or is longer than a day.
pub fn parse(text: &str) -> Result<Duration, DurationError> {
    let mut rest = text;
    let mut total = Duration::ZERO;
    while !rest.is_empty() {
        let digits = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        let number: u64 = rest[..digits].parse().map_err(|_| DurationError::Malformed)?;
        rest = &rest[digits..];
        let letters = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_alphabetic()).len();
        let millis = match &rest[..letters] {
            "ms" => 1,
            "s" => 1_000,
            "m" => 60_000,
            "h" => 3_600_000,
            _ => return Err(DurationError::Unit),
        };
        rest = &rest[letters..];
        let part = number.checked_mul(millis).ok_or(DurationError::Range)?;
        total = total.checked_add(Duration::from_millis(part)).ok_or(DurationError::Range)?;
    }
    match total {
        _ if text.is_empty() => Err(DurationError::Malformed),
        Duration::ZERO => Err(DurationError::Range),
        total if total > LONGEST => Err(DurationError::Range),
        total => Ok(total),
    }
}

/// Writes a duration as [`parse`] reads it, down to milliseconds: `1m30s`, `250ms`, `0s`.
pub fn format(duration: Duration) -> String {
    let millis = duration.as_millis();
    let parts =
        [(millis / 3_600_000, "h"), (millis / 60_000 % 60, "m"), (millis / 1_000 % 60, "s"), (millis % 1_000, "ms")];
    let text: Vec<String> = parts.iter().filter(|(n, _)| *n > 0).map(|(n, unit)| format!("{n}{unit}")).collect();
    if text.is_empty() { "0s".to_owned() } else { text.concat() }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("500ms", 500)]
    #[case("30s", 30_000)]
    #[case("2m30s", 150_000)]
    #[case("1h", 3_600_000)]
    fn reads_and_writes(#[case] text: &str, #[case] millis: u64) {
        assert_eq!(parse(text), Ok(Duration::from_millis(millis)));
        assert_eq!(format(Duration::from_millis(millis)), text);
    }

    #[rstest]
    #[case("", DurationError::Malformed)]
    #[case("soon", DurationError::Malformed)]
    #[case("-5s", DurationError::Malformed)]
    #[case("5", DurationError::Unit)]
    #[case("5 s", DurationError::Unit)]
    #[case("1.5s", DurationError::Unit)]
    #[case("5seconds", DurationError::Unit)]
    #[case("0s", DurationError::Range)]
    #[case("25h", DurationError::Range)]
    #[case("99999999999999999h", DurationError::Range)]
    fn refuses(#[case] text: &str, #[case] error: DurationError) {
        assert_eq!(parse(text), Err(error));
    }
}
