//! What can go wrong with the guest's network.

use std::io;

use redoubt_errors::{ErrorCode, UserError};

/// A network request that was refused, or that the kernel did not carry out.
#[derive(Debug, thiserror::Error, displaydoc::Display)]
pub enum NetworkError {
    /// cannot talk to the guest kernel's network configuration
    Connect(#[source] io::Error),
    /// cannot {action}
    Netlink {
        /// What was tried.
        action: String,
        /// What the kernel said.
        #[source]
        source: rtnetlink::Error,
    },
    /// {count} {things} are too many, at most {max} are accepted
    TooMany {
        /// Of what there are too many.
        things: &'static str,
        /// How many there are.
        count: usize,
        /// The limit.
        max: usize,
    },
    /// "{name}" is no interface name
    Name {
        /// What was given, shortened and escaped.
        name: String,
    },
    /// "{text}" is no hardware address of an interface
    HardwareAddress {
        /// What was given, shortened and escaped.
        text: String,
    },
    /// "{text}" is no IP address that fits here
    Address {
        /// What was given, shortened and escaped.
        text: String,
    },
    /// "{text}" is no prefix length in bits of {address}
    PrefixLength {
        /// What was given, shortened and escaped.
        text: String,
        /// The address it came with.
        address: std::net::IpAddr,
    },
    /// an MTU of {mtu} bytes is not accepted, it must be from {min} to {max}
    Mtu {
        /// What was given.
        mtu: u64,
        /// The smallest in bytes.
        min: u32,
        /// The largest in bytes.
        max: u32,
    },
    /// {what} belongs to the loopback device, which is not to be changed
    Loopback {
        /// The address or the device.
        what: String,
    },
    /// no interface with hardware address {mac} appeared within {limit:?}
    NoLink {
        /// The hardware address.
        mac: String,
        /// How long it was waited for.
        limit: std::time::Duration,
    },
    /// there is no interface {name}
    NoDevice {
        /// The name.
        name: String,
    },
    /// the route to "{destination}" has no one address family
    Family {
        /// Where the route leads, shortened and escaped.
        destination: String,
    },
    /// {scope} is no scope of a route
    Scope {
        /// What was given.
        scope: u32,
    },
    /// {state} is no state of a neighbour
    NeighbourState {
        /// What was given.
        state: i32,
    },
    /// the neighbour flags {flags:#x} are not accepted
    NeighbourFlags {
        /// What was given.
        flags: i32,
    },
}

impl UserError for NetworkError {
    fn code(&self) -> ErrorCode {
        ErrorCode(match self {
            Self::Connect(_) => "RDT-GNET-001",
            Self::Netlink { .. } => "RDT-GNET-002",
            Self::TooMany { .. } => "RDT-GNET-003",
            Self::Name { .. } => "RDT-GNET-004",
            Self::HardwareAddress { .. } => "RDT-GNET-005",
            Self::Address { .. } => "RDT-GNET-006",
            Self::PrefixLength { .. } => "RDT-GNET-007",
            Self::Mtu { .. } => "RDT-GNET-008",
            Self::Loopback { .. } => "RDT-GNET-009",
            Self::NoLink { .. } => "RDT-GNET-010",
            Self::NoDevice { .. } => "RDT-GNET-011",
            Self::Family { .. } => "RDT-GNET-012",
            Self::Scope { .. } => "RDT-GNET-013",
            Self::NeighbourState { .. } => "RDT-GNET-014",
            Self::NeighbourFlags { .. } => "RDT-GNET-015",
        })
    }

    fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::NoLink { .. } => {
                "the virtual machine has no such network device; its MAC must be the pod interface's"
            }
            Self::NoDevice { .. } => "interfaces are set up before routes and neighbours",
            _ => return None,
        };
        Some(hint.to_owned())
    }
}
