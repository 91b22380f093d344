//! The user Secret: what stands in it, and how Percona completes one that was changed.
//!
//! Pure: no client, no clock. Source: `contract.md` 2.2, 2.3 and 2.6, confirmed by the traces a, d1–d4, e1–e4, j and n10.

use std::collections::BTreeMap;
use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use percent_encoding::{AsciiSet, utf8_percent_encode};
use postgres_protocol::password::scram_sha_256;
use rand::Rng;
use rand::seq::IndexedRandom as _;
use sha2::{Digest as _, Sha256};

use crate::escape::{UNRESERVED, USERINFO};
use crate::redact;

/// The data of a Secret, decoded.
pub type Data = BTreeMap<String, Vec<u8>>;

/// The keys that Percona writes; without a database only those that have nothing to do with one.
pub const KEYS: [&str; 12] = [
    "dbname",
    "host",
    "jdbc-uri",
    "password",
    "pgbouncer-host",
    "pgbouncer-jdbc-uri",
    "pgbouncer-port",
    "pgbouncer-uri",
    "port",
    "uri",
    "user",
    "verifier",
];
/// Length of a generated password.
const LENGTH: usize = 24;
const ALPHANUMERIC: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
/// What `ASCII` passwords hold beside letters and digits.
const SPECIAL: &[u8] = b"()*+,-./:;<=>?@[]^_{|}";

/// What stays as it is in the path of a URI (Go's `url.URL`).
const PATH: &AsciiSet = &USERINFO.remove(b'/').remove(b':').remove(b'@');

/// The characters of a generated password (`users[].password.type`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PasswordType {
    /// Letters, digits and `()*+,-./:;<=>?@[]^_{|}`.
    #[default]
    Ascii,
    /// Letters and digits.
    AlphaNumeric,
}

/// One entry of `spec.users`, and where its cluster can be reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Login {
    /// Role.
    pub user: String,
    /// First of its databases, if it has any.
    pub dbname: Option<String>,
    /// Characters of a generated password.
    pub password: PasswordType,
    /// `<cluster>-primary.<namespace>.svc`.
    pub host: String,
    /// Port of PostgreSQL.
    pub port: u16,
    /// Host and port of PgBouncer: in 2.8 always there.
    pub pgbouncer: Option<(String, u16)>,
}

/// The data that the Secret is to have, given what it has now. What it already holds is kept, with three rules:
/// without a password both password and verifier are new; without a verifier only that is; a verifier that does not
/// belong to the password stays, so that the Secret is then wrong until somebody clears it.
pub fn complete(existing: &Data, login: &Login, rng: &mut impl Rng) -> Data {
    let held = |key: &str| existing.get(key).filter(|value| !value.is_empty()).cloned();
    let (password, kept) = match held("password") {
        Some(password) => (password, held("verifier")),
        None => (generate(login.password, rng).into_bytes(), None),
    };
    let verifier = kept.unwrap_or_else(|| scram_sha_256(&password).into_bytes());
    let text = String::from_utf8_lossy(&password).into_owned();
    redact::register(&text);
    redact::register(&String::from_utf8_lossy(&verifier));

    let mut data = Data::new();
    let mut set = |key: &str, value: &dyn fmt::Display| data.insert(key.to_owned(), value.to_string().into_bytes());
    let (user, dbname) = (&login.user, &login.dbname);
    set("host", &login.host);
    set("port", &login.port);
    set("user", user);
    if let Some(dbname) = dbname {
        set("dbname", dbname);
        set("uri", &uri(user, &text, &login.host, login.port, dbname));
        set("jdbc-uri", &jdbc(user, &text, &login.host, login.port, dbname, ""));
    }
    if let Some((host, port)) = &login.pgbouncer {
        set("pgbouncer-host", host);
        set("pgbouncer-port", port);
        if let Some(dbname) = dbname {
            set("pgbouncer-uri", &uri(user, &text, host, *port, dbname));
            set("pgbouncer-jdbc-uri", &jdbc(user, &text, host, *port, dbname, "prepareThreshold=0&"));
        }
    }
    data.insert("password".to_owned(), password);
    data.insert("verifier".to_owned(), verifier);
    data
}

/// `postgresql://user:password@host:port/dbname`, escaped as Go does it; no query.
pub fn uri(user: &str, password: &str, host: &str, port: u16, dbname: &str) -> String {
    format!(
        "postgresql://{}:{}@{host}:{port}/{}",
        utf8_percent_encode(user, USERINFO),
        utf8_percent_encode(password, USERINFO),
        utf8_percent_encode(dbname, PATH)
    )
}

