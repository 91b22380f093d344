//! PostgreSQL's client programs, as a pod finds them.
//!
//! Runs as a process of its own. libpq knows no names but DNS's; so what stands in the `PATH` of a container is a script that
//! goes through here, and the host is looked up in the hosts file each time that the program is started, also when its
//! Service came after the container.

use std::ffi::OsString;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, ExitCode};

use crate::hosts::{self, HOSTS_VARIABLE};
use crate::postgres::Target;
use crate::process::shell_line;

/// The hidden subcommand that the binary has to hand over to [`main`].
pub const COMMAND: &str = "libpq";

/// The variable from which libpq takes an address, and looks up nothing.
const ADDRESS: &str = "PGHOSTADDR";

/// Puts a script of its name for each of `programs` into `directory`, which is made. `conformance` is the suite's own
/// program.
///
/// # Errors
/// One cannot be written.
pub fn install<'a>(
    directory: &Path,
    conformance: &Path,
    programs: impl IntoIterator<Item = &'a Path>,
) -> io::Result<()> {
    std::fs::create_dir_all(directory)?;
    for program in programs {
        let words = [conformance, Path::new(COMMAND), program].map(|word| word.to_string_lossy().into_owned());
        let script = directory.join(program.file_name().unwrap_or_default());
        std::fs::write(&script, format!("#!/bin/sh\nexec {} \"$@\"\n", shell_line(words)))?;
        std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755))?;
    }
    Ok(())
}

/// Becomes the program that `arguments` (those after `libpq`) name. Returns only when that fails.
pub fn main(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let mut arguments = arguments.into_iter();
    let Some(program) = arguments.next() else {
        eprintln!("conformance {COMMAND} is for internal use: no program given");
        return ExitCode::from(2);
    };
    let arguments: Vec<OsString> = arguments.collect();
    let mut command = Command::new(&program);
    command.args(&arguments);
    let words: Vec<&str> = arguments.iter().filter_map(|word| word.to_str()).collect();
    let host = host(&words).or_else(|| std::env::var("PGHOST").ok());
    if let (Some(host), Some(file), None) = (host, std::env::var_os(HOSTS_VARIABLE), std::env::var_os(ADDRESS)) {
        match hosts::lookup(Path::new(&file), &host) {
            Ok(Some(address)) => {
                command.env(ADDRESS, address.to_string());
            }
            Ok(None) => {}
            Err(error) => eprintln!("{}: {error}", Path::new(&file).display()),
        }
    }
    eprintln!("{}: {}", Path::new(&program).display(), command.exec());
    ExitCode::from(127)
}

/// The host that the command line names. As in libpq, a connection string outdoes `--host`.
fn host(words: &[&str]) -> Option<String> {
    let mut option = None;
    let mut rest = words.iter().copied();
    while let Some(word) = rest.next() {
        let value = ["-d", "--dbname="].iter().find_map(|option| word.strip_prefix(option)).unwrap_or(word);
        if let Some(host) = host_in(value) {
            return Some(host);
        }
        match word {
            "-h" | "--host" => option = rest.next(),
            _ => option = word.strip_prefix("--host=").or_else(|| word.strip_prefix("-h")).or(option),
        }
    }
    option.map(str::to_owned)
}

/// The host of a connection string, if `word` is one.
fn host_in(word: &str) -> Option<String> {
    match word.parse::<Target>() {
        Ok(target) => Some(target.host),
        Err(_) => word.split_whitespace().find_map(|word| word.strip_prefix("host=")).map(str::to_owned),
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case::option(&["-h", "db.a.svc", "-p", "5432"], Some("db.a.svc"))]
    #[case::in_one_word(&["-hdb.a.svc"], Some("db.a.svc"))]
    #[case::long(&["--host", "db.a.svc"], Some("db.a.svc"))]
    #[case::long_with_value(&["--host=db.a.svc", "-U", "u"], Some("db.a.svc"))]
    #[case::uri(&["postgresql://u:p@db.a.svc:5432/d?sslmode=require", "-c", "select 1"], Some("db.a.svc"))]
    #[case::uri_by_option(&["-d", "postgresql://u:p@db.a.svc/d"], Some("db.a.svc"))]
    #[case::uri_by_long_option(&["--dbname=postgresql://u:p@db.a.svc/d"], Some("db.a.svc"))]
    #[case::words(&["-d", "host=db.a.svc sslrootcert=/ca.crt"], Some("db.a.svc"))]
    #[case::a_connection_string_counts(&["-h", "other", "postgresql://u:p@db.a.svc/d"], Some("db.a.svc"))]
    #[case::none(&["-c", "select 1"], None)]
    #[case::nothing(&["-h"], None)]
    fn hosts_of_command_lines(#[case] words: &[&str], #[case] expected: Option<&str>) {
        assert_eq!(host(words).as_deref(), expected);
    }

    #[test]
    fn a_script_passes_its_words_on() {
        let directory = tempfile::tempdir().unwrap();
        let own = directory.path().join("it's mine");
        install(&own, Path::new("/bin/echo"), [Path::new("/opt/post gres/psql")]).unwrap();
        let output = Command::new(own.join("psql")).args(["-c", "select 'a  b'"]).output().unwrap();
        assert_eq!(String::from_utf8(output.stdout).unwrap(), "libpq /opt/post gres/psql -c select 'a  b'\n");
    }
}
