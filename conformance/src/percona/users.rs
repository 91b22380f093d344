//! Databases, roles, grants and schemas, as Percona makes them (`contract.md`, 2.5).

use std::collections::BTreeSet;
use std::fmt::Write as _;

use serde_json::Value;
use sha2::{Digest as _, Sha256};

use super::names::Key;
use super::role_options::{complaint, sanitized};
use super::secret::{Login, PasswordType};
use crate::postgres::{Error, PORT, Server, Session};

/// Roles for which no schema is made.
const NO_SCHEMA: [&str; 3] = ["public", "pgbouncer", "monitor"];

/// One entry of `spec.users`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    /// Role.
    pub name: String,
    /// Its databases.
    pub databases: Vec<String>,
    /// `ALTER ROLE` options, as Percona passes them on.
    pub options: String,
    /// Name of its Secret.
    pub secret: String,
    /// Characters of a generated password.
    pub password: PasswordType,
    /// Whether it may write to schema `public`.
    pub public: bool,
    /// Whether it gets a schema of its own name in each of its databases (`autoCreateUserSchema`).
    pub schema: bool,
}

impl User {
    /// The users of a cluster. None given, or an empty list, means one that is named after the cluster.
    pub fn of(key: &Key, spec: &Value) -> Vec<Self> {
        let listed = spec["users"].as_array().map(Vec::as_slice).unwrap_or_default();
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        if listed.is_empty() {
            let name = key.name.clone();
            return vec![Self {
                databases: vec![name.clone()],
                options: String::new(),
                secret: key.named(&format!("pguser-{name}")),
                password: PasswordType::Ascii,
                public: false,
                schema: true,
                name,
            }];
        }
        listed
            .iter()
            .map(|user| {
                let name = text(&user["name"]);
                Self {
                    databases: user["databases"].as_array().into_iter().flatten().map(text).collect(),
                    options: sanitized(user["options"].as_str().unwrap_or_default()),
                    secret: user["secretName"]
                        .as_str()
                        .map_or_else(|| key.named(&format!("pguser-{name}")), str::to_owned),
                    password: match user["password"]["type"].as_str() {
                        Some("AlphaNumeric") => PasswordType::AlphaNumeric,
                        _ => PasswordType::Ascii,
                    },
                    public: user["grantPublicSchemaAccess"] == true,
                    schema: true,
                    name,
                }
            })
            .collect()
    }

    /// What its Secret says. `port` is that of its Services.
    pub fn login(&self, key: &Key, spec: &Value, port: u16) -> Login {
        let pgbouncer = spec["proxy"]["pgBouncer"]["port"].as_u64().and_then(|port| port.try_into().ok());
        let pgbouncer = if pgbouncer.is_none_or(|wanted| wanted == PORT) { port } else { pgbouncer.unwrap_or(port) };
        Login {
            user: self.name.clone(),
            dbname: self.databases.first().cloned(),
            password: self.password,
            host: key.host("primary"),
            port,
            pgbouncer: Some((key.host("pgbouncer"), pgbouncer)),
        }
    }
}

/// All databases that `users` name.
fn databases(users: &[(User, String)]) -> BTreeSet<&str> {
    users.iter().flat_map(|(user, _)| user.databases.iter().map(String::as_str)).collect()
}

/// What is wrong with the users of a cluster, as the Event `InvalidUser` says it.
pub fn complaints(spec: &Value) -> Vec<String> {
    let listed = spec["users"].as_array().into_iter().flatten().enumerate();
    listed.filter_map(|(index, user)| complaint(index, user["options"].as_str()?)).collect()
}

/// A hash of what is to be done in the databases: done again only when it changes, as with the real operator.
pub fn revisions(users: &[(User, String)]) -> (String, String) {
    let hash = |text: &str| hex::encode(&Sha256::digest(text)[..5]);
    let listed: Vec<&str> = databases(users).into_iter().collect();
    let all = users.iter().map(|(user, verifier)| roles(user, verifier) + &schema(user) + &grants(user));
    (hash(&listed.join("\n")), hash(&all.collect::<String>()))
}

/// Makes the databases and roles, sets the passwords (each given as its verifier), grants and makes schemas.
///
/// A defect of 2.8 is kept (`WriteUsersInPostgreSQL` in its source): where schemas are made, each is tried whatever became of the
/// roles and of the schemas before it, and it is the result of the last user's that counts.
pub async fn apply(server: &Server, users: &[(User, String)]) -> Result<(), Error> {
    let postgres = server.superuser("postgres").await?;
    for database in databases(users) {
        let known = format!("select 1 from pg_database where datname = {}", literal(database));
        if postgres.value(&known).await?.is_none() {
            postgres.query(&format!("create database {}", identifier(database))).await?;
        }
    }
    let mut result = write_roles(&postgres, users).await;
    if users.iter().any(|(user, _)| user.schema) {
        result = Ok(());
    }
    for (user, _) in users {
        let schema = schema(user);
        if !schema.is_empty() && !user.databases.is_empty() {
            result = in_databases(server, user, &schema).await;
        }
    }
    for (user, _) in users {
        let grants = grants(user);
        if !grants.is_empty() && !user.databases.is_empty() {
            in_databases(server, user, &grants).await?;
            result = Ok(());
        }
    }
    result?;
    // That of PgBouncer, in every database that can be connected to.
    for database in databases(users).into_iter().filter(|name| *name != "template0") {
        server.superuser(database).await?.query("create schema if not exists pgbouncer").await?;
    }
    Ok(())
}

