//! The script of the init container `wait-for-postgres`.
//!
//! It runs in busybox's `sh` and in `dash`. `pg_isready` alone proves no login and Percona's `ready` proves no role, so
//! the script also logs in. No retry is endless: after the deadline it exits with what it saw last, and the kubelet
//! starts it again. It prints no secret: of libpq's messages only the part that begins at `failed: `, which
//! is the server's or the system's text, because others quote the URI with its password.

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
  pg_isready -q -t 3{argument} && state=0 || state=$?
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
