//! The values of a chart in the implementation file. They are what they are, but a placeholder in them must be known.

use std::fmt;

use serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

use super::template::Template;

/// Reads values. A placeholder that nobody fills in is an error at its place.
pub(super) fn read<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Map<String, Value>, D::Error> {
    match Checked::deserialize(deserializer)? {
        Checked(Value::Object(values)) => Ok(values),
        // As in YAML, where nothing follows the colon.
        Checked(Value::Null) => Ok(Map::new()),
        Checked(_) => Err(D::Error::custom("the values of a chart are a map")),
    }
}

/// A value whose texts are good templates.
struct Checked(Value);

impl<'de> Deserialize<'de> for Checked {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // An error that is made inside of a visitor keeps the place of the text.
        deserializer.deserialize_any(CheckedVisitor)
    }
}

struct CheckedVisitor;

impl<'de> Visitor<'de> for CheckedVisitor {
    type Value = Checked;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value of a chart")
    }

    fn visit_unit<E: Error>(self) -> Result<Checked, E> {
        Ok(Checked(Value::Null))
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Checked, E> {
        Ok(Checked(value.into()))
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Checked, E> {
        Ok(Checked(value.into()))
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Checked, E> {
        Ok(Checked(value.into()))
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Checked, E> {
        Ok(Checked(value.into()))
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Checked, E> {
        Template::try_from(text.to_owned()).map(|template| Checked(String::from(template).into())).map_err(E::custom)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Checked, A::Error> {
        let mut list = Vec::new();
        while let Some(Checked(item)) = items.next_element()? {
            list.push(item);
        }
        Ok(Checked(list.into()))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Checked, A::Error> {
        let mut object = Map::new();
        while let Some((name, Checked(value))) = entries.next_entry::<String, Checked>()? {
            object.insert(name, value);
        }
        Ok(Checked(object.into()))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[derive(serde::Deserialize)]
    struct Holder {
        #[serde(deserialize_with = "read")]
        values: Map<String, Value>,
    }

    #[test]
    fn values_are_read_as_they_are() {
        let text = "values: { a: [1, -2, 1.5, true, null, '7', '${operatorTag}'], b: { c: {}, d: [] } }";
        let read: Holder = serde_yaml::from_str(text).unwrap();
        let expected = json!({ "a": [1, -2, 1.5, true, null, "7", "${operatorTag}"], "b": { "c": {}, "d": [] } });
        assert_eq!(Value::Object(read.values), expected);
    }
}
