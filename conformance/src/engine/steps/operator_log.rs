//! `operatorLog`: what the operator under test has written.

use serde_json::Value;

use super::again::Again;
use crate::engine::context::Context;
use crate::engine::deadline::Deadline;
use crate::engine::trouble::{Failure, Trouble};
use crate::scenario::expression::evaluate_as;
use crate::scenario::operations::OperatorLog;

/// Reads the log until a line has all that it must.
pub async fn operator_log(
    expected: &OperatorLog,
    context: &mut Context,
    deadline: &Deadline,
) -> Result<Value, Trouble> {
    let texts: Vec<String> = evaluate_as(&expected.line, &context.bindings)?;
    let log = context.site.operator().await?.log;
    let mut again = Again::until(deadline);
    loop {
        let attempt = async {
            let bytes =
                tokio::fs::read(&log).await.map_err(|error| Trouble::broken(format!("{}: {error}", log.display())))?;
            if holds(&String::from_utf8_lossy(&bytes), &texts) {
                return Ok(Value::Null);
            }
            let texts = texts.join("`, `");
            Err(Failure::new(format!("no line of the operator's log holds `{texts}`")).into())
        };
        if let Some(outcome) = again.attempt(attempt).await {
            return outcome;
        }
    }
}

fn holds(log: &str, texts: &[String]) -> bool {
    log.lines().any(|line| texts.iter().all(|text| line.contains(text)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_holds_all() {
        let texts = ["demo", "team-a"].map(str::to_owned);
        assert!(holds("starting\nserver=demo namespace=team-a\n", &texts));
        assert!(!holds("server=demo\nnamespace=team-a\n", &texts));
        assert!(!holds("", &texts));
    }
}
