//! Addresses for servers, and how pods get to them.

use std::io;
use std::net::{Ipv4Addr, SocketAddrV4, TcpListener};

use crate::ports::Taken;

/// PostgreSQL's own port, which the Secrets name unless somebody else listens on it on every address.
pub const PORT: u16 = 5432;

/// The addresses 127.128.0.1 to 127.191.255.254 belong to PostgreSQL servers (127.64 to 127.127 to pods).
const FIRST: u32 = 0x7f80_0001;
const COUNT: u32 = 0x0040_0000 - 2;

/// How many different addresses refuse port 5432 before it is believed to be taken on all of them.
const ATTEMPTS: usize = 4;

/// Where a server is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Where it listens.
    pub listen: SocketAddrV4,
    /// The port of its Services.
    pub port: u16,
    /// Its address as pods and Endpoints show it.
    pub shown: Ipv4Addr,
}

impl Place {
    /// Nothing forwards Services to a loopback address: whoever looks for the server needs its name in a hosts file.
    pub fn is_found_by_name(&self) -> bool {
        self.listen.ip().is_loopback()
    }
}

/// Hands out places on which nobody listens. A cheap handle; clones hand out from the same stock.
///
/// Supervisors on one machine do not know each other: each begins at a random place, and every one is tried before it is
/// given out.
#[derive(Clone, Debug, Default)]
pub struct Addresses {
    taken: Taken,
    /// The one address of all servers; none: each has a loopback address of its own.
    shared: Option<Ipv4Addr>,
}

impl Addresses {
    /// All servers listen on `address`, each on a port of its own, and Services with PostgreSQL's port lead there. (By
    /// default, every server has a loopback address of its own, to which only names lead.)
    pub fn behind_services(address: Ipv4Addr) -> Self {
        Self { taken: Taken::default(), shared: Some(address) }
    }

    /// A place that is free at this moment.
    ///
    /// # Errors
    /// Not even an arbitrary port can be bound.
    pub fn take(&self) -> io::Result<Place> {
        match self.shared {
            Some(address) => Ok(Place { listen: self.taken.port(address)?, port: PORT, shown: address }),
            None => self.take_on(PORT),
        }
    }

    /// A loopback address; the port is `port` unless that is taken everywhere.
    fn take_on(&self, port: u16) -> io::Result<Place> {
        for _ in 0..ATTEMPTS {
            let listen = self.reserve_address(port);
            if TcpListener::bind(listen).is_ok() {
                return Ok(by_name(listen));
            }
            self.give_back(listen);
        }
        // Reserved under the port 0, under which nobody asks for it.
        let reserved = self.reserve_address(0);
        let listener = TcpListener::bind(reserved);
        self.give_back(reserved);
        let listen = SocketAddrV4::new(*reserved.ip(), listener?.local_addr()?.port());
        self.taken.reserve(listen);
        Ok(by_name(listen))
    }

    /// Makes `listen` free again.
    pub fn give_back(&self, listen: SocketAddrV4) {
        self.taken.give_back(listen);
    }

    fn reserve_address(&self, port: u16) -> SocketAddrV4 {
        loop {
            let listen = SocketAddrV4::new(Ipv4Addr::from(FIRST + rand::random_range(0..COUNT)), port);
            if self.taken.reserve(listen) {
                return listen;
            }
        }
    }
}

/// The API server refuses loopback addresses in Endpoints: what it sees differs in the first byte. Nothing forwards
/// anything there, so Services have the port at which the server really listens.
fn by_name(listen: SocketAddrV4) -> Place {
    let [_, rest @ ..] = listen.ip().octets();
    Place { listen, port: listen.port(), shown: Ipv4Addr::new(10, rest[0], rest[1], rest[2]) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_server_has_an_address_of_its_own() {
        let addresses = Addresses::default();
        let first = addresses.take_on(0).unwrap();
        let second = addresses.clone().take_on(0).unwrap();
        assert_ne!(first.listen.ip(), second.listen.ip());
        let [first_byte, second_byte, ..] = first.listen.ip().octets();
        assert!(first_byte == 127 && (128..192).contains(&second_byte));
        assert_eq!(first.shown.octets()[..2], [10, second_byte]);
    }

    #[test]
    fn a_port_that_is_taken_everywhere_is_replaced() {
        let everywhere = TcpListener::bind(("0.0.0.0", 0)).unwrap();
        let port = everywhere.local_addr().unwrap().port();
        let place = Addresses::default().take_on(port).unwrap();
        assert_ne!(place.listen.port(), port);
        assert_eq!(place.port, place.listen.port());
    }

    #[test]
    fn behind_services_servers_share_an_address_and_are_offered_at_postgresql_s_port() {
        let address = Ipv4Addr::LOCALHOST;
        let addresses = Addresses::behind_services(address);
        let (first, second) = (addresses.take().unwrap(), addresses.take().unwrap());
        assert_ne!(first.listen, second.listen);
        for place in [first, second] {
            assert_eq!((*place.listen.ip(), place.port, place.shown), (address, PORT, address));
        }
    }

    #[test]
    fn an_address_that_is_not_of_this_machine_is_refused() {
        let elsewhere = Addresses::behind_services("192.0.2.1".parse().unwrap());
        assert_eq!(elsewhere.take().unwrap_err().kind(), io::ErrorKind::AddrNotAvailable);
    }
}
