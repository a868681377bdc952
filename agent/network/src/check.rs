//! The values that requests are made of. Pure.

use std::fmt;
use std::net::IpAddr;

use crate::error::NetworkError;

/// Most addresses of one interface.
pub const MAX_ADDRESSES: usize = 64;
/// Most routes of one request.
pub const MAX_ROUTES: usize = 1024;
/// Most neighbours of one request.
pub const MAX_NEIGHBOURS: usize = 1024;

/// The smallest MTU of an IPv4 interface in bytes (RFC 791, 3.2).
const MIN_MTU: u32 = 68;
/// The smallest MTU of an IPv6 interface in bytes (RFC 8200, 5).
const MIN_IPV6_MTU: u32 = 1280;
/// The largest MTU in bytes: an IP packet is no larger.
const MAX_MTU: u32 = 65_535;
/// `IFNAMSIZ` without the terminating zero, in bytes.
const MAX_NAME_BYTES: usize = 15;
/// How much of a refused text is shown, in characters.
const SHOWN_CHARS: usize = 64;

/// The name of an interface that may be changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LinkName(String);

impl LinkName {
    /// Takes what the kernel takes (`dev_valid_name`), ASCII only. A percent sign would have
    /// the kernel choose a number; `all` and `default` are taken under `/proc/sys/net`.
    pub(crate) fn parse(name: &str) -> Result<Self, NetworkError> {
        let is_fine = (1..=MAX_NAME_BYTES).contains(&name.len())
            && name
                .bytes()
                .all(|b| b.is_ascii_graphic() && !b"/:%\"\\".contains(&b))
            && !matches!(name, "." | ".." | "all" | "default");
        if !is_fine {
            return Err(NetworkError::Name { name: shown(name) });
        }
        if name == "lo" {
            return Err(NetworkError::Loopback {
                what: name.to_owned(),
            });
        }
        Ok(Self(name.to_owned()))
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for LinkName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The hardware address of one Ethernet interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Mac(pub(crate) [u8; 6]);

impl Mac {
    /// Six pairs of hexadecimal digits with colons between; neither zero nor a group's.
    pub(crate) fn parse(text: &str) -> Result<Self, NetworkError> {
        let refused = || NetworkError::HardwareAddress { text: shown(text) };
        let mut mac = [0_u8; 6];
        let mut pairs = text.split(':');
        for byte in &mut mac {
            let pair = pairs.next().ok_or_else(refused)?;
            if pair.len() != 2 || !pair.bytes().all(|b| b.is_ascii_hexdigit()) {
                return Err(refused());
            }
            *byte = u8::from_str_radix(pair, 16).map_err(|_| refused())?;
        }
        let is_group = mac[0] & 1 == 1;
        if pairs.next().is_some() || is_group || mac == [0; 6] {
            return Err(refused());
        }
        Ok(Self(mac))
    }
}

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.map(|byte| format!("{byte:02x}")).join(":"))
    }
}

/// An address with its prefix length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Prefix {
    pub(crate) address: IpAddr,
    pub(crate) bits: u8,
}

impl Prefix {
    /// An address and, as decimal text, its prefix length in bits.
    pub(crate) fn parse(address: IpAddr, bits: &str) -> Result<Self, NetworkError> {
        let refused = || NetworkError::PrefixLength {
            text: shown(bits),
            address,
        };
        // `u8::from_str` would take a sign.
        if !bits.bytes().all(|b| b.is_ascii_digit()) {
            return Err(refused());
        }
        let bits = bits.parse().map_err(|_| refused())?;
        if bits > max_bits(address) {
            return Err(refused());
        }
        Ok(Self { address, bits })
    }
}

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.bits)
    }
}

/// The length of an address in bits.
pub(crate) fn max_bits(address: IpAddr) -> u8 {
    if address.is_ipv6() { 128 } else { 32 }
}

/// The address of one host, not this one's loopback.
pub(crate) fn host_address(text: &str) -> Result<IpAddr, NetworkError> {
    let address = any_address(text)?;
    if address.is_unspecified() || address.to_canonical().is_multicast() {
        return Err(NetworkError::Address { text: shown(text) });
    }
    Ok(address)
}

/// Any address but loopback ones, however they are written.
pub(crate) fn any_address(text: &str) -> Result<IpAddr, NetworkError> {
    let address: IpAddr = text
        .parse()
        .map_err(|_| NetworkError::Address { text: shown(text) })?;
    if address.to_canonical().is_loopback() {
        return Err(NetworkError::Loopback {
            what: address.to_string(),
        });
    }
    Ok(address)
}

/// A size in bytes; 0 says nothing.
pub(crate) fn mtu(mtu: u64, ipv6: bool) -> Result<Option<u32>, NetworkError> {
    if mtu == 0 {
        return Ok(None);
    }
    let min = if ipv6 { MIN_IPV6_MTU } else { MIN_MTU };
    u32::try_from(mtu)
        .ok()
        .filter(|mtu| (min..=MAX_MTU).contains(mtu))
        .map(Some)
        .ok_or(NetworkError::Mtu {
            mtu,
            min,
            max: MAX_MTU,
        })
}

/// Refuses long lists before they are looked into.
pub(crate) fn at_most(max: usize, count: usize, things: &'static str) -> Result<(), NetworkError> {
    if count > max {
        return Err(NetworkError::TooMany { things, count, max });
    }
    Ok(())
}

/// A refused text as it may appear in a message.
pub(crate) fn shown(text: &str) -> String {
    let mut shown: String = text
        .chars()
        .take(SHOWN_CHARS)
        .flat_map(char::escape_debug)
        .collect();
    if text.chars().nth(SHOWN_CHARS).is_some() {
        shown.push('…');
    }
    shown
}
