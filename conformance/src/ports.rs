//! Ports for servers on this machine.
//!
//! Base layer. A server is told its port and binds it later, some more than once: in between it must stay free.

use std::collections::BTreeSet;
use std::io::{self, ErrorKind};
use std::net::{Ipv4Addr, SocketAddrV4, TcpListener};
use std::ops::Range;
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};

/// Below those that Linux gives to connections, so that none of these takes the port of a server that is being started again.
const RANGE: Range<u16> = 20_000..30_000;

/// How many ports of an address are tried.
const ATTEMPTS: usize = 64;

/// What this process has given out on 127.0.0.1.
static LOCAL: LazyLock<Taken> = LazyLock::new(Taken::default);

/// What is given out. A cheap handle; clones give out from the same stock.
///
/// Processes on one machine do not know each other: each tries ports at random, and gives out none on which somebody listens.
#[derive(Clone, Debug, Default)]
pub struct Taken(Arc<Mutex<BTreeSet<SocketAddrV4>>>);

impl Taken {
    /// Notes that `listen` is given out; false when it was before.
    pub fn reserve(&self, listen: SocketAddrV4) -> bool {
        self.lock().insert(listen)
    }

    /// Makes `listen` free again.
    pub fn give_back(&self, listen: SocketAddrV4) {
        self.lock().remove(&listen);
    }

    /// A port of `address` that is free at this moment.
    ///
    /// # Errors
    /// Why the last of those that were tried cannot be bound.
    pub fn port(&self, address: Ipv4Addr) -> io::Result<SocketAddrV4> {
        let mut refused = io::Error::from(ErrorKind::AddrInUse);
        for _ in 0..ATTEMPTS {
            let listen = SocketAddrV4::new(address, rand::random_range(RANGE));
            if !self.reserve(listen) {
                continue;
            }
            match TcpListener::bind(listen) {
                Ok(_) => return Ok(listen),
                Err(error) => {
                    self.give_back(listen);
                    refused = error;
                }
            }
        }
        Err(refused)
    }

    fn lock(&self) -> MutexGuard<'_, BTreeSet<SocketAddrV4>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A port of 127.0.0.1 that this process gives to nobody else until this is dropped.
#[derive(Debug)]
pub struct Port(SocketAddrV4);

impl Port {
    /// One that is free at this moment. Another process may take it before it is used.
    ///
    /// # Errors
    /// As [`Taken::port`].
    pub fn choose() -> io::Result<Self> {
        LOCAL.port(Ipv4Addr::LOCALHOST).map(Self)
    }

    /// Its number.
    pub fn number(&self) -> u16 {
        self.0.port()
    }
}

impl Drop for Port {
    fn drop(&mut self) {
        LOCAL.give_back(self.0);
    }
}

/// Whether somebody listens on a port of 127.0.0.1.
pub fn is_in_use(port: u16) -> bool {
    TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_err_and(|error| error.kind() == ErrorKind::AddrInUse)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_is_one_that_no_connection_is_given_and_that_nobody_else_has() {
        let range = std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").unwrap();
        let first: u16 = range.split_whitespace().next().unwrap().parse().unwrap();
        let ports: Vec<Port> = (0..100).map(|_| Port::choose().unwrap()).collect();
        let numbers: BTreeSet<u16> = ports.iter().map(Port::number).collect();
        assert_eq!(numbers.len(), ports.len());
        // A machine can be set to give out all of them.
        assert!(first <= RANGE.start || numbers.iter().all(|number| *number < first), "{numbers:?} {range}");
    }

    #[test]
    fn a_port_is_given_out_again_when_it_was_given_back() {
        let taken = Taken::default();
        let listen = taken.port(Ipv4Addr::LOCALHOST).unwrap();
        assert!(!taken.reserve(listen));
        taken.give_back(listen);
        assert!(taken.reserve(listen));
    }

    #[test]
    fn a_port_is_in_use_while_somebody_listens() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        assert!(is_in_use(port));
    }
}
