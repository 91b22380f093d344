//! `sql`: what a real PostgreSQL answers to somebody who logs in as the workload would.

use base64::Engine as _;
use futures::FutureExt as _;
use futures::future::BoxFuture;
use serde_json::{Map, Value, json};

use super::again::Again;
use super::expect::mismatched;
use crate::engine::context::Context;
use crate::engine::deadline::Deadline;
use crate::engine::trouble::{Failure, Mismatched, Subject, Trouble};
use crate::engine::watch::Kind;
use crate::environment::Stream;
use crate::postgres::{Error, Session, SslMode, Target, Trust};
use crate::scenario::expression::{evaluate_as, evaluate_text};
use crate::scenario::operations::{SecretKey, Sql, SqlExpectation, Tls};
use crate::scenario::pattern::Pattern;

/// Logs in and asks, each time anew, until the answer is right.
pub async fn sql(sql: &Sql, context: &mut Context, deadline: &Deadline) -> Result<Value, Trouble> {
    let expected = Expected::of(sql.expect.as_ref(), context)?;
    let parameters: Vec<String> = evaluate_as(&sql.parameters, &context.bindings)?;
    let mut again = Again::until(deadline);
    loop {
        if let Some(outcome) = again.attempt(attempt(sql, &parameters, &expected, context)).await {
            return outcome;
        }
    }
}

async fn attempt(sql: &Sql, parameters: &[String], expected: &Expected, context: &Context) -> Result<Value, Trouble> {
    let uri = match (&sql.uri, &sql.secret) {
        (Some(uri), _) => evaluate_text(uri, &context.bindings)?,
        (None, Some(key)) => secret_value(key, context).await?,
        (None, None) => return Err(Trouble::broken("sql needs one of uri, secret")),
    };
    let trust = match (&sql.ca, sql.tls) {
        (Some(key), Tls::VerifyFull) => Trust::Ca(secret_value(key, context).await?),
        _ => Trust::Any,
    };
    let mut target: Target = uri.parse().map_err(|error: Error| Failure::new(error.to_string()))?;
    target.sslmode = match sql.tls {
        Tls::Disable => SslMode::Disable,
        Tls::Require => SslMode::Require,
        Tls::VerifyFull => SslMode::VerifyFull,
    };
    let rows = ask(&target, &trust, &sql.query, parameters, context).await;
    expected.judge(rows, &target)
}

async fn ask(
    target: &Target,
    trust: &Trust,
    query: &str,
    parameters: &[String],
    context: &Context,
) -> Result<Vec<Map<String, Value>>, Error> {
    let stream = context.site.connect(&target.host, target.port).await;
    let stream = stream.map_err(|error| Error::Unreachable { address: target.address(), reason: error.to_string() })?;
    log_in(target, trust, stream).await?.objects(query, parameters).await
}

/// Boxed, because the compiler cannot see through the driver's generics that the future is `Send` (rust#100013).
fn log_in<'a>(target: &'a Target, trust: &'a Trust, stream: Box<dyn Stream>) -> BoxFuture<'a, Result<Session, Error>> {
    target.connect(stream, trust).boxed()
}

/// Reads a Secret's key as it is at this moment: a rotation must not be hidden by a watch that is a little behind.
async fn secret_value(key: &SecretKey, context: &Context) -> Result<String, Trouble> {
    let SecretKey { name, key, namespace } = evaluate_as(key, &context.bindings)?;
    let namespace = namespace.unwrap_or_else(|| context.namespace.clone());
    let request = http::Request::get(format!("/api/v1/namespaces/{namespace}/secrets/{name}")).body(Vec::new());
    let request = request.map_err(|error| Failure::new(format!("Secret {name}: {error}")))?;
    let answer = crate::engine::access::send(&context.client, request).await;
    let answer = answer.map_err(|error| Trouble::broken(format!("the API server cannot be reached: {error}")))?;
    let secret = answer.result.map_err(|status| Failure::new(format!("Secret {name}: {}", status.message)))?;
    let text = secret["data"][&key].as_str().and_then(|text| {
        let bytes = base64::engine::general_purpose::STANDARD.decode(text).ok()?;
        String::from_utf8(bytes).ok()
    });
    text.ok_or_else(|| Failure::new(format!("Secret {name} has no key {key}")).into())
}

enum Expected {
    Success,
    Rows(Vec<Pattern>),
    Refusal(String),
}

