//! What was changed about the inputs, in words.

use std::fmt;

use redoubt_launch_digest::CpuSignature;
use redoubt_tdx_measurement::PageOrder;

/// One change of the inputs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Difference {
    /// Another number of vCPUs.
    Vcpus(u32),
    /// Another CPU.
    Cpu {
        /// A model of this signature, as QEMU names it.
        model: String,
        /// The signature.
        signature: CpuSignature,
    },
    /// Other guest features.
    GuestFeatures(u64),
    /// A parameter fewer on the command line.
    Removed(String),
    /// A parameter more on the command line.
    Added {
        /// The parameter.
        parameter: String,
        /// The parameter before it; `None` at the beginning.
        after: Option<String>,
    },
    /// A parameter with another value.
    Changed {
        /// The parameter of the inputs.
        from: String,
        /// The parameter that matches.
        to: String,
    },
    /// An empty command line.
    EmptyCmdline,
    /// A blank or line end behind the command line.
    Trailing(&'static str),
    /// Another firmware.
    Firmware(String),
    /// Another order of adding and measuring pages, by QEMU's generation.
    PageOrder(PageOrder),
    /// Another kernel.
    Kernel(String),
    /// Another initrd.
    Initrd(String),
    /// No initrd.
    NoInitrd,
    /// Kernel, initrd and command line are not measured at all.
    NoKernelHashes,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Vcpus(vcpus) => write!(f, "with vcpus={vcpus}"),
            Self::Cpu { model, signature } => {
                write!(f, "with CPU model {model} (signature {signature})")
            }
            Self::GuestFeatures(features) => write!(f, "with guest features {features:#x}"),
            Self::Removed(parameter) => write!(f, "without `{parameter}`"),
            Self::Added {
                parameter,
                after: Some(after),
            } => write!(f, "with `{parameter}` after `{after}`"),
            Self::Added {
                parameter,
                after: None,
            } => write!(f, "with `{parameter}` at the start of the command line"),
            Self::Changed { from, to } => write!(f, "with `{to}` instead of `{from}`"),
            Self::EmptyCmdline => f.write_str("with an empty command line"),
            Self::Trailing(what) => write!(f, "with a {what} at the end of the command line"),
            Self::Firmware(name) => write!(f, "with firmware {name}"),
            Self::PageOrder(PageOrder::ByPage) => {
                f.write_str("with pages measured one by one (QEMU 9 and later)")
            }
            Self::PageOrder(PageOrder::BySection) => {
                f.write_str("with pages measured section by section (QEMU 8)")
            }
            Self::Kernel(name) => write!(f, "with kernel {name}"),
            Self::Initrd(name) => write!(f, "with initrd {name}"),
            Self::NoInitrd => f.write_str("without the initrd"),
            Self::NoKernelHashes => f.write_str("without kernel hashes (kernel-hashes=off)"),
        }
    }
}

/// The changes that lead from the inputs to a digest; none if they give it as they are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Match {
    /// The changes, all of them together.
    pub differences: Vec<Difference>,
}

impl fmt::Display for Match {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.differences.is_empty() {
            return f.write_str("matches the inputs");
        }
        f.write_str("matches ")?;
        for (index, difference) in self.differences.iter().enumerate() {
            let joint = if index == 0 { "" } else { " and " };
            write!(f, "{joint}{difference}")?;
        }
        Ok(())
    }
}
