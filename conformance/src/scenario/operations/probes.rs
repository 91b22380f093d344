//! Operations that look at something beside the API server. None of it can be watched, so each is tried again until it
//! is right or its limit is over.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::Object;
use crate::scenario::timeouts::Timeout;
use crate::scenario::types::Binding;

/// `script`. It runs in an empty directory of its own, without access to the cluster, with `PATH` and the variables
/// below as its whole environment. It must end with `exitCode`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Script {
    /// Why, for the report.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// Its limit; `script` by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<Timeout>,
    /// The text for `sh -eu`. Not an expression: values come by `env`.
    pub content: String,
    /// Variables.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub env: Vec<Binding>,
    /// The exit code that is right.
    #[serde(default)]
    pub exit_code: i32,
    /// Pattern for what it writes to standard output, without the last newline.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stdout: Option<String>,
    /// What later operations need of `result`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub outputs: Vec<Binding>,
}

/// `operatorLog`: tried again until the operator has written such a line, whenever that was.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct OperatorLog {
    /// Why, for the report.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// Its limit; `assert` by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<Timeout>,
    /// Texts that one line must contain, each.
    #[schemars(length(min = 1))]
    pub line: Vec<String>,
}

/// `sql`: tried again until the expectation holds, each time on a new connection.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Sql {
    /// Why, for the report.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// Its limit; `sql` by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<Timeout>,
    /// A Secret's key that holds the connection URI. It is read again for each attempt. Either this or `uri`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret: Option<SecretKey>,
    /// The connection URI. Either this or `secret`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uri: Option<String>,
    /// How the connection is secured.
    #[serde(default)]
    pub tls: Tls,
    /// For `tls: verifyFull`: the Secret's key that holds the CA in PEM.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca: Option<SecretKey>,
    /// One statement. Not an expression: values come by `parameters`.
    pub query: String,
    /// Values for `$1`, `$2`, … in the statement: text, each to be cast in the statement where it is not text.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub parameters: Vec<String>,
    /// What must come of it; just success by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expect: Option<SqlExpectation>,
    /// What later operations need of `result`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub outputs: Vec<Binding>,
}

/// A key of a Secret.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SecretKey {
    /// Name of the Secret.
    pub name: String,
    /// The key.
    pub key: String,
    /// Namespace; the scenario's own by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
}

/// How a connection to PostgreSQL is secured, in libpq's terms.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Tls {
    /// Plain text.
    Disable,
    /// TLS, with any certificate.
    #[default]
    Require,
    /// TLS, with a certificate of `ca` that names the host.
    VerifyFull,
}

/// What must come of a query.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase", deny_unknown_fields)]
pub enum SqlExpectation {
    /// The rows, in this order and no more: each a pattern by column name. Numbers and booleans come as such, NULL as
    /// `null`, everything else as text.
    Rows(Vec<Object>),
    /// The server refuses with this SQLSTATE, at login or at the statement.
    Error {
        /// Five characters, such as `28P01` for a wrong password.
        #[schemars(regex(pattern = r"^[0-9A-Z]{5}$"))]
        sqlstate: String,
    },
}

/// `http`: tried again until the expectation holds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Http {
    /// Why, for the report.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// Its limit; `http` by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<Timeout>,
    /// Name of the Service in the scenario's namespace.
    pub service: String,
    /// Its port.
    pub port: u16,
    /// Path with its query.
    pub path: String,
    /// The status that is right.
    #[serde(default = "http_ok")]
    pub status: u16,
    /// Pattern for the JSON body.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body: Option<Value>,
    /// What later operations need of `result`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub outputs: Vec<Binding>,
}

/// `s3`: looked at again until everything holds. At least one of `objects`, `absent`, `count`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct S3 {
    /// Why, for the report.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// Its limit; `s3` by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<Timeout>,
    /// The bucket; `${env.s3.bucket}` by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bucket: Option<String>,
    /// Only keys that begin with this are looked at. A leading `/` is ignored.
    pub prefix: String,
    /// Globs over keys without the prefix (`*` stays within one level, `**` does not): each must find at least one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub objects: Vec<String>,
    /// Globs that must find nothing.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub absent: Vec<String>,
    /// How many objects there are under the prefix.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub count: Option<u64>,
    /// What later operations need of `result`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub outputs: Vec<Binding>,
}

fn http_ok() -> u16 {
    200
}
