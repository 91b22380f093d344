//! Schemas that no derive can express.

use schemars::{Schema, SchemaGenerator, json_schema};

/// What `resource.Quantity` of Kubernetes accepts.
const QUANTITY: &str = r"^[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([KMGTPE]i|[numkMGTPE]|[eE][+-]?[0-9]+)?$";

/// One that is not below zero: a container asks for nothing else.
const AMOUNT: &str = r"^\+?([0-9]+(\.[0-9]*)?|\.[0-9]+)([KMGTPE]i|[numkMGTPE]|[eE][+-]?[0-9]+)?$";

/// A quantity of storage, more than nothing.
pub(super) fn size(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "string",
        "maxLength": 32,
        "pattern": QUANTITY,
        "x-kubernetes-validations": [{
            "rule": "isQuantity(self) && quantity(self).isGreaterThan(quantity('0'))",
            "message": "must be a quantity above zero, such as 10Gi",
        }],
    })
}

/// The same, or nothing.
pub(super) fn optional_size(generator: &mut SchemaGenerator) -> Schema {
    let mut schema = size(generator);
    schema.insert("nullable".to_owned(), true.into());
    schema
}

/// Quantities by resource name, like `resources.limits` of a container: CPU, memory, ephemeral storage and three more. The
/// rule that compares two such lists costs what there may be in them at most; with sixteen, Kubernetes 1.33 refuses the CRD
/// for it.
pub(super) fn resource_list(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "object",
        "maxProperties": 6,
        "additionalProperties": {
            "x-kubernetes-int-or-string": true,
            "maxLength": 32,
            "minimum": 0,
            "pattern": AMOUNT,
        },
    })
}

/// Conditions, one of each type.
pub(super) fn conditions(generator: &mut SchemaGenerator) -> Schema {
    let mut schema = generator.subschema_for::<Vec<k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition>>();
    schema.insert("x-kubernetes-list-type".to_owned(), "map".into());
    schema.insert("x-kubernetes-list-map-keys".to_owned(), serde_json::json!(["type"]));
    schema
}
