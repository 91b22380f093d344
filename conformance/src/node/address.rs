//! The addresses of pods. A pod is seen in the cluster at `10.x.y.z` and really listens at `127.x.y.z`.
//!
//! The API server refuses loopback addresses in Endpoints, and a process without privileges can bind no others. So each
//! address has two faces, and [`loopback`] tells one from the other without a table.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, TcpListener};
use std::sync::{Arc, Mutex, PoisonError};

use rand::Rng as _;

/// The second byte of a pod's address: keeps clear of 127.0.0.0/16, where servers are, and of usual Service ranges.
const SECOND_BYTE: std::ops::Range<u8> = 64..128;

/// Attempts to find a free address. Each fails with a chance well under one in a thousand.
const ATTEMPTS: usize = 64;

/// Where a pod with this address really listens; `None` for an address that no node double gave out.
pub fn loopback(pod: IpAddr) -> Option<IpAddr> {
    match pod {
        IpAddr::V4(address) => match address.octets() {
            [10, a, b, c] if SECOND_BYTE.contains(&a) => Some(IpAddr::V4(Ipv4Addr::new(127, a, b, c))),
            _ => None,
        },
        IpAddr::V6(_) => None,
    }
}

/// Gives out addresses. They are drawn at random, because other runs on this machine draw from the same range.
#[derive(Clone, Debug, Default)]
pub(super) struct Addresses(Arc<Mutex<BTreeSet<IpAddr>>>);

/// The address of one pod, until it is dropped.
#[derive(Debug)]
pub(super) struct Address {
    pod: IpAddr,
    listen: IpAddr,
    pool: Addresses,
}

impl Address {
    /// As the cluster sees it.
    pub(super) fn pod(&self) -> IpAddr {
        self.pod
    }

    /// As the machine sees it.
    pub(super) fn listen(&self) -> IpAddr {
        self.listen
    }
}

impl Drop for Address {
    fn drop(&mut self) {
        self.pool.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.pod);
    }
}

impl Addresses {
    /// An address on which all `ports` are free; `None` when the machine has no such loopback address.
    pub(super) fn take(&self, ports: &[u16]) -> Option<Address> {
        let mut taken = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut random = rand::rng();
        (0..ATTEMPTS).find_map(|_| {
            let pod = IpAddr::V4(Ipv4Addr::new(
                10,
                random.random_range(SECOND_BYTE),
                random.random_range(0..=255),
                random.random_range(1..255),
            ));
            let listen = loopback(pod)?;
            let free = ports.iter().all(|&port| TcpListener::bind((listen, port)).is_ok());
            (free && taken.insert(pod)).then(|| Address { pod, listen, pool: self.clone() })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_two_faces_of_an_address() {
        let parse = |text: &str| text.parse::<IpAddr>().unwrap();
        assert_eq!(loopback(parse("10.64.3.4")), Some(parse("127.64.3.4")));
        assert_eq!(loopback(parse("10.0.3.4")), None);
        assert_eq!(loopback(parse("127.64.3.4")), None);
        assert_eq!(loopback(parse("::1")), None);
    }

    #[test]
    fn an_address_is_free_for_its_ports_and_given_out_once() {
        let pool = Addresses::default();
        let taken: Vec<_> = (0..50).map(|_| pool.take(&[8080]).unwrap()).collect();
        let distinct: BTreeSet<_> = taken.iter().map(Address::pod).collect();
        assert_eq!(distinct.len(), taken.len());
        TcpListener::bind((taken[0].listen(), 8080)).unwrap();
        drop(taken);
        assert_eq!(pool.0.lock().unwrap().len(), 0);
    }
}
