//! Rows as JSON, for those who compare them.

use serde_json::{Map, Value};
use tokio_postgres::types::Type;

use super::{Error, Session};

impl Session {
    /// Runs one statement with `parameters` for `$1`, `$2`, …, all of them text, and gives its rows by column name.
    /// Numbers and booleans come as such, `NULL` as null, everything else as PostgreSQL writes it in text form.
    ///
    /// With parameters the statement must be one that `PREPARE` takes (a query, or one that changes rows).
    pub async fn objects(&self, statement: &str, parameters: &[String]) -> Result<Vec<Map<String, Value>>, Error> {
        let texts = vec![Type::TEXT; parameters.len()];
        let prepared = self.client.prepare_typed(statement, &texts).await.map_err(|error| self.error(&error))?;
        let types: Vec<Type> = prepared.columns().iter().map(|column| column.type_().clone()).collect();
        // The driver wants binary results and would have to know every type; the simple protocol gives text for all.
        let rows = if parameters.is_empty() {
            self.query(statement).await?
        } else {
            let types = vec!["text"; parameters.len()].join(", ");
            self.query(&format!("prepare conformance ({types}) as {statement}")).await?;
            let values: Vec<String> = parameters.iter().map(|value| literal(value)).collect();
            let rows = self.query(&format!("execute conformance ({})", values.join(", "))).await?;
            self.query("deallocate conformance").await?;
            rows
        };
        let object = |row: Vec<Option<String>>| {
            let values =
                row.into_iter().zip(&types).map(|(value, kind)| value.map_or(Value::Null, |text| json(text, kind)));
            rows.columns.iter().cloned().zip(values).collect()
        };
        Ok(rows.values.into_iter().map(object).collect())
    }
}

/// With `standard_conforming_strings`, the default since PostgreSQL 9.1, only quotes need doubling.
fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

fn json(text: String, kind: &Type) -> Value {
    match *kind {
        Type::BOOL => Value::Bool(text == "t"),
        Type::INT2 | Type::INT4 | Type::INT8 | Type::OID | Type::FLOAT4 | Type::FLOAT8 | Type::NUMERIC => {
            serde_json::from_str(&text).unwrap_or(Value::String(text))
        }
        _ => Value::String(text),
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::json as value;

    use super::*;

    #[rstest]
    #[case("t", Type::BOOL, value!(true))]
    #[case("42", Type::INT8, value!(42))]
    #[case("1.5", Type::NUMERIC, value!(1.5))]
    #[case("NaN", Type::FLOAT8, value!("NaN"))]
    #[case("42", Type::TEXT, value!("42"))]
    fn numbers_and_booleans_come_as_such(#[case] text: &str, #[case] kind: Type, #[case] expected: Value) {
        assert_eq!(json(text.to_owned(), &kind), expected);
    }

    #[test]
    fn a_quote_stays_inside_its_literal() {
        assert_eq!(literal(r"it's \ here"), r"'it''s \ here'");
    }
}