fn jdbc(user: &str, password: &str, host: &str, port: u16, dbname: &str, between: &str) -> String {
    format!(
        "jdbc:postgresql://{host}:{port}/{}?password={}&{between}user={}",
        utf8_percent_encode(dbname, PATH),
        form(password),
        form(user)
    )
}

/// As Go's `url.Values` writes it.
fn form(text: &str) -> String {
    utf8_percent_encode(text, UNRESERVED).to_string().replace("%20", "+")
}

/// A new password. Percona draws it from the same characters; ours are drawn again until they hold what breaks careless
/// readers of the URI (`+`, and a character that must be escaped), so that such a bug shows in every run and not in some.
pub fn generate(class: PasswordType, rng: &mut impl Rng) -> String {
    let alphabet = match class {
        PasswordType::Ascii => [ALPHANUMERIC, SPECIAL].concat(),
        PasswordType::AlphaNumeric => ALPHANUMERIC.to_vec(),
    };
    loop {
        let drawn: String = (0..LENGTH).filter_map(|_| alphabet.choose(rng)).map(|byte| char::from(*byte)).collect();
        if class == PasswordType::AlphaNumeric || (drawn.contains('+') && drawn.contains(['/', '?', '@', ':'])) {
            return drawn;
        }
    }
}

/// Whether a SCRAM verifier, as [`complete`] and PostgreSQL write it, is that of this password.
///
/// A verifier of another form belongs to none. `SASLprep` is left out: it changes no password of Percona's alphabet.
pub fn belongs(verifier: &str, password: &[u8]) -> bool {
    let parts = || {
        let (head, keys) = verifier.strip_prefix("SCRAM-SHA-256$")?.split_once('$')?;
        let (iterations, salt) = head.split_once(':')?;
        Some((iterations.parse::<u32>().ok()?, BASE64.decode(salt).ok()?, keys.split_once(':')?.0))
    };
    let Some((iterations, salt, stored)) = parts() else { return false };
    let mut round = hmac(password, &[&salt, &[0, 0, 0, 1]]);
    let mut salted = round;
    for _ in 1..iterations {
        round = hmac(password, &[&round]);
        salted.iter_mut().zip(round).for_each(|(sum, byte)| *sum ^= byte);
    }
    stored == BASE64.encode(Sha256::digest(hmac(&salted, &[b"Client Key"])))
}

