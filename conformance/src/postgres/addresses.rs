//! Loopback addresses, one for every server.

use std::collections::BTreeSet;
use std::io;
use std::net::{Ipv4Addr, SocketAddrV4, TcpListener};
use std::sync::{Arc, Mutex, PoisonError};

/// PostgreSQL's own port, which the Secrets name unless somebody else listens on it on every address.
pub const PORT: u16 = 5432;

/// The addresses 127.128.0.1 to 127.191.255.254 belong to PostgreSQL servers (127.64 to 127.127 to pods).
const FIRST: u32 = 0x7f80_0001;
const COUNT: u32 = 0x0040_0000 - 2;

/// How many different addresses refuse port 5432 before it is believed to be taken on all of them.
const ATTEMPTS: usize = 4;

/// Hands out addresses on which nobody listens. A cheap handle; clones hand out from the same stock.
///
/// Supervisors on one machine do not know each other: each begins at a random place of the four million addresses, and
/// every address is tried before it is given out.
#[derive(Clone, Debug, Default)]
pub struct Addresses {
    taken: Arc<Mutex<BTreeSet<Ipv4Addr>>>,
}

impl Addresses {
    /// An address and a port on it, free at this moment; the port is 5432 unless that is taken everywhere.
    ///
    /// # Errors
    /// Not even an arbitrary port can be bound.
    pub fn take(&self) -> io::Result<SocketAddrV4> {
        self.take_on(PORT)
    }

    fn take_on(&self, port: u16) -> io::Result<SocketAddrV4> {
        for _ in 0..ATTEMPTS {
            let address = self.reserve();
            if TcpListener::bind((address, port)).is_ok() {
                return Ok(SocketAddrV4::new(address, port));
            }
            self.give_back(address);
        }
        let address = self.reserve();
        let listener = TcpListener::bind((address, 0)).inspect_err(|_| self.give_back(address))?;
        Ok(SocketAddrV4::new(address, listener.local_addr()?.port()))
    }

    /// Makes `address` free again.
    pub fn give_back(&self, address: Ipv4Addr) {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner).remove(&address);
    }

    fn reserve(&self) -> Ipv4Addr {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            let address = Ipv4Addr::from(FIRST + rand::random_range(0..COUNT));
            if taken.insert(address) {
                return address;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_server_has_an_address_of_its_own() {
        let addresses = Addresses::default();
        let first = addresses.take_on(0).unwrap();
        let second = addresses.clone().take_on(0).unwrap();
        assert_ne!(first.ip(), second.ip());
        assert!(first.ip().octets()[0] == 127 && (128..192).contains(&first.ip().octets()[1]));
    }

    #[test]
    fn a_port_that_is_taken_everywhere_is_replaced() {
        let everywhere = TcpListener::bind(("0.0.0.0", 0)).unwrap();
        let port = everywhere.local_addr().unwrap().port();
        assert_ne!(Addresses::default().take_on(port).unwrap().port(), port);
    }
}
