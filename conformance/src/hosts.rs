//! Names of Services and the loopback addresses behind them.
//!
//! Base layer. The embedded environment has no DNS, and the API server refuses loopback addresses in Endpoints. So the
//! address of a Service is its name, and a file in the format of `/etc/hosts` says where that name really is. The
//! supervisor writes it; the harness, the node double and the probe read it.

use std::collections::BTreeMap;
use std::io::{self, Write as _};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

/// The environment variable through which a workload learns where the hosts file is.
pub const HOSTS_VARIABLE: &str = "DITTOFS_CONFORMANCE_HOSTS";

/// Finds `name` in the hosts file at `path`; `None` when the file does not hold it.
///
/// # Errors
/// The file cannot be read.
pub fn lookup(path: &Path, name: &str) -> io::Result<Option<IpAddr>> {
    Ok(parse(&std::fs::read_to_string(path)?).remove(name))
}

fn parse(text: &str) -> BTreeMap<String, IpAddr> {
    let mut names = BTreeMap::new();
    for line in text.lines() {
        let mut words = line.split('#').next().unwrap_or_default().split_whitespace();
        let Some(Ok(address)) = words.next().map(str::parse) else {
            continue;
        };
        names.extend(words.map(|name| (name.to_owned(), address)));
    }
    names
}

/// The writing side: one owner, many handles. Every change replaces the file in one step, so that a reader sees
/// either the old or the new table and never half of one.
#[derive(Clone, Debug)]
pub struct Hosts {
    path: PathBuf,
    names: Arc<Mutex<BTreeMap<String, IpAddr>>>,
}

impl Hosts {
    /// Creates an empty hosts file at `path`.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn create(path: PathBuf) -> io::Result<Self> {
        let hosts = Self { path, names: Arc::default() };
        hosts.change(|_| ())?;
        Ok(hosts)
    }

    /// Where the file is: the value for [`HOSTS_VARIABLE`].
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The address of `name`, if it is known.
    pub fn get(&self, name: &str) -> Option<IpAddr> {
        self.names.lock().unwrap_or_else(PoisonError::into_inner).get(name).copied()
    }

    /// Maps every one of `names` to `address`.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn set(&self, names: impl IntoIterator<Item = String>, address: IpAddr) -> io::Result<()> {
        self.change(|table| table.extend(names.into_iter().map(|name| (name, address))))
    }

    /// Forgets every one of `names`.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn remove<'a>(&self, names: impl IntoIterator<Item = &'a str>) -> io::Result<()> {
        self.change(|table| {
            for name in names {
                table.remove(name);
            }
        })
    }

    fn change(&self, edit: impl FnOnce(&mut BTreeMap<String, IpAddr>)) -> io::Result<()> {
        let mut table = self.names.lock().unwrap_or_else(PoisonError::into_inner);
        edit(&mut table);
        let directory = self.path.parent().unwrap_or_else(|| Path::new("."));
        let mut file = tempfile::Builder::new()
            .permissions(std::os::unix::fs::PermissionsExt::from_mode(0o644))
            .tempfile_in(directory)?;
        for (name, address) in table.iter() {
            writeln!(file, "{address} {name}")?;
        }
        file.persist(&self.path)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_found_until_it_is_removed() {
        let directory = tempfile::tempdir().unwrap();
        let hosts = Hosts::create(directory.path().join("hosts")).unwrap();
        let address: IpAddr = "127.0.0.9".parse().unwrap();
        hosts.set(["demo-primary.a.svc".to_owned(), "demo-ha.a.svc".to_owned()], address).unwrap();
        assert_eq!(lookup(hosts.path(), "demo-ha.a.svc").unwrap(), Some(address));
        hosts.remove(["demo-ha.a.svc"]).unwrap();
        assert_eq!(lookup(hosts.path(), "demo-ha.a.svc").unwrap(), None);
        assert_eq!(hosts.get("demo-primary.a.svc"), Some(address));
    }

    #[test]
    fn comments_and_aliases_are_read_as_in_etc_hosts() {
        let names = parse("127.0.0.2 a b # c\n# 127.0.0.3 d\nnot-an-address e\n");
        assert_eq!(names.keys().collect::<Vec<_>>(), ["a", "b"]);
    }
}