/// HMAC-SHA-256.
fn hmac(key: &[u8], message: &[&[u8]]) -> [u8; 32] {
    let mut block = [0; 64];
    if key.len() > block.len() {
        block[..32].copy_from_slice(&Sha256::digest(key));
    } else {
        block[..key.len()].copy_from_slice(key);
    }
    let inner = Sha256::new().chain_update(block.map(|byte| byte ^ 0x36));
    let inner = message.iter().fold(inner, Sha256::chain_update).finalize();
    Sha256::new().chain_update(block.map(|byte| byte ^ 0x5c)).chain_update(inner).finalize().into()
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng as _;
    use rand::rngs::StdRng;
    use rstest::rstest;

    use super::*;
    use crate::postgres::Target;

    fn login() -> Login {
        Login {
            user: "dittofs".into(),
            dbname: Some("dittofs".into()),
            password: PasswordType::Ascii,
            host: "demo-primary.a.svc".into(),
            port: 5432,
            pgbouncer: Some(("demo-pgbouncer.a.svc".into(), 5432)),
        }
    }

    fn fresh() -> Data {
        complete(&Data::new(), &login(), &mut StdRng::seed_from_u64(1))
    }

    fn text(data: &Data, key: &str) -> String {
        String::from_utf8(data[key].clone()).unwrap()
    }

    fn matches(data: &Data) -> bool {
        belongs(&text(data, "verifier"), &data["password"])
    }

    #[test]
    fn a_new_secret_has_the_twelve_keys() {
        let data = fresh();
        let keys: Vec<&str> = data.keys().map(String::as_str).collect();
        assert_eq!(keys, KEYS);
        assert!(matches(&data));
    }

    #[test]
    fn without_a_database_there_are_seven_keys_and_no_uri() {
        let data = complete(&Data::new(), &Login { dbname: None, ..login() }, &mut StdRng::seed_from_u64(1));
        let expected = ["host", "password", "pgbouncer-host", "pgbouncer-port", "port", "user", "verifier"];
        assert_eq!(data.keys().collect::<Vec<_>>(), expected);
    }

    #[test]
    fn the_uri_leads_back_to_the_password() {
        let data = fresh();
        let target: Target = text(&data, "uri").parse().unwrap();
        assert_eq!(target.password.unwrap(), text(&data, "password"));
        assert_eq!((target.host.as_str(), target.dbname.as_str()), ("demo-primary.a.svc", "dittofs"));
    }

    #[test]
    fn urls_are_escaped_as_go_escapes_them() {
        let password = "a()*+,-./:;<=>?@[]^_{|}";
        assert_eq!(
            uri("dittofs", password, "h", 5432, "my db/a?b"),
            "postgresql://dittofs:a%28%29%2A+,-.%2F%3A;%3C=%3E%3F%40%5B%5D%5E_%7B%7C%7D@h:5432/my%20db/a%3Fb"
        );
        assert_eq!(
            jdbc("dittofs", password, "h", 5432, "d", "prepareThreshold=0&"),
            "jdbc:postgresql://h:5432/d?password=a%28%29%2A%2B%2C-.%2F%3A%3B%3C%3D%3E%3F%40%5B%5D%5E_%7B%7C%7D\
             &prepareThreshold=0&user=dittofs"
        );
        assert_eq!(uri("u", "a b", "h", 5432, "d"), "postgresql://u:a%20b@h:5432/d");
        assert_eq!(jdbc("u", "a b+%", "h", 5432, "d", ""), "jdbc:postgresql://h:5432/d?password=a+b%2B%25&user=u");
    }

    #[rstest]
    #[case::ascii(PasswordType::Ascii, &[ALPHANUMERIC, SPECIAL].concat())]
    #[case::alphanumeric(PasswordType::AlphaNumeric, ALPHANUMERIC)]
    fn passwords_keep_to_their_alphabet(#[case] class: PasswordType, #[case] alphabet: &[u8]) {
        let mut rng = StdRng::seed_from_u64(7);
        let drawn: Vec<String> = (0..50).map(|_| generate(class, &mut rng)).collect();
        assert!(drawn.iter().all(|p| p.len() == 24 && p.bytes().all(|byte| alphabet.contains(&byte))));
        assert_eq!(class == PasswordType::Ascii, drawn.iter().all(|p| p.contains('+')));
    }

    /// What a person does to the Secret.
    fn edit(data: &mut Data, edit: &str) {
        match edit {
            "password removed" => drop(data.remove("password")),
            "password emptied" => drop(data.insert("password".into(), vec![])),
            "both removed" => data.retain(|key, _| key != "password" && key != "verifier"),
            "verifier removed" => drop(data.remove("verifier")),
            "verifier emptied" => drop(data.insert("verifier".into(), vec![])),
            "own password" => drop(data.insert("password".into(), b"chosen-By-A-person".to_vec())),
            "own password, verifier emptied" => {
                data.insert("password".into(), b"chosen-By-A-person".to_vec());
                data.insert("verifier".into(), vec![]);
            }
            "uri edited" => drop(data.insert("uri".into(), b"postgresql://elsewhere/x".to_vec())),
            other => panic!("unknown edit {other}"),
        }
    }

    /// The rotation matrix of `contract.md` 2.6: (edit, the password is another one, the verifier is, they belong together).
    #[rstest]
    #[case::d1("password removed", true, true, true)]
    #[case::d2("password emptied", true, true, true)]
    #[case::d3("both removed", true, true, true)]
    #[case::d4("verifier removed", false, true, true)]
    #[case::d4_empty("verifier emptied", false, true, true)]
    #[case::e1("own password", true, false, false)]
    #[case::e3("own password, verifier emptied", true, true, true)]
    #[case::e4("uri edited", false, false, true)]
    fn an_edited_secret_is_completed(
        #[case] change: &str,
        #[case] new_password: bool,
        #[case] new_verifier: bool,
        #[case] belong_together: bool,
    ) {
        let before = fresh();
        let mut edited = before.clone();
        edit(&mut edited, change);
        let after = complete(&edited, &login(), &mut StdRng::seed_from_u64(2));
        assert_eq!(after["password"] != before["password"], new_password);
        assert_eq!(after["verifier"] != before["verifier"], new_verifier);
        assert_eq!(matches(&after), belong_together);
        let target: Target = text(&after, "uri").parse().unwrap();
        assert_eq!(target.password.unwrap().into_bytes(), after["password"], "the uri always follows the password");
    }
}
