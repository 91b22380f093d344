//! `admission`: a write that must be denied for the right reason, or be allowed with the right warnings.

use kube::api::{DeleteParams, PatchParams, PostParams};
use kube::core::Status;
use serde_json::Value;

use super::again::Again;
use super::write::{Draft, Target, apply_params, create_params, patch_params, seen, send};
use crate::engine::access::Answer;
use crate::engine::context::Context;
use crate::engine::deadline::Deadline;
use crate::engine::trouble::{Failure, Trouble};
use crate::scenario::expression::{evaluate, evaluate_as};
use crate::scenario::operations::{Admission, AdmissionExpectation, AdmissionRequest};

/// Sends the write and judges the answer, again and again where the scenario says that it may take a while.
pub async fn admission(admission: &Admission, context: &mut Context, deadline: &Deadline) -> Result<Value, Trouble> {
    if admission.eventually {
        let mut again = Again::until(deadline);
        loop {
            if let Some(outcome) = again.attempt(once(admission, context, deadline)).await {
                return outcome;
            }
        }
    } else {
        once(admission, context, deadline).await
    }
}

async fn once(admission: &Admission, context: &mut Context, deadline: &Deadline) -> Result<Value, Trouble> {
    let dry_run = admission.dry_run;
    let (request, subject, feed) = match &admission.request {
        AdmissionRequest::Create(object) => {
            let draft = Draft::of_template(object, context, deadline).await?;
            (draft.create(&PostParams { dry_run, ..create_params(context) }), draft.subject, draft.feed)
        }
        AdmissionRequest::Apply(object) => {
            let draft = Draft::of_template(object, context, deadline).await?;
            (draft.apply(&PatchParams { dry_run, ..apply_params(context) }), draft.subject, draft.feed)
        }
        AdmissionRequest::Patch { r#ref, merge } => {
            let target = Target::of_template(r#ref, context, deadline).await?;
            let body = evaluate(&Value::Object(merge.clone()), &context.bindings)?;
            let parameters = PatchParams { dry_run, ..patch_params(context) };
            (target.patch(&body, None, &parameters), target.subject, target.feed)
        }
        AdmissionRequest::Delete(reference) => {
            let target = Target::of_template(reference, context, deadline).await?;
            (target.delete(&DeleteParams { dry_run, ..DeleteParams::background() }), target.subject, target.feed)
        }
    };
    let expected = evaluate_as(&admission.expect, &context.bindings)?;
    let answer = send(request, context, deadline).await?;
    let object = judge(&expected, answer).map_err(|failure| failure.about(subject))?;
    // What was not stored no watch will ever show.
    if !dry_run && object["metadata"]["resourceVersion"].is_string() {
        seen(&feed, &object, context, deadline).await?;
    }
    Ok(object)
}

fn judge(expected: &AdmissionExpectation, answer: Answer) -> Result<Value, Failure> {
    match (expected, answer.result) {
        (AdmissionExpectation::Denied { message, fields }, Err(status)) => {
            denied(&status, message, fields).map(|()| Value::Null)
        }
        (AdmissionExpectation::Denied { message, .. }, Ok(_)) => {
            Err(Failure::new(format!("the API server allowed it; expected a refusal that says {}", quoted(message))))
        }
        (AdmissionExpectation::Unanswered {}, Err(status)) if status.message.contains("failed calling webhook") => {
            Ok(Value::Null)
        }
        (AdmissionExpectation::Unanswered {}, Err(status)) => Err(Failure::new(format!(
            "the write failed, and not because of a webhook: {} ({})",
            status.message, status.code
        ))),
        (AdmissionExpectation::Unanswered {}, Ok(_)) => {
            Err(Failure::new("the API server allowed it; expected that it cannot ask a webhook".to_owned()))
        }
        (AdmissionExpectation::Allowed { .. }, Err(status)) => {
            Err(Failure::new(format!("the API server refused it ({}): {}", status.code, status.message)))
        }
        (AdmissionExpectation::Allowed { warnings: None }, Ok(object)) => Ok(object),
        (AdmissionExpectation::Allowed { warnings: Some(expected) }, Ok(object)) => {
            warned(expected, &answer.warnings).map(|()| object)
        }
    }
}

/// Only a verdict is a denial: the schema's (422), a webhook's or a policy's (by their own words), or a decoder's (400).
fn denied(status: &Status, message: &[String], fields: &[String]) -> Result<(), Failure> {
    let verdict = matches!(status.code, 400 | 422) || status.message.contains("denied the request");
    let answer = format!("{} ({}, {})", status.message, status.code, status.reason);
    if !verdict {
        return Err(Failure::new(format!("the write failed, and was not denied: {answer}")));
    }
    let causes = status.details.iter().flat_map(|details| &details.causes);
    let named: Vec<&str> = causes.map(|cause| cause.field.as_str()).collect();
    let missing = |text: &&String| !contains(&status.message, text);
    if let Some(missing) = message.iter().find(missing) {
        return Err(Failure::new(format!("the refusal does not say `{missing}`: {answer}")));
    }
    if let Some(missing) = fields.iter().find(|field| !named.contains(&field.as_str()) && missing(field)) {
        return Err(Failure::new(format!("the refusal does not name the field {missing}: {answer}")));
    }
    Ok(())
}

fn warned(expected: &[String], warnings: &[String]) -> Result<(), Failure> {
    let seen = if warnings.is_empty() { "nothing".to_owned() } else { quoted(warnings) };
    if expected.is_empty() && !warnings.is_empty() {
        return Err(Failure::new(format!("the API server warned of {seen}; expected no warning")));
    }
    match expected.iter().find(|text| !warnings.iter().any(|warning| contains(warning, text))) {
        Some(missing) => Err(Failure::new(format!("no warning says `{missing}`: the API server warned of {seen}"))),
        None => Ok(()),
    }
}

fn contains(text: &str, part: &str) -> bool {
    text.to_lowercase().contains(&part.to_lowercase())
}

fn quoted(texts: &[String]) -> String {
    texts.iter().map(|text| format!("`{text}`")).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::json;

    use super::*;

    fn refusal(code: u16, message: &str) -> Answer {
        let status = json!({"kind": "Status", "status": "Failure", "code": code, "message": message, "reason": "Forbidden",
            "details": {"causes": [{"field": "spec.percona.replicas", "message": "m", "reason": "r"}]}});
        Answer { result: Err(serde_json::from_value(status).unwrap()), warnings: Vec::new() }
    }

    fn denied_by(message: &[&str], fields: &[&str]) -> AdmissionExpectation {
        let texts = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
        AdmissionExpectation::Denied { message: texts(message), fields: texts(fields) }
    }

    #[rstest]
    #[case::webhook(403, r#"admission webhook "v.x" denied the request: install the Percona Operator"#, &["percona operator"], &[], None)]
    #[case::schema(422, "spec.percona.replicas: Invalid value", &["invalid"], &["spec.percona.replicas"], None)]
    #[case::other_reason(422, "spec.image: Invalid value", &["percona"], &[], Some("does not say `percona`"))]
    #[case::other_field(422, "Invalid value", &["invalid"], &["spec.image"], Some("does not name the field spec.image"))]
    #[case::webhook_is_down(500, "failed calling webhook: connection refused", &["webhook"], &[], Some("was not denied"))]
    #[case::rbac(403, "dittoservers is forbidden: User cannot create", &["forbidden"], &[], Some("was not denied"))]
    fn only_the_right_refusal_counts(
        #[case] code: u16,
        #[case] said: &str,
        #[case] message: &[&str],
        #[case] fields: &[&str],
        #[case] failure: Option<&str>,
    ) {
        let judged = judge(&denied_by(message, fields), refusal(code, said));
        match (judged, failure) {
            (Ok(_), None) => {}
            (Err(error), Some(part)) => assert!(error.message.contains(part), "{}", error.message),
            (judged, _) => panic!("{judged:?}"),
        }
    }

    #[rstest]
    #[case::down(500, r#"Internal error occurred: failed calling webhook "v.x": connection refused"#, true)]
    #[case::denied(403, r#"admission webhook "v.x" denied the request: no"#, false)]
    fn a_webhook_that_is_down_is_no_verdict(#[case] code: u16, #[case] said: &str, #[case] passes: bool) {
        assert_eq!(judge(&AdmissionExpectation::Unanswered {}, refusal(code, said)).is_ok(), passes);
    }

    #[rstest]
    #[case::not_judged(None, &["w"], true)]
    #[case::none_expected(Some(vec![]), &["w"], false)]
    #[case::the_right_one(Some(vec!["percona WINS".to_owned()]), &["both set: Percona wins"], true)]
    #[case::another_one(Some(vec!["percona wins".to_owned()]), &["deprecated"], false)]
    fn warnings_are_judged_when_they_are_named(
        #[case] expected: Option<Vec<String>>,
        #[case] seen: &[&str],
        #[case] passes: bool,
    ) {
        let warnings = seen.iter().map(|text| (*text).to_owned()).collect();
        let answer = Answer { result: Ok(json!({})), warnings };
        assert_eq!(judge(&AdmissionExpectation::Allowed { warnings: expected }, answer).is_ok(), passes);
    }
}
