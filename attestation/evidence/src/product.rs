//! Processor lines that have a certificate chain of their own.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::report::CpuId;

/// A processor line as AMD's key distribution service names it.
///
/// Siena and Bergamo belong to Genoa's line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Product {
    /// Third generation EPYC (Zen 3).
    Milan,
    /// Fourth generation EPYC (Zen 4), with Siena and Bergamo.
    Genoa,
    /// Fifth generation EPYC (Zen 5).
    Turin,
}

impl Product {
    /// All products.
    pub const ALL: [Self; 3] = [Self::Milan, Self::Genoa, Self::Turin];

    /// The name in AMD's certificates and URLs.
    pub fn name(self) -> &'static str {
        match self {
            Self::Milan => "Milan",
            Self::Genoa => "Genoa",
            Self::Turin => "Turin",
        }
    }

    /// The product of a CPU family and model; `None` if it is not known.
    pub fn from_cpuid(cpuid: CpuId) -> Option<Self> {
        match (cpuid.family, cpuid.model) {
            (0x19, 0x00..=0x0F) => Some(Self::Milan),
            (0x19, 0x10..=0x1F | 0xA0..=0xAF) => Some(Self::Genoa),
            (0x1A, 0x00..=0x11) => Some(Self::Turin),
            _ => None,
        }
    }

    /// The product that a VEK certificate's product extension names.
    ///
    /// The text is a product name, perhaps with a stepping: `Milan-B0`.
    pub fn from_certificate_name(name: &str) -> Option<Self> {
        let line = name.split_once('-').map_or(name, |(line, _stepping)| line);
        Self::ALL.into_iter().find(|product| product.name() == line)
    }

    /// How many bytes of a report's chip id this product uses.
    pub fn hwid_bytes(self) -> usize {
        match self {
            Self::Milan | Self::Genoa => 64,
            Self::Turin => 8,
        }
    }
}

impl fmt::Display for Product {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
