//! Schedules in the dialect of robfig/cron v3 (`ParseStandard`), which Percona's operator reads: five fields or a word, with a
//! time zone before them or without. Other dialects know more: 7 for Sunday, L, W, #.
//!
//! Pure. Source: `parser.go` and `spec.go` of v3.0.1. `@every` is no schedule here; the operator panics at it (`contract.md`,
//! 3.2).

use std::collections::BTreeSet;
use std::ops::RangeInclusive;

use croner::Cron;
use croner::parser::{CronParser, Seconds};
use jiff::Timestamp;
use jiff::tz::TimeZone;

/// The words, and the fields that they stand for.
const WORDS: [(&str, &str); 7] = [
    ("@yearly", "0 0 1 1 *"),
    ("@annually", "0 0 1 1 *"),
    ("@monthly", "0 0 1 * *"),
    ("@weekly", "0 0 * * 0"),
    ("@daily", "0 0 * * *"),
    ("@midnight", "0 0 * * *"),
    ("@hourly", "0 * * * *"),
];

/// When something is to happen again and again.
pub(super) struct Schedule {
    cron: Cron,
    zone: TimeZone,
}

impl Schedule {
    /// The first time after this one; `None` when there is none.
    pub(super) fn next(&self, after: Timestamp) -> Option<Timestamp> {
        let next = self.cron.find_next_occurrence(&after.to_zoned(self.zone.clone()), false);
        next.ok().map(|next| next.timestamp())
    }
}

/// Reads a pattern; the error says what is wrong with it.
pub(super) fn parse(pattern: &str) -> Result<Schedule, String> {
    let (zone, fields) = zone(pattern)?;
    let fields = if fields.starts_with('@') {
        let word = WORDS.iter().find(|(word, _)| *word == fields);
        word.map(|(_, fields)| (*fields).to_owned()).ok_or_else(|| format!("{fields:?} is no word for a schedule"))?
    } else {
        plain(fields)?
    };
    let parser = CronParser::builder().seconds(Seconds::Disallowed).build();
    let cron = parser.parse(&fields).map_err(|error| error.to_string())?;
    Ok(Schedule { cron, zone })
}

/// The time zone of a pattern, and the rest of it. The operator's container has no time zone of its own.
fn zone(pattern: &str) -> Result<(TimeZone, &str), String> {
    let Some(named) = ["TZ=", "CRON_TZ="].iter().find_map(|start| pattern.strip_prefix(*start)) else {
        return Ok((TimeZone::UTC, pattern));
    };
    let (name, fields) = named.split_once(' ').ok_or("there is nothing behind the time zone")?;
    let zone = match name {
        "" | "UTC" | "Local" => TimeZone::UTC,
        name => TimeZone::get(name).map_err(|error| error.to_string())?,
    };
    Ok((zone, fields.trim()))
}

/// The same schedule as lists of numbers, which every dialect reads alike.
fn plain(pattern: &str) -> Result<String, String> {
    let texts: Vec<&str> = pattern.split_whitespace().collect();
    if texts.len() != FIELDS.len() {
        return Err(format!("{} fields instead of {}", texts.len(), FIELDS.len()));
    }
    let fields = texts.iter().zip(&FIELDS).map(|(text, field)| field.plain(text));
    Ok(fields.collect::<Result<Vec<String>, String>>()?.join(" "))
}

/// One of the five fields.
struct Field {
    values: RangeInclusive<u32>,
    /// Names of the values, from the first on; read in any case.
    names: &'static [&'static str],
}

/// Minute, hour, day, month, weekday.
const FIELDS: [Field; 5] = [
    Field { values: 0..=59, names: &[] },
    Field { values: 0..=23, names: &[] },
    Field { values: 1..=31, names: &[] },
    Field {
        values: 1..=12,
        names: &["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"],
    },
    Field { values: 0..=6, names: &["sun", "mon", "tue", "wed", "thu", "fri", "sat"] },
];

/// The values of one entry of a field's list.
struct Entry {
    first: u32,
    last: u32,
    step: u32,
    /// Whether it leaves the choice of the day to the other field of days: a star whose step is 1.
    is_any: bool,
}

impl Field {
    fn plain(&self, text: &str) -> Result<String, String> {
        let entries = text.split(',').filter(|entry| !entry.is_empty()).map(|entry| self.entry(entry));
        let entries = entries.collect::<Result<Vec<Entry>, String>>()?;
        if entries.iter().any(|entry| entry.is_any) {
            return Ok("*".to_owned());
        }
        let of = |entry: Entry| (entry.first..=entry.last).step_by(entry.step as usize);
        let values: BTreeSet<u32> = entries.into_iter().flat_map(of).collect();
        if values.is_empty() {
            // robfig/cron reads it, and finds no time for it.
            return Err(format!("{text:?} has no value"));
        }
        Ok(values.iter().map(u32::to_string).collect::<Vec<_>>().join(","))
    }