impl Expected {
    fn of(expectation: Option<&SqlExpectation>, context: &Context) -> Result<Self, Trouble> {
        Ok(match expectation {
            None => Self::Success,
            Some(SqlExpectation::Error { sqlstate }) => Self::Refusal(evaluate_text(sqlstate, &context.bindings)?),
            Some(SqlExpectation::Rows(rows)) => {
                let pattern =
                    |row: &Map<String, Value>| Pattern::resolve(&Value::Object(row.clone()), &context.bindings);
                Self::Rows(rows.iter().map(pattern).collect::<Result<_, _>>()?)
            }
        })
    }

    fn judge(&self, answer: Result<Vec<Map<String, Value>>, Error>, target: &Target) -> Result<Value, Trouble> {
        let who = format!("{} as {}", target.address(), target.user);
        match (self, answer) {
            (Self::Refusal(sqlstate), Err(error)) if error.sqlstate() == Some(sqlstate) => Ok(json!({"rows": []})),
            (Self::Refusal(sqlstate), Err(error)) => {
                Err(Failure::new(format!("{who}: expected SQLSTATE {sqlstate}, got: {error}")).into())
            }
            (Self::Refusal(sqlstate), Ok(_)) => {
                Err(Failure::new(format!("{who}: expected SQLSTATE {sqlstate}, but the statement succeeded")).into())
            }
            (Self::Success | Self::Rows(_), Err(error)) => Err(Failure::new(format!("{who}: {error}")).into()),
            (Self::Success, Ok(rows)) => Ok(json!({"rows": rows})),
            (Self::Rows(patterns), Ok(rows)) if patterns.len() != rows.len() => {
                Err(Failure::new(format!("{who}: got {} rows, expected {}", rows.len(), patterns.len())).into())
            }
            (Self::Rows(patterns), Ok(rows)) => {
                let mismatches = mismatches(patterns, &rows, target);
                if mismatches.is_empty() {
                    return Ok(json!({"rows": rows}));
                }
                Err(Failure { mismatches, ..Failure::new(format!("{who}: the rows are not as expected")) }.into())
            }
        }
    }
}

fn mismatches(patterns: &[Pattern], rows: &[Map<String, Value>], target: &Target) -> Vec<Mismatched> {
    let judged = patterns.iter().zip(rows).enumerate().flat_map(|(number, (pattern, row))| {
        let name = Some(format!("{} row {}", target.address(), number + 1));
        let subject = Subject { kind: Kind::new("", "PostgreSQL"), namespace: None, name };
        let row = Value::Object(row.clone());
        mismatched(&subject, &row, pattern.mismatches(Some(&row)))
    });
    judged.collect()
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    fn refused(sqlstate: &str) -> Error {
        Error::Server { sqlstate: sqlstate.to_owned(), severity: "FATAL".to_owned(), message: "m".to_owned() }
    }

    fn rows(values: Value) -> Vec<Map<String, Value>> {
        serde_json::from_value(values).unwrap()
    }

    #[rstest]
    #[case::refused_as_expected(Expected::Refusal("28P01".into()), Err(refused("28P01")), None)]
    #[case::refused_otherwise(Expected::Refusal("28P01".into()), Err(refused("3D000")), Some("got: FATAL 3D000: m"))]
    #[case::not_refused(Expected::Refusal("28P01".into()), Ok(rows(json!([]))), Some("but the statement succeeded"))]
    #[case::succeeds(Expected::Success, Ok(rows(json!([{"a": 1}]))), None)]
    #[case::too_many(Expected::Rows(vec![]), Ok(rows(json!([{"a": 1}]))), Some("got 1 rows, expected 0"))]
    #[case::differs(Expected::Rows(vec![Pattern::literal(&json!({"a": 2}))]), Ok(rows(json!([{"a": 1}]))), Some("not as expected"))]
    #[case::equal(Expected::Rows(vec![Pattern::literal(&json!({"a": 1}))]), Ok(rows(json!([{"a": 1, "b": 2}]))), None)]
    fn answers_are_judged(
        #[case] expected: Expected,
        #[case] answer: Result<Vec<Map<String, Value>>, Error>,
        #[case] failure: Option<&str>,
    ) {
        let target = "postgresql://dittofs:geheim-123@demo-primary.a.svc:5432/dittofs".parse().unwrap();
        match (expected.judge(answer, &target), failure) {
            (Ok(_), None) => {}
            (Err(Trouble::Failed(found)), Some(part)) => {
                assert!(found.message.contains(part), "{}", found.message);
                assert!(!found.message.contains("geheim"), "{}", found.message);
            }
            (judged, _) => panic!("{judged:?}"),
        }
    }
}
