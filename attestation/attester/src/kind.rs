//! Kinds of TEE, and how the guest is told its own.

use std::fmt;

use crate::error::AttesterError;

/// The kernel command line's key for the attester.
const KEY: &str = "redoubt.attester=";

/// The kind of TEE that evidence comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TeeKind {
    /// AMD SEV-SNP.
    Snp,
    /// SEV-SNP as a software secure processor plays it; it protects nothing.
    SimulatedSnp,
}

impl TeeKind {
    /// The name of this TEE in the key-broker protocol.
    ///
    /// A simulated one speaks as the real one does: it is its root of trust
    /// that no verifier accepts unless told to.
    pub fn protocol_name(self) -> &'static str {
        match self {
            Self::Snp | Self::SimulatedSnp => "snp",
        }
    }

    /// Whether hardware stands behind the evidence.
    pub fn is_simulated(self) -> bool {
        self == Self::SimulatedSnp
    }
}

impl fmt::Display for TeeKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Snp => "SEV-SNP",
            Self::SimulatedSnp => "simulated SEV-SNP",
        })
    }
}

/// The attester that a guest is configured with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AttesterKind {
    /// `redoubt.attester=snp`.
    Snp,
    /// `redoubt.attester=simulated-snp`.
    SimulatedSnp,
}

impl AttesterKind {
    /// Reads `redoubt.attester=` from a kernel command line.
    ///
    /// `none`, and no such key at all, mean a guest that is not confidential.
    /// An unknown value is an error, and so are two values: what was measured
    /// must have one meaning.
    pub fn from_command_line(command_line: &str) -> Result<Option<Self>, AttesterError> {
        let mut values = command_line
            .split_whitespace()
            .filter_map(|word| word.strip_prefix(KEY));
        let Some(value) = values.next() else {
            return Ok(None);
        };
        if values.next().is_some() {
            return Err(AttesterError::TwoAttesters);
        }
        match value {
            "none" => Ok(None),
            "snp" => Ok(Some(Self::Snp)),
            "simulated-snp" => Ok(Some(Self::SimulatedSnp)),
            _ => Err(AttesterError::UnknownAttester {
                name: value.chars().take(64).collect(),
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_names_the_attester() {
        let kind = |line| AttesterKind::from_command_line(line).unwrap();
        assert_eq!(
            kind("console=ttyS0 redoubt.attester=snp quiet"),
            Some(AttesterKind::Snp)
        );
        assert_eq!(
            kind("redoubt.attester=simulated-snp\n"),
            Some(AttesterKind::SimulatedSnp)
        );
        assert_eq!(kind("redoubt.attester=none"), None);
        assert_eq!(kind("console=ttyS0 xredoubt.attester=snp"), None);
    }

    #[test]
    fn an_unknown_or_second_attester_is_refused() {
        assert!(matches!(
            AttesterKind::from_command_line("redoubt.attester=SNP"),
            Err(AttesterError::UnknownAttester { name }) if name == "SNP"
        ));
        assert!(matches!(
            AttesterKind::from_command_line("redoubt.attester=snp redoubt.attester=none"),
            Err(AttesterError::TwoAttesters)
        ));
    }
}
