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
    let enabled = spec.percona.as_ref().filter(|percona| percona.enabled);
    enabled.into_iter().flat_map(backup).collect()
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
    let endpoint = backup.endpoint.as_deref().unwrap_or_default();
    let digits = |port: &str| port.bytes().all(|byte| byte.is_ascii_digit());
    if endpoint.starts_with(':') {
        errors
            .push(FieldError { path: "spec.percona.backup.endpoint", message: format!("{endpoint:?} names no host") });
    } else if let Some((_, port)) = endpoint.rsplit_once(':')
        && !port.ends_with(']')
        && !(digits(port) && port.parse::<u16>().is_ok_and(|port| port > 0))
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

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::validate;
    use crate::testing::{BACKED_UP, server};

    #[rstest]
    #[case::fine("", &[])]
    #[case::cron("fullSchedule: 61 * * * *", &["spec.percona.backup.fullSchedule"])]
    #[case::both("fullSchedule: daily\n    incrSchedule: '@every 1h'", &["spec.percona.backup.fullSchedule", "spec.percona.backup.incrSchedule"])]
    #[case::ca("caSecretRef: {name: a, key: b}", &[])]
    #[case::unverified("verifyTLS: false", &[])]
    #[case::ca_without_use("verifyTLS: false\n    caSecretRef: {name: a, key: b}", &["spec.percona.backup.caSecretRef"])]
    fn names_the_field(#[case] more: &str, #[case] paths: &[&str]) {
        let errors = validate(&server(&format!("{BACKED_UP}\n    {more}")).spec);
        assert_eq!(errors.iter().map(|error| error.path).collect::<Vec<_>>(), paths, "{errors:?}");
    }

    #[test]
    fn an_error_is_told_with_its_place() {
        let errors =
            validate(&server(&format!("{BACKED_UP}\n    verifyTLS: false\n    caSecretRef: {{name: a, key: b}}")).spec);
        let told = "spec.percona.backup.caSecretRef: has no use while verifyTLS is false";
        assert_eq!(errors.iter().map(ToString::to_string).collect::<Vec<_>>(), [told]);
    }

    #[rstest]
    #[case("minio:9000", true)]
    #[case("s3.amazonaws.com", true)]
    #[case("[::1]:9000", true)]
    #[case("[::1]", true)]
    #[case("minio:", false)]
    #[case("minio:0", false)]
    #[case("minio:99999", false)]
    #[case("minio:+9000", false)]
    #[case(":9000", false)]
    fn an_endpoint_has_a_port_or_none(#[case] endpoint: &str, #[case] fine: bool) {
        let spec = BACKED_UP.replace("minio.minio.svc:9000", &format!("{endpoint:?}"));
        assert_eq!(validate(&server(&spec).spec).is_empty(), fine);
    }

    #[test]
    fn what_is_off_is_not_judged() {
        let spec = format!("{BACKED_UP}\n    fullSchedule: never")
            .replace("percona:\n  enabled: true", "percona:\n  enabled: false");
        assert_eq!(validate(&server(&spec).spec), []);
    }
}
