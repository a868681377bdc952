//! The guest's network as plain data.

use std::net::IpAddr;

/// What the agent is told about the pod's network.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GuestNetwork {
    /// Interfaces, in the order of QEMU's devices.
    pub interfaces: Vec<GuestInterface>,
    /// Routes, in the kernel's order.
    pub routes: Vec<GuestRoute>,
    /// Neighbours.
    pub neighbours: Vec<GuestNeighbour>,
}

/// One interface of the guest; it stands for the pod's interface of the same name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GuestInterface {
    /// Its name in the pod's namespace and in the guest.
    pub name: String,
    /// Its addresses.
    pub addresses: Vec<GuestAddress>,
    /// Its largest transmission unit, in bytes.
    pub mtu: u32,
    /// Its Ethernet address, by which the agent finds the device.
    pub mac: [u8; 6],
    /// The kind of the pod's interface, `veth` for example.
    pub kind: String,
    /// `IFF_NOARP`, if set.
    pub raw_flags: u32,
}

impl GuestInterface {
    /// The Ethernet address in its usual form.
    pub fn mac_text(&self) -> String {
        mac_text(self.mac)
    }
}

/// An address with its prefix length in bits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GuestAddress {
    /// The address.
    pub address: IpAddr,
    /// The prefix length in bits.
    pub prefix_bits: u8,
}

/// One route of the main table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GuestRoute {
    /// The destination; none for a default route.
    pub destination: Option<GuestAddress>,
    /// The gateway.
    pub gateway: Option<IpAddr>,
    /// The interface's name.
    pub device: String,
    /// The preferred source address.
    pub source: Option<IpAddr>,
    /// The scope (rtnetlink(7), `rtm_scope`).
    pub scope: u8,
    /// The route is an IPv6 one.
    pub ipv6: bool,
    /// `RTNH_F_ONLINK`, if set.
    pub flags: u32,
    /// The route's own transmission unit in bytes, 0 for none.
    pub mtu: u32,
}

/// A neighbour whose Ethernet address is fixed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GuestNeighbour {
    /// The neighbour's address.
    pub address: IpAddr,
    /// The interface's name.
    pub device: String,
    /// The neighbour's Ethernet address.
    pub mac: [u8; 6],
    /// The state (rtnetlink(7), `NUD_…`).
    pub state: u16,
    /// The flags (`NTF_…`).
    pub flags: u8,
}

/// An Ethernet address in its usual form.
pub(crate) fn mac_text(mac: [u8; 6]) -> String {
    mac.map(|byte| format!("{byte:02x}")).join(":")
}
