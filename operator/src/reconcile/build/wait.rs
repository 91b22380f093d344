//! The script of the init container `wait-for-postgres`.
//!
//! It runs in busybox's `sh` and in `dash`. `pg_isready` alone proves no login and Percona's `ready` proves no role, so
//! the script also logs in. No retry is endless: after the deadline it exits with what it saw last, and the kubelet
//! starts it again. It prints no secret: of psql's messages only the part that begins at `failed: `, which
//! is the server's or the system's text, because others quote the URI with its password; of `pg_isready`'s none, for the same
//! reason.

use std::time::Duration;

/// How the pod reaches its database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Login {
    /// By `PGHOST` and its companions. TLS is required: Percona's server refuses anything else, and with libpq's own
    /// default the second, plaintext attempt hides why the first one failed (observed.md 1.7).
    Percona,
    /// By `DATABASE_URL` alone, as it is.
    Url,
}

/// Renders the script.
pub fn script(login: Login, deadline: Duration) -> String {
    let (environment, place, argument) = match login {
        Login::Percona => ("export PGCONNECT_TIMEOUT=3 PGSSLMODE=require", "PostgreSQL at $PGHOST:$PGPORT", ""),
        Login::Url => ("export PGCONNECT_TIMEOUT=3", "the PostgreSQL of DATABASE_URL", r#" -d "$DATABASE_URL""#),
    };
    let seconds = deadline.as_secs();
    format!(
        r#"set -u
trap 'exit 143' TERM INT
{environment}
give_up() {{
  echo "gave up on {place}: $1" >&2
  exit 1
}}
end=$(( $(date +%s) + {seconds} ))
seen=
echo "waiting for {place}"
while :; do
  pg_isready -q -t 3{argument} 2>/dev/null && state=0 || state=$?
  case $state in
    0)
      if error=$(psql -X -w -A -t -q{argument} -c 'select 1' 2>&1 >/dev/null); then
        echo "logged in"
        exit 0
      fi
      now=$(printf '%s\n' "$error" | sed -n 's/^.*failed: //p' | head -n 1)
      now="login failed: ${{now:-psql gave no reason that can be shown}}"
      ;;
    1) now="the server is starting up" ;;
    2) now="no answer" ;;
    *) give_up "libpq does not understand the connection parameters" ;;
  esac
  if [ "$now" != "$seen" ]; then
    echo "$now"
    seen=$now
  fi
  [ "$(date +%s)" -lt "$end" ] || give_up "$seen, for {seconds} s"
  sleep 1
done
"#
    )
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;
    use std::path::Path;
    use std::process::Command;

    use rstest::rstest;

    use super::*;

    /// Runs the script with these programs instead of the real ones; gives the exit code and everything printed.
    fn run(login: Login, pg_isready: &str, psql: &str) -> (Option<i32>, String) {
        let folder = tempfile::tempdir().unwrap();
        // `sleep` moves the clock, so the deadline comes at once.
        let clock = folder.path().join("clock");
        fs::write(&clock, "0").unwrap();
        let clock = clock.display();
        for (name, body) in [
            ("pg_isready", pg_isready),
            ("psql", psql),
            ("date", &format!("cat {clock}")),
            ("sleep", &format!("echo $(( $(cat {clock}) + 100 )) > {clock}.new; mv {clock}.new {clock}")),
        ] {
            program(folder.path(), name, body);
        }
        let output = Command::new("/bin/sh")
            .args(["-c", &script(login, Duration::from_mins(5))])
            .env_clear()
            .env("PATH", format!("{}:/usr/bin:/bin", folder.path().display()))
            .env("DATABASE_URL", "postgresql://dittofs:hunter2@db/x?oops=1")
            .envs([("PGHOST", "db"), ("PGPORT", "5432"), ("PGPASSWORD", "hunter2")])
            .output()
            .unwrap();
        (output.status.code(), String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned())
    }

    fn program(folder: &Path, name: &str, body: &str) {
        let path = folder.join(name);
        fs::write(&path, format!("#!/bin/sh\n{body}\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    }

    const REFUSED: &str = r#"echo 'psql: error: connection to server at "db" (10.0.0.1), port 5432 failed: FATAL:  password authentication failed for user "dittofs"' >&2; exit 2"#;
    const UNREADABLE: &str = r#"echo 'pg_isready: error: end of string reached when looking for matching "]" in "postgresql://dittofs:hunter2@[db/x"' >&2; exit 3"#;
    const QUOTING: &str =
        r#"echo 'psql: error: invalid URI query parameter in "postgresql://dittofs:hunter2@db/x?oops=1"' >&2; exit 2"#;

    #[rstest]
    #[case::at_once("logs_in_at_once", "exit 0", "exit 0")]
    #[case::never_there("no_server", "exit 2", "exit 0")]
    #[case::refused("wrong_password", "exit 0", REFUSED)]
    #[case::bad_url("bad_url", UNREADABLE, "exit 0")]
    #[case::quoting("psql_quotes_the_url", "exit 0", QUOTING)]
    #[case::starting("starts_slowly", "[ $(date) -ge 200 ] || exit 1", "exit 0")]
    fn says_what_happened(#[case] name: &str, #[case] pg_isready: &str, #[case] psql: &str) {
        for (login, kind) in [(Login::Percona, "percona"), (Login::Url, "url")] {
            let (code, text) = run(login, pg_isready, psql);
            assert!(!text.contains("hunter2"), "{text}");
            insta::assert_snapshot!(format!("{name}_{kind}"), format!("exit code {code:?}\n{text}"));
        }
    }

    #[rstest]
    #[case::percona("script_percona", Login::Percona)]
    #[case::url("script_url", Login::Url)]
    fn the_script_is_this_one(#[case] name: &str, #[case] login: Login) {
        insta::assert_snapshot!(name, script(login, Duration::from_mins(5)));
    }
}
