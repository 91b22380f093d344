//! A connection URI, read as libpq and Go read it.

use std::fmt;
use std::str::FromStr;

use percent_encoding::percent_decode_str;

use super::Error;
use crate::redact;

/// How much TLS the URI asks for (libpq's `sslmode`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SslMode {
    /// Never TLS.
    Disable,
    /// TLS when the server offers it. Unlike libpq, a refused login is not tried again without TLS, so that the first
    /// and true error is what the caller sees.
    #[default]
    Prefer,
    /// TLS, with whatever certificate.
    Require,
    /// TLS, and the certificate is signed by the given CA.
    VerifyCa,
    /// TLS, and the certificate is signed by the given CA for this host name.
    VerifyFull,
}

impl FromStr for SslMode {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        Ok(match text {
            "disable" => Self::Disable,
            "allow" | "prefer" => Self::Prefer,
            "require" => Self::Require,
            "verify-ca" => Self::VerifyCa,
            "verify-full" => Self::VerifyFull,
            other => return Err(Error::Uri(format!("unknown sslmode `{other}`"))),
        })
    }
}

/// Where to log in, and as whom. Its password is registered with [`redact`] and shown by no formatter.
#[derive(Clone, PartialEq, Eq)]
pub struct Target {
    /// Host name as it stands in the URI.
    pub host: String,
    /// Port; 5432 when the URI names none.
    pub port: u16,
    /// Role.
    pub user: String,
    /// Its password, if there is one.
    pub password: Option<String>,
    /// Database; that of the role's name when the URI names none.
    pub dbname: String,
    /// How much TLS.
    pub sslmode: SslMode,
}

impl Target {
    /// `host:port`, for messages.
    pub fn address(&self) -> String {
        format!("{}:{}", self.host, self.port)
    }
}

impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "postgresql://{}@{}:{}/{} ({:?})", self.user, self.host, self.port, self.dbname, self.sslmode)
    }
}

/// Percent-decodes; a `+` is a plus sign, as libpq and Go's `url.UserPassword` have it.
fn decode(part: &str, what: &str) -> Result<String, Error> {
    percent_decode_str(part)
        .decode_utf8()
        .map(std::borrow::Cow::into_owned)
        .map_err(|_| Error::Uri(format!("the {what} is not UTF-8")))
}

impl FromStr for Target {
    type Err = Error;

    /// Reads `postgresql://user:password@host:port/dbname?sslmode=…`. Of the query only `sslmode` is used.
    fn from_str(uri: &str) -> Result<Self, Error> {
        let rest = ["postgresql://", "postgres://"]
            .iter()
            .find_map(|scheme| uri.strip_prefix(scheme))
            .ok_or_else(|| Error::Uri("it does not begin with postgresql://".to_owned()))?;
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        let (userinfo, hostport) = authority.rsplit_once('@').unwrap_or(("", authority));
        let (user, password) = match userinfo.split_once(':') {
            Some((user, password)) => (user, Some(decode(password, "password")?)),
            None => (userinfo, None),
        };
        let (host, port) = match hostport.rsplit_once(':') {
            Some((host, port)) if !port.ends_with(']') => {
                (host, port.parse().map_err(|_| Error::Uri("the port is not a number".to_owned()))?)
            }
            _ => (hostport, 5432),
        };
        let (user, host) = (decode(user, "user")?, decode(host, "host")?);
        if user.is_empty() || host.is_empty() {
            return Err(Error::Uri("it names no user or no host".to_owned()));
        }
        let sslmode = query
            .split('&')
            .find_map(|pair| pair.strip_prefix("sslmode="))
            .map_or(Ok(SslMode::default()), str::parse)?;
        let dbname = if path.is_empty() { user.clone() } else { decode(path, "database")? };
        if let Some(password) = &password {
            redact::register(password);
        }
        Ok(Self { host, port, user, password, dbname, sslmode })
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[test]
    fn every_part_is_read() {
        let target: Target =
            "postgresql://ditto:p%40ss%2Fw+ord@c-primary.a.svc:6432/my%20db?a=b&sslmode=verify-full".parse().unwrap();
        let expected = Target {
            host: "c-primary.a.svc".into(),
            port: 6432,
            user: "ditto".into(),
            password: Some("p@ss/w+ord".into()),
            dbname: "my db".into(),
            sslmode: SslMode::VerifyFull,
        };
        assert_eq!(target, expected);
    }

    #[test]
    fn what_is_not_said_has_libpqs_defaults() {
        let target: Target = "postgres://ditto@host".parse().unwrap();
        assert_eq!((target.port, target.dbname.as_str(), target.sslmode), (5432, "ditto", SslMode::Prefer));
        assert_eq!(target.password, None);
    }

    #[rstest]
    #[case::other_scheme("mysql://a@b/c", "it does not begin with postgresql://")]
    #[case::no_host("postgresql://a@/c", "it names no user or no host")]
    #[case::no_user("postgresql://host/c", "it names no user or no host")]
    #[case::bad_port("postgresql://a@host:x/c", "the port is not a number")]
    #[case::bad_sslmode("postgresql://a@host/c?sslmode=on", "unknown sslmode `on`")]
    fn a_broken_uri_says_what_is_wrong(#[case] uri: &str, #[case] reason: &str) {
        assert_eq!(uri.parse::<Target>().unwrap_err(), Error::Uri(reason.to_owned()));
    }

    #[test]
    fn the_password_is_in_no_output() {
        let target: Target = "postgresql://a:hunter2hunter2@host/c".parse().unwrap();
        assert!(!format!("{target:?}").contains("hunter2"));
        assert!(redact::leaks("hunter2hunter2"));
    }
}
