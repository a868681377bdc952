//! What can go wrong between a pod's network namespace and a tap.

use std::io;
use std::path::PathBuf;

use redoubt_errors::{ErrorCode, UserError};

/// A pod network that could not be connected to the guest.
#[derive(Debug, thiserror::Error, displaydoc::Display)]
pub enum NetworkError {
    /// cannot enter network namespace {path}
    Namespace {
        /// The namespace.
        path: PathBuf,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
    /// cannot work inside the pod's network namespace
    Thread(#[source] io::Error),
    /// cannot {action}
    Netlink {
        /// What was tried.
        action: String,
        /// What the kernel said.
        #[source]
        source: rtnetlink::Error,
    },
    /// interface {interface} has no Ethernet address
    NoMac {
        /// The pod's interface.
        interface: String,
    },
    /// interface {interface} has an ingress queueing discipline already
    IngressTaken {
        /// The pod's interface.
        interface: String,
    },
    /// the pod's network namespace has {count} interfaces, at most {max} are supported
    TooMany {
        /// How many there are.
        count: usize,
        /// The limit.
        max: usize,
    },
    /// cannot create tap device {name}
    Tap {
        /// The tap device.
        name: String,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
}

impl UserError for NetworkError {
    fn code(&self) -> ErrorCode {
        ErrorCode(match self {
            Self::Namespace { .. } => "RDT-NET-001",
            Self::Thread(_) => "RDT-NET-002",
            Self::Netlink { .. } => "RDT-NET-003",
            Self::NoMac { .. } => "RDT-NET-004",
            Self::IngressTaken { .. } => "RDT-NET-005",
            Self::TooMany { .. } => "RDT-NET-006",
            Self::Tap { .. } => "RDT-NET-007",
        })
    }

    fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::Netlink { .. } => {
                "the kernel needs sch_ingress, cls_u32 and act_mirred: modprobe them"
            }
            Self::IngressTaken { .. } => {
                "another sandbox or a CNI plugin redirects this interface; give each sandbox a namespace of its own"
            }
            Self::Tap { source, .. } if source.kind() == io::ErrorKind::NotFound => "modprobe tun",
            _ => return None,
        };
        Some(hint.to_owned())
    }
}