    /// `*`, `?`, a value or a range, with a step or without.
    fn entry(&self, text: &str) -> Result<Entry, String> {
        let (range, step) = text.split_once('/').map_or((text, None), |(range, step)| (range, Some(step)));
        let step = step.map(number).transpose()?;
        let ends: Vec<&str> = range.split('-').collect();
        let (first, last) = match ends.as_slice() {
            ["*" | "?", ..] => (*self.values.start(), *self.values.end()),
            // With a step, a value begins a range.
            [first] if step.is_some() => (self.value(first)?, *self.values.end()),
            [only] => (self.value(only)?, self.value(only)?),
            [first, last] => (self.value(first)?, self.value(last)?),
            _ => return Err(format!("{text:?} has too many hyphens")),
        };
        let step = step.unwrap_or(1);
        if first < *self.values.start() || last > *self.values.end() || first > last || step == 0 {
            return Err(format!("{text:?} is out of range"));
        }
        Ok(Entry { first, last, step, is_any: matches!(ends[0], "*" | "?") && step == 1 })
    }

    fn value(&self, text: &str) -> Result<u32, String> {
        let mut named = self.names.iter().zip(self.values.clone());
        let named = named.find(|(name, _)| name.eq_ignore_ascii_case(text)).map(|(_, value)| value);
        named.map_or_else(|| number(text), Ok)
    }
}

/// Digits, with a plus before them or without.
fn number(text: &str) -> Result<u32, String> {
    text.parse().map_err(|_| format!("{text:?} is no number"))
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    /// After Tuesday, November 24th, 2026.
    #[rstest]
    #[case::daily("0 2 * * *", "2026-11-25T02:00:00Z")]
    #[case::step("*/15 * * * *", "2026-11-24T08:15:00Z")]
    #[case::from_a_value_on("50/5 8 * * *", "2026-11-24T08:50:00Z")]
    #[case::names("0 0 * jan SUN", "2027-01-03T00:00:00Z")]
    #[case::question_mark("0 0 ? * 0", "2026-11-29T00:00:00Z")]
    #[case::plus("0 0 * * +5", "2026-11-27T00:00:00Z")]
    #[case::empty_entries("0 2,, * * *", "2026-11-25T02:00:00Z")]
    #[case::one_of_two_days("0 0 26 * 5", "2026-11-26T00:00:00Z")]
    #[case::a_star_leaves_the_choice("0 0 * * 5", "2026-11-27T00:00:00Z")]
    #[case::a_step_does_not("0 0 */2 * 4", "2026-11-25T00:00:00Z")]
    #[case::all_days_do_not("0 0 1-31 * 5", "2026-11-25T00:00:00Z")]
    #[case::zone("TZ=UTC 0 2 * * *", "2026-11-25T02:00:00Z")]
    #[case::zone_and_word("CRON_TZ=UTC @hourly", "2026-11-24T09:00:00Z")]
    #[case::word("@daily", "2026-11-25T00:00:00Z")]
    #[case::another_word_for_it("@midnight", "2026-11-25T00:00:00Z")]
    #[case::week("@weekly", "2026-11-29T00:00:00Z")]
    #[case::month("@monthly", "2026-12-01T00:00:00Z")]
    #[case::year("@annually", "2027-01-01T00:00:00Z")]
    fn reads(#[case] pattern: &str, #[case] next: &str) {
        let now: Timestamp = "2026-11-24T08:00:00Z".parse().unwrap();
        let schedule = parse(pattern).unwrap_or_else(|error| panic!("{pattern}: {error}"));
        assert_eq!(schedule.next(now).unwrap().to_string(), next);
    }

    #[rstest]
    #[case::nothing("")]
    #[case::seconds("0 0 2 * * *")]
    #[case::word_without_its_sign("hourly")]
    #[case::word_in_capitals("@Daily")]
    #[case::word_with_a_space("@daily ")]
    #[case::every("@every 1h")]
    #[case::unknown_word("@reboot")]
    #[case::sunday_as_7("0 2 * * 7")]
    #[case::sunday_as_the_end("0 2 * * 5-7")]
    #[case::last_day("0 2 L * *")]
    #[case::nearest_weekday("0 2 15W * *")]
    #[case::nth_weekday("0 2 * * 5#2")]
    #[case::last_friday("0 2 * * 5L")]
    #[case::out_of_range("60 2 * * *")]
    #[case::no_step("*/0 * * * *")]
    #[case::two_steps("*/2/3 * * * *")]
    #[case::backwards("0 2 * * fri-mon")]
    #[case::two_ranges("1-2-3 * * * *")]
    #[case::no_value(", * * * *")]
    #[case::half_a_range("1- * * * *")]
    #[case::no_such_zone("TZ=Nowhere/Town 0 2 * * *")]
    #[case::zone_alone("TZ=UTC")]
    fn refuses(#[case] pattern: &str) {
        assert!(parse(pattern).is_err());
    }

    #[test]
    fn a_day_that_no_month_has_never_comes() {
        let now: Timestamp = "2026-11-24T08:00:00Z".parse().unwrap();
        assert_eq!(parse("0 2 31 2 *").ok().and_then(|schedule| schedule.next(now)), None);
    }

    #[test]
    fn the_hours_are_those_of_the_time_zone() {
        let now: Timestamp = "2026-11-24T08:00:00Z".parse().unwrap();
        let tokyo = TimeZone::fixed(jiff::tz::offset(9));
        let schedule = Schedule { zone: tokyo, ..parse("0 2 * * *").unwrap() };
        assert_eq!(schedule.next(now).unwrap().to_string(), "2026-11-24T17:00:00Z");
    }
}
