//! What the CRD's schema cannot say. The webhook asks this at admission, the reconciler again, because the webhook may
//! be off. Pure.

use std::fmt;

use super::cron;
use crate::api::DittoServerSpec;
use crate::api::spec::Percona;

/// A bad value and where it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldError {
    /// Path of the field, such as `spec.percona.backup.fullSchedule`.
    pub path: &'static str,
    /// What is wrong, in a fragment that reads after the path.
    pub message: String,
}

impl fmt::Display for FieldError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path, self.message)
    }
}

/// Errors in `spec`, none when it can be built.
pub fn validate(spec: &DittoServerSpec) -> Vec<FieldError> {
    let mut errors = Vec::new();
    if let Some(resources) = &spec.resources {
        for (name, request) in &resources.requests {
            if let Some(limit) = resources.limits.get(name)
                && let (Some(wanted), Some(most)) = (amount(&request.0), amount(&limit.0))
                && wanted > most
            {
                errors.push(FieldError {
                    path: "spec.resources.requests",
                    message: format!("{name} {} is more than the limit {}", request.0, limit.0),
                });
            }
        }
    }
    let enabled = spec.percona.as_ref().filter(|percona| percona.enabled);
    errors.extend(enabled.into_iter().flat_map(backup));
    errors
}

fn backup(percona: &Percona) -> Vec<FieldError> {
    let Some(backup) = percona.backup.as_ref().filter(|backup| backup.enabled) else { return Vec::new() };
    let schedules = [
        ("spec.percona.backup.fullSchedule", &backup.full_schedule),
        ("spec.percona.backup.incrSchedule", &backup.incr_schedule),
    ];
    let mut errors: Vec<_> = schedules
        .into_iter()
        .filter_map(|(path, schedule)| {
            let error = cron::check(schedule).err()?;
            Some(FieldError { path, message: format!("{schedule:?} {error}") })
        })
        .collect();
    if let Some((_, port)) = backup.endpoint.as_deref().and_then(|endpoint| endpoint.rsplit_once(':'))
        && !port.ends_with(']')
        && port.parse::<u16>().ok().filter(|port| *port > 0).is_none()
    {
        errors.push(FieldError {
            path: "spec.percona.backup.endpoint",
            message: format!("port {port:?} is no number between 1 and 65535"),
        });
    }
    if backup.ca_secret_ref.is_some() && !backup.verify_tls {
        errors.push(FieldError {
            path: "spec.percona.backup.caSecretRef",
            message: "has no use while verifyTLS is false".to_owned(),
        });
    }
    errors
}

/// A quantity as a number, good enough to compare two of them.
fn amount(quantity: &str) -> Option<f64> {
    let digits = quantity.find(|c: char| !c.is_ascii_digit() && !".+-".contains(c)).unwrap_or(quantity.len());
    let (number, suffix) = quantity.split_at(digits);
    let number: f64 = number.parse().ok()?;
    let factor = match suffix {
        "" => 1.0,
        "n" => 1e-9,
        "u" => 1e-6,
        "m" => 1e-3,
        "k" => 1e3,
        "M" => 1e6,
        "G" => 1e9,
        "T" => 1e12,
        "P" => 1e15,
        "E" => 1e18,
        "Ki" => 1024.0,
        "Mi" => 1024f64.powi(2),
        "Gi" => 1024f64.powi(3),
        "Ti" => 1024f64.powi(4),
        "Pi" => 1024f64.powi(5),
        "Ei" => 1024f64.powi(6),
        exponent => 10f64.powi(exponent.strip_prefix(['e', 'E'])?.parse().ok()?),
    };
    Some(number * factor)
}
