//! Which addresses callbacks may go to: public ones, and those an endpoint's configuration allows. The check is made on the very
//! addresses that are connected to, so a name that changes its mind between check and connect gains nothing.

use std::error::Error;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use thiserror::Error;
use url::{Host, Url};

/// A receiver whose address is not allowed.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error(
    "{host} has the address {address}, which is not public; allow its network with `allow_private` if it is meant"
)]
pub(crate) struct Forbidden {
    host: String,
    address: IpAddr,
}

/// IPv4 networks that are not public (IANA's special-purpose registry).
const FORBIDDEN_V4: [([u8; 4], u8); 15] = [
    ([0, 0, 0, 0], 8),
    ([10, 0, 0, 0], 8),
    ([100, 64, 0, 0], 10),
    ([127, 0, 0, 0], 8),
    ([169, 254, 0, 0], 16),
    ([172, 16, 0, 0], 12),
    ([192, 0, 0, 0], 24),
    ([192, 0, 2, 0], 24),
    ([192, 88, 99, 0], 24),
    ([192, 168, 0, 0], 16),
    ([198, 18, 0, 0], 15),
    ([198, 51, 100, 0], 24),
    ([203, 0, 113, 0], 24),
    ([224, 0, 0, 0], 4),
    ([240, 0, 0, 0], 4),
];

/// What is not public within `2000::/3`; nothing outside of it is.
const FORBIDDEN_V6: [([u16; 2], u8); 4] = [
    ([0x2001, 0], 23),     // protocol assignments: Teredo, ORCHID, benchmarks
    ([0x2001, 0xdb8], 32), // documentation
    ([0x2002, 0], 16),     // 6to4: holds any IPv4 address
    ([0x3fff, 0], 20),     // documentation
];

/// Whether an address is public or within the allowed networks.
pub(crate) fn is_allowed(address: IpAddr, allowed: &[IpNet]) -> bool {
    let address = address.to_canonical();
    if allowed.iter().any(|net| net.contains(&address)) {
        return true;
    }
    match address {
        IpAddr::V4(address) => is_public_v4(address),
        IpAddr::V6(address) => is_public_v6(address),
    }
}

fn is_public_v4(address: Ipv4Addr) -> bool {
    let within = |(net, length): &([u8; 4], u8)| {
        Ipv4Net::new(Ipv4Addr::from(*net), *length).is_ok_and(|net| net.contains(&address))
    };
    !FORBIDDEN_V4.iter().any(within)
}

fn is_public_v6(address: Ipv6Addr) -> bool {
    let net = |[a, b]: [u16; 2], length| Ipv6Net::new(Ipv6Addr::new(a, b, 0, 0, 0, 0, 0, 0), length);
    let within =
        |(first, length): &([u16; 2], u8)| net(*first, *length).is_ok_and(|net| net.contains(&address));
    within(&([0x2000, 0], 3)) && !FORBIDDEN_V6.iter().any(within)
}

/// Checks a URL whose host is an address: no resolver is asked about those.
pub(crate) fn check_literal(url: &Url, allowed: &[IpNet]) -> Result<(), Forbidden> {
    let address = match url.host() {
        Some(Host::Ipv4(address)) => IpAddr::V4(address),
        Some(Host::Ipv6(address)) => IpAddr::V6(address),
        Some(Host::Domain(_)) | None => return Ok(()),
    };
    check(&address.to_string(), [address], allowed)
}

/// Refuses all when one is forbidden: a name with a public and a private address is an attempt to get round us.
pub(super) fn check(
    host: &str,
    addresses: impl IntoIterator<Item = IpAddr>,
    allowed: &[IpNet],
) -> Result<(), Forbidden> {
    match addresses.into_iter().find(|address| !is_allowed(*address, allowed)) {
        Some(address) => Err(Forbidden { host: host.to_owned(), address }),
        None => Ok(()),
    }
}

/// Resolves names and gives the connector only what has been checked.
pub(crate) struct GuardedResolver {
    pub(crate) allowed: Vec<IpNet>,
}

impl Resolve for GuardedResolver {
    fn resolve(&self, name: Name) -> Resolving {
        let allowed = self.allowed.clone();
        Box::pin(async move {
            let found: Vec<SocketAddr> = tokio::net::lookup_host((name.as_str(), 0)).await?.collect();
            check(name.as_str(), found.iter().map(SocketAddr::ip), &allowed)
                .map_err(|error| Box::new(error) as Box<dyn Error + Send + Sync>)?;
            Ok(Box::new(found.into_iter()) as Addrs)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_public_addresses_are_allowed() {
        for address in
            ["1.1.1.1", "93.184.216.34", "2606:4700::1111", "2a00:1450::1", "192.0.1.1", "172.32.0.1"]
        {
            assert!(is_allowed(address.parse().unwrap(), &[]), "{address}");
        }
        for address in [
            "0.0.0.0",
            "10.1.2.3",
            "100.64.0.1",
            "127.0.0.1",
            "169.254.169.254",
            "172.31.0.1",
            "192.168.1.1",
            "198.19.0.1",
            "224.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::ffff:10.0.0.1",
            "::ffff:127.0.0.1",
            "::127.0.0.1",
            "fe80::1",
            "fc00::1",
            "fd00::1",
            "fec0::1",
            "ff02::1",
            "64:ff9b::7f00:1",
            "2001::1",
            "2001:db8::1",
            "2002:7f00:1::1",
            "3fff::1",
            "5f00::1",
            "100::1",
        ] {
            assert!(!is_allowed(address.parse().unwrap(), &[]), "{address}");
        }
    }

    #[test]
    fn an_allowed_network_is_allowed_and_no_more() {
        let allowed = ["10.0.0.0/8".parse().unwrap(), "fd00::/16".parse().unwrap()];
        for (address, want) in [
            ("10.1.2.3", true),
            ("::ffff:10.1.2.3", true),
            ("127.0.0.1", false),
            ("fd00::1", true),
            ("fd01::1", false),
        ] {
            assert_eq!(is_allowed(address.parse().unwrap(), &allowed), want, "{address}");
        }
    }

    #[test]
    fn literals_in_every_spelling_are_checked() {
        for url in [
            "http://127.0.0.1/",
            "http://2130706433/",
            "http://0x7f.1/",
            "http://017700000001/",
            "http://[::1]/",
            "http://[::ffff:7f00:1]/",
            "http://127.1/",
        ] {
            assert!(check_literal(&url.parse().unwrap(), &[]).is_err(), "{url}");
        }
        assert_eq!(check_literal(&"http://1.1.1.1/".parse().unwrap(), &[]), Ok(()));
        assert_eq!(
            check_literal(&"http://localhost/".parse().unwrap(), &[]),
            Ok(()),
            "the resolver checks names"
        );
    }

    #[test]
    fn one_forbidden_address_is_enough() {
        let both = ["1.1.1.1".parse().unwrap(), "10.0.0.1".parse().unwrap()];
        let error = check("ci.test", both, &[]).unwrap_err();
        assert!(error.to_string().starts_with("ci.test has the address 10.0.0.1"), "{error}");
    }
}
