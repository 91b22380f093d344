//! Cron expressions as Percona's operator reads them (robfig/cron `ParseStandard`): five fields, or a descriptor.

use croner::parser::{CronParser, Seconds};

/// Descriptors that robfig/cron knows. `@every` is left out: Percona 2.8 panics on it (contract.md 3.2).
const DESCRIPTORS: [&str; 7] = ["@yearly", "@annually", "@monthly", "@weekly", "@daily", "@midnight", "@hourly"];

/// Checks `expression`; the error says what is wrong with it.
pub fn check(expression: &str) -> Result<(), String> {
    if expression.starts_with('@') {
        return if DESCRIPTORS.contains(&expression) {
            Ok(())
        } else {
            Err(format!("is none of {}", DESCRIPTORS.join(", ")))
        };
    }
    let fields: Vec<_> = expression.split_whitespace().collect();
    let [_, _, _, _, weekday] = fields[..] else {
        return Err(format!("has {} fields instead of the five: minute hour day month weekday", fields.len()));
    };
    // croner knows extensions that robfig/cron does not: L, W, #, +, and 7 for Sunday.
    if let Some(other) = fields.iter().flat_map(|field| field.chars()).find(|c| "#+".contains(*c)) {
        return Err(format!("holds {other:?}, which Percona's operator does not know"));
    }
    let extension = |field: &str| field.split([',', '-', '/']).any(|part| part.ends_with(['L', 'W']) || part == "7");
    if extension(weekday) || fields[2].contains(['L', 'W']) {
        return Err("holds L, W, or 7 for Sunday, which Percona's operator does not know".to_owned());
    }
    CronParser::builder()
        .seconds(Seconds::Disallowed)
        .build()
        .parse(expression)
        .map(drop)
        .map_err(|error| format!("is no cron expression ({error})"))
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::check;

    #[rstest]
    #[case("0 2 * * *")]
    #[case("*/15 0-6,22 1,15 JAN-mar mon-FRI")]
    #[case("0 0 ? * 0")]
    #[case("@daily")]
    fn accepts(#[case] expression: &str) {
        assert_eq!(check(expression), Ok(()));
    }

    #[rstest]
    #[case::nothing("", "has 0 fields")]
    #[case::seconds("0 0 2 * * *", "has 6 fields")]
    #[case::out_of_range("61 * * * *", "")]
    #[case::word("daily", "has 1 fields")]
    #[case::every("@every 1h", "is none of @yearly")]
    #[case::time_zone("TZ=UTC 0 2 * *", "")]
    #[case::last_day("0 0 L * *", "holds L")]
    #[case::last_friday("0 0 * * 5L", "holds L")]
    #[case::nth("0 0 * * 5#2", "'#'")]
    #[case::sunday_as_7("0 0 * * 7", "7 for Sunday")]
    #[case::sunday_as_7_in_a_range("0 0 * * 1-7", "7 for Sunday")]
    fn refuses(#[case] expression: &str, #[case] why: &str) {
        let error = check(expression).unwrap_err();
        assert!(error.contains(why), "{error}");
    }
}
