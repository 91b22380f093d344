//! What the API server answers when a volume claim is to become another one, and how Percona takes it
//! (`handlePersistentVolumeClaimError` in its source): the claim stays as it is, and everything else goes on.
//!
//! Pure.

/// The type of the condition that says so.
pub const RESIZING: &str = "PersistentVolumeResizing";
/// The causes of an invalid claim that Percona knows: a claim that is not bound yet, and a size that it cannot have.
const UNBOUND: &str = "spec";
const SIZE: &str = "spec.resources.requests.storage";

/// A change of a claim that was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// What the Event `PersistentVolumeError` says: the API server's own words.
    pub message: String,
    /// The condition, when it is the size that was refused: type, status, reason and message.
    pub condition: Option<[&'static str; 4]>,
}

/// The refusal with which Percona goes on; `None` for every other error.
pub fn refusal(error: &kube::Error) -> Option<Refusal> {
    let kube::Error::Api(status) = error else { return None };
    let causes = status.details.as_ref().map(|details| details.causes.as_slice()).unwrap_or_default();
    let (reason, of_size) = match status.code {
        // An admission controller: the storage class cannot grow volumes.
        403 => ("Forbidden", true),
        422 if !causes.is_empty()
            && causes.iter().all(|cause| {
                cause.reason == "FieldValueForbidden" && [UNBOUND, SIZE].contains(&cause.field.as_str())
            }) =>
        {
            ("Invalid", causes.iter().any(|cause| cause.field == SIZE))
        }
        _ => return None,
    };
    let condition = of_size.then_some([RESIZING, "False", reason, "One or more volumes cannot be resized"]);
    Some(Refusal { message: status.message.clone(), condition })
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::{Value, json};

    use super::*;

    #[rstest]
    #[case::by_admission(403, &[], Some("Forbidden"))]
    #[case::not_bound(422, &[("FieldValueForbidden", UNBOUND)], Some(""))]
    #[case::smaller(422, &[("FieldValueForbidden", SIZE)], Some("Invalid"))]
    #[case::both(422, &[("FieldValueForbidden", UNBOUND), ("FieldValueForbidden", SIZE)], Some("Invalid"))]
    #[case::no_cause(422, &[], None)]
    #[case::no_quantity(422, &[("FieldValueInvalid", SIZE)], None)]
    #[case::more(422, &[("FieldValueForbidden", UNBOUND), ("FieldValueForbidden", "spec.accessModes")], None)]
    #[case::conflict(409, &[], None)]
    fn only_a_claim_that_cannot_change_is_left_alone(
        #[case] code: u16,
        #[case] causes: &[(&str, &str)],
        #[case] expected: Option<&str>,
    ) {
        let causes: Vec<Value> =
            causes.iter().map(|(reason, field)| json!({ "reason": reason, "field": field })).collect();
        let status = json!({ "code": code, "message": "no", "details": { "causes": causes } });
        let error = kube::Error::Api(Box::new(serde_json::from_value(status).unwrap()));
        let refusal = refusal(&error);
        let reason = refusal.as_ref().map(|refusal| refusal.condition.map_or("", |condition| condition[2]));
        assert_eq!(reason, expected);
        assert!(refusal.is_none_or(|refusal| refusal.message == "no"));
    }
}
