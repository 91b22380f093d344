//! Cron expressions as Percona's operator reads them (robfig/cron v3 `ParseStandard`): five fields, or a descriptor. Other
//! dialects know more: 7 for Sunday, L, W, #. What robfig/cron cannot read it only logs, and no backup is ever made.

use std::ops::RangeInclusive;

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
    if fields.len() != FIELDS.len() {
        return Err(format!("has {} fields instead of the five: minute hour day month weekday", fields.len()));
    }
    let mut values = Vec::new();
    for (field, known) in fields.iter().zip(&FIELDS) {
        let entry = |entry: &str| known.read(entry).map_err(|why| format!("has {entry:?} as a {}: {why}", known.name));
        values.push(field.split(',').map(entry).collect::<Result<Vec<_>, _>>()?.concat());
    }
    // Where the weekday is named as well, one of the two is enough.
    let any_weekday = fields[4].split(',').any(|entry| ["*", "?"].contains(&entry));
    let longest = values[3].iter().filter_map(|month| LENGTHS.get(*month as usize - 1)).max();
    if any_weekday && values[2].iter().min() > longest {
        return Err("names a day that none of its months has".to_owned());
    }
    Ok(())
}

/// Days of the months, of February in a leap year.
const LENGTHS: [u32; 12] = [31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];

/// A field.
struct Field {
    name: &'static str,
    values: RangeInclusive<u32>,
    /// Names of the values, from the first on; read in any case.
    names: &'static [&'static str],
}

const FIELDS: [Field; 5] = [
    Field { name: "minute", values: 0..=59, names: &[] },
    Field { name: "hour", values: 0..=23, names: &[] },
    Field { name: "day", values: 1..=31, names: &[] },
    Field {
        name: "month",
        values: 1..=12,
        names: &["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"],
    },
    Field { name: "weekday", values: 0..=6, names: &["sun", "mon", "tue", "wed", "thu", "fri", "sat"] },
];

impl Field {
    /// The values of one entry of the list: `*`, `?`, a value or a range, with a step or without.
    fn read(&self, entry: &str) -> Result<Vec<u32>, String> {
        let (range, step) = entry.split_once('/').map_or((entry, None), |(range, step)| (range, Some(step)));
        let number = |step: &str| number(step).filter(|step| *step > 0).ok_or("a step is a number from 1 on");
        let every = step.map(number).transpose()?.unwrap_or(1);
        let (first, last) = if ["*", "?"].contains(&range) {
            (*self.values.start(), *self.values.end())
        } else if let Some((first, last)) = range.split_once('-') {
            (self.value(first)?, self.value(last)?)
        } else {
            let first = self.value(range)?;
            // With a step, a value begins a range.
            (first, if step.is_some() { *self.values.end() } else { first })
        };
        if first > last {
            return Err(format!("the range ends before it begins ({first} to {last})"));
        }
        Ok((first..=last).step_by(every as usize).collect())
    }

    fn value(&self, text: &str) -> Result<u32, String> {
        let by_name = self.names.iter().zip(self.values.clone()).find(|(name, _)| name.eq_ignore_ascii_case(text));
        let value = by_name.map(|(_, value)| value).or_else(|| number(text));
        value.filter(|value| self.values.contains(value)).ok_or_else(|| {
            let names = if self.names.is_empty() { String::new() } else { format!(", or {}", self.names.join(" ")) };
            format!("Percona's operator knows {} to {}{names}", self.values.start(), self.values.end())
        })
    }
}

fn number(text: &str) -> Option<u32> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::check;

    #[rstest]
    #[case("0 2 * * *")]
    #[case("*/15 0-6,22 1,15 JAN-mar mon-FRI")]
    #[case("0 0 ? * 0")]
    #[case("5/10 1-5/2 */7 * sun")]
    #[case("07 02 01 1 SAT")]
    #[case("0 0 29 2 *")]
    #[case("0 0 31 2,3 *")]
    #[case("0 0 31 2 0")]
    #[case("0 0 5/20,31 2 *")]
    #[case("@daily")]
    fn accepts(#[case] expression: &str) {
        assert_eq!(check(expression), Ok(()));
    }

    #[rstest]
    #[case::nothing("", "has 0 fields")]
    #[case::seconds("0 0 2 * * *", "has 6 fields")]
    #[case::out_of_range("61 * * * *", r#"has "61" as a minute: Percona's operator knows 0 to 59"#)]
    #[case::word("daily", "has 1 fields")]
    #[case::every("@every 1h", "is none of @yearly")]
    #[case::time_zone("TZ=UTC 0 2 * *", "as a minute")]
    #[case::last_day("0 0 L * *", r#"has "L" as a day"#)]
    #[case::last_day_in_small_letters("0 0 l * *", r#"has "l" as a day"#)]
    #[case::nearest_weekday("0 0 15w * *", r#"has "15w" as a day"#)]
    #[case::last_friday("0 0 * * 5L", "0 to 6, or sun mon")]
    #[case::nth("0 0 * * 5#2", "as a weekday")]
    #[case::plus("0 0 * * +5", "as a weekday")]
    #[case::sunday_as_7("0 0 * * 7", "as a weekday")]
    #[case::sunday_as_07("0 0 * * 07", "as a weekday")]
    #[case::sunday_as_7_in_a_range("0 0 * * 1-7", "as a weekday")]
    #[case::until_sunday("0 2 * * MON-SUN", "the range ends before it begins (1 to 0)")]
    #[case::no_step("*/0 * * * *", "a step is a number from 1 on")]
    #[case::two_steps("*/2/3 * * * *", "a step is a number")]
    #[case::two_ranges("1-2-3 * * * *", "as a minute")]
    #[case::february("0 2 31 2 *", "names a day that none of its months has")]
    #[case::short_months("0 2 31 4-6/2,sep,11 ?", "names a day that none of its months has")]
    #[case::empty_entry("1,,2 * * * *", "as a minute")]
    fn refuses(#[case] expression: &str, #[case] why: &str) {
        let error = check(expression).unwrap_err();
        assert!(error.contains(why), "{error}");
    }
}
