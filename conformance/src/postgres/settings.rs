//! The configuration files of a server.

use std::fmt::Write as _;
use std::net::SocketAddrV4;
use std::path::Path;

/// Who may log in how, as Percona 2.8 has it (`contract.md`, 2.5): no line lets anyone in over TCP without TLS. Stored
/// SCRAM verifiers work under `md5`. The harness itself comes through a socket that only this user can reach.
pub(super) const HBA: &str = "local all all trust\nhostssl all all all md5\n";

/// `postgresql.conf`. Nothing here survives a crash of the machine, and nothing has to.
pub(super) fn render(address: SocketAddrV4, socket: &Path, archive_command: &str) -> String {
    let mut text = String::new();
    let mut set = |key: &str, value: &str| {
        let value = value.replace('\'', "''");
        writeln!(text, "{key} = '{value}'").expect("a String takes everything");
    };
    set("listen_addresses", &address.ip().to_string());
    set("port", &address.port().to_string());
    set("unix_socket_directories", &socket.display().to_string());
    set("unix_socket_permissions", "0700");
    set("ssl", "on");
    set("ssl_cert_file", "server.crt");
    set("ssl_key_file", "server.key");
    set("archive_mode", "on");
    set("archive_command", archive_command);
    // Without backups, Percona's archive_command is `true` too, but archiving stays on.
    set("wal_level", "logical");
    set("max_connections", "100");
    // Memory, and nothing left in /dev/shm by a process that was killed.
    set("shared_buffers", "16MB");
    set("dynamic_shared_memory_type", "mmap");
    set("max_worker_processes", "2");
    set("max_parallel_workers", "0");
    set("max_parallel_workers_per_gather", "0");
    set("jit", "off");
    // Speed instead of durability on disk. Commits still reach the kernel at once, so that a killed server loses none.
    set("fsync", "off");
    set("full_page_writes", "off");
    set("min_wal_size", "32MB");
    set("max_wal_size", "64MB");
    // A statement in the log may hold a password.
    set("log_min_error_statement", "panic");
    set("log_line_prefix", "%m [%p] %q%u@%d ");
    set("timezone", "UTC");
    set("log_timezone", "UTC");
    set("datestyle", "iso, mdy");
    set("default_text_search_config", "pg_catalog.english");
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quote_in_a_value_stays_in_the_value() {
        let address = "127.128.0.9:5432".parse().unwrap();
        let text = render(address, Path::new("/run/s"), "echo 'a' %p");
        assert!(text.contains("archive_command = 'echo ''a'' %p'\n"), "{text}");
        assert!(text.contains("listen_addresses = '127.128.0.9'\n"), "{text}");
    }

    #[test]
    fn nobody_gets_in_over_tcp_without_tls() {
        assert!(!HBA.lines().any(|line| line.starts_with("host ") || line.starts_with("hostnossl")));
    }
}