/// The roles of all users, or of none: one transaction, and one statement after the other.
async fn write_roles(postgres: &Session, users: &[(User, String)]) -> Result<(), Error> {
    postgres.query("begin").await?;
    for (user, verifier) in users {
        if let Err(error) = postgres.query(&roles(user, verifier)).await {
            // The first error is what counts; a session that is broken has nothing to take back.
            let _ = postgres.query("rollback").await;
            return Err(error);
        }
    }
    postgres.query("commit").await.map(drop)
}

/// Runs statements in each of a user's databases, up to one that refuses.
async fn in_databases(server: &Server, user: &User, sql: &str) -> Result<(), Error> {
    for database in &user.databases {
        server.superuser(database).await?.query(sql).await?;
    }
    Ok(())
}

fn roles(user: &User, verifier: &str) -> String {
    let (name, quoted) = (identifier(&user.name), literal(&user.name));
    let options = if user.name == "postgres" { "login superuser" } else { user.options.as_str() };
    let mut sql = format!(
        "do $$ begin if not exists (select from pg_roles where rolname = {quoted}) then create user {name}; end if; end \
         $$; alter role {name} with {options} password {}; ",
        literal(verifier)
    );
    for database in &user.databases {
        write!(sql, "grant all privileges on database {} to {name}; ", identifier(database))
            .expect("a String takes everything");
    }
    sql
}

/// The schema of the user's own; empty when there is none.
fn schema(user: &User) -> String {
    let name = identifier(&user.name);
    if !user.schema || NO_SCHEMA.contains(&user.name.as_str()) {
        return String::new();
    }
    format!("create schema if not exists {name} authorization {name}; ")
}

/// What the user may do in schema `public`; empty when that is nothing.
fn grants(user: &User) -> String {
    let (name, mut sql) = (identifier(&user.name), String::new());
    if user.public {
        for right in [
            "all privileges on schema public",
            "all on all tables in schema public",
            "all on all sequences in schema public",
        ] {
            write!(sql, "grant {right} to {name}; ").expect("a String takes everything");
        }
        for kind in ["tables", "sequences"] {
            write!(sql, "alter default privileges in schema public grant all on {kind} to {name}; ")
                .expect("a String takes everything");
        }
    }
    sql
}

fn identifier(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn key() -> Key {
        Key { namespace: "a".into(), name: "demo".into() }
    }

    #[test]
    fn no_users_means_one_named_after_the_cluster() {
        for spec in [json!({}), json!({"users": []})] {
            let users = User::of(&key(), &spec);
            assert_eq!(users.len(), 1);
            assert_eq!(
                (users[0].secret.as_str(), users[0].databases.as_slice()),
                ("demo-pguser-demo", &["demo".to_owned()][..])
            );
        }
    }

    #[test]
    fn a_user_s_secret_can_have_a_name_of_its_own() {
        let spec = json!({"users": [{"name": "app", "secretName": "mine", "password": {"type": "AlphaNumeric"}}]});
        let user = User::of(&key(), &spec).remove(0);
        assert_eq!((user.secret.as_str(), user.password), ("mine", PasswordType::AlphaNumeric));
        assert_eq!(user.login(&key(), &spec, 5432).dbname, None);
    }

    #[test]
    fn names_cannot_break_out_of_the_sql() {
        let user = User { databases: vec!["a\"b".into()], ..User::of(&key(), &json!({})).remove(0) };
        let sql = roles(&user, "v'erifier");
        assert!(sql.contains("on database \"a\"\"b\" to \"demo\"") && sql.contains("password 'v''erifier'"), "{sql}");
    }

    #[test]
    fn the_revision_changes_with_what_is_done_about_schemas() {
        let user = User::of(&key(), &json!({})).remove(0);
        let revision = |user: User| revisions(&[(user, "verifier".into())]).1;
        let before = revision(user.clone());
        assert_ne!(revision(User { public: true, ..user.clone() }), before);
        assert_ne!(revision(User { schema: false, ..user.clone() }), before);
        assert_eq!(schema(&User { schema: false, ..user }), "");
    }

    #[test]
    fn only_options_reach_the_sql() {
        let users = json!([{ "name": "app", "options": "LOGIN" }, { "name": "other", "options": "PASSWORD 'x' -- y" }]);
        let spec = json!({ "users": users });
        let sql: Vec<String> = User::of(&key(), &spec).iter().map(|user| roles(user, "verifier")).collect();
        assert!(sql[0].contains("alter role \"app\" with LOGIN password 'verifier';"), "{sql:?}");
        assert!(sql[1].contains("alter role \"other\" with  password 'verifier';"), "{sql:?}");
        assert_eq!(complaints(&spec).len(), 1);
        assert!(complaints(&spec)[0].starts_with("[spec.users[1].options: "));
        assert!(complaints(&json!({})).is_empty());
    }

    #[test]
    fn the_revision_changes_with_a_password() {
        let user = User::of(&key(), &json!({})).remove(0);
        let (databases, users) = revisions(&[(user.clone(), "one".into())]);
        let (same, other) = revisions(&[(user, "two".into())]);
        assert_eq!(databases, same);
        assert_ne!(users, other);
    }
}
