//! What can be wrong with the material of a verification.

use redoubt_errors::{ErrorCode, UserError};

use crate::collateral::CollateralId;
use crate::name::ClaimName;
use crate::verdict::State;

/// A reason why evidence cannot be verified, or was not.
#[derive(Debug, thiserror::Error, displaydoc::Display)]
pub enum VerifierError {
    /// the certificate is {actual} bytes long, more than {limit} or none at all
    CertificateSize {
        /// The length that was given, in bytes.
        actual: usize,
        /// The largest length accepted, in bytes.
        limit: usize,
    },
    /// the certificate is not valid DER of an X.509 certificate
    CertificateEncoding(#[source] der::Error),
    /// the certificate's extension {oid} is malformed
    Extension {
        /// The extension's object identifier.
        oid: String,
    },
    /// the certificate has the extension {oid} twice
    DuplicateExtension {
        /// The extension's object identifier.
        oid: String,
    },
    /// the certificate has the unknown critical extension {oid}
    CriticalExtension {
        /// The extension's object identifier.
        oid: String,
    },
    /// the certificate is not signed with RSASSA-PSS, SHA-384 and a 48-byte salt
    CertificateAlgorithm,
    /// the signature of "{subject}" is not of "{issuer}"
    CertificateSignature {
        /// The common name of the certificate.
        subject: String,
        /// The common name of the one that should have signed it.
        issuer: String,
    },
    /// "{name}" may not sign certificates
    NotAnAuthority {
        /// The certificate's common name.
        name: String,
    },
    /// the certificate's key is not an ECDSA P-384 key
    CertificateKey,
    /// the certificate is neither a VCEK nor a VLEK
    NeitherVcekNorVlek,
    /// the certificate names no TCB version
    NoTcbVersion,
    /// there is no certificate in the PEM text
    NoCertificate,
    /// the PEM text holds {0} certificates, too many
    TooManyCertificates(usize),
    /// no self-signed root is among the certificates given
    NoRoot,
    /// the revocation list is {actual} bytes long, more than {limit} or none at all
    RevocationListSize {
        /// The length that was given, in bytes.
        actual: usize,
        /// The largest length accepted, in bytes.
        limit: usize,
    },
    /// the revocation list is not valid DER of an X.509 revocation list
    RevocationListEncoding(#[source] der::Error),
    /// {id:?} names no collateral document
    CollateralId {
        /// The text that was given.
        id: String,
    },
    /// collateral document {id} is {actual} bytes long, more than {limit} or none at all
    CollateralSize {
        /// Which document.
        id: CollateralId,
        /// The length that was given, in bytes.
        actual: usize,
        /// The largest length accepted, in bytes.
        limit: usize,
    },
    /// collateral document {id} is not what it should be
    CollateralContent {
        /// Which document.
        id: CollateralId,
        /// What is wrong with it.
        #[source]
        cause: Box<VerifierError>,
    },
    /// its {member} is {seen}, expected {expected}
    CollateralMismatch {
        /// What differs.
        member: &'static str,
        /// What the id asks for.
        expected: String,
        /// What the document says.
        seen: String,
    },
    /// it holds no {member} with a signature
    SignedDocument {
        /// The member that was looked for.
        member: &'static str,
    },
    /// the collateral bundle is {actual} bytes long, more than {limit}
    BundleSize {
        /// The length that was given, in bytes.
        actual: usize,
        /// The largest length accepted, in bytes.
        limit: usize,
    },
    /// the collateral bundle is not the JSON of one
    BundleJson(#[source] serde_json::Error),
    /// the collateral bundle has version {0}, only 1 is known
    BundleVersion(u32),
    /// the collateral bundle holds {actual} documents, more than {limit}
    BundleItems {
        /// How many there are.
        actual: usize,
        /// The most that are accepted.
        limit: usize,
    },
    /// the collateral bundle holds {id} twice
    BundleDuplicate {
        /// Which document.
        id: CollateralId,
    },
    /// the collateral bundle says no time at which it got {id}
    BundleTime {
        /// Which document.
        id: CollateralId,
    },
    /// the collateral bundle's document {id} is not Base64
    BundleEncoding {
        /// Which document.
        id: CollateralId,
    },
    /// the reference values are {actual} bytes long, more than {limit}
    ReferenceSize {
        /// The length that was given, in bytes.
        actual: usize,
        /// The largest length accepted, in bytes.
        limit: usize,
    },
    /// the reference values are not the JSON that `redoubt measure` writes
    ReferenceJson(#[source] serde_json::Error),
    /// the reference values have version {0}, only 1 is known
    ReferenceVersion(u32),
    /// reference value {index}: {member} is not {bytes} bytes in hexadecimal
    ReferenceValue {
        /// Which value, from 0.
        index: usize,
        /// The member that is wrong.
        member: &'static str,
        /// The length that it should have, in bytes.
        bytes: usize,
    },
    /// the evidence is {state}: {claim} expected {expected}, seen {seen}
    NotVerified {
        /// The verdict's state.
        state: State,
        /// The first claim that does not hold.
        claim: ClaimName,
        /// What that claim expected.
        expected: String,
        /// What was seen.
        seen: String,
    },
}

impl UserError for VerifierError {
    fn code(&self) -> ErrorCode {
        ErrorCode(match self {
            Self::CertificateSize { .. } => "RDT-VER-001",
            Self::CertificateEncoding(_) => "RDT-VER-002",
            Self::Extension { .. } => "RDT-VER-003",
            Self::DuplicateExtension { .. } => "RDT-VER-004",
            Self::CriticalExtension { .. } => "RDT-VER-005",
            Self::CertificateAlgorithm => "RDT-VER-006",
            Self::CertificateSignature { .. } => "RDT-VER-007",
            Self::NotAnAuthority { .. } => "RDT-VER-008",
            Self::CertificateKey => "RDT-VER-009",
            Self::NeitherVcekNorVlek => "RDT-VER-010",
            Self::NoTcbVersion => "RDT-VER-011",
            Self::NoCertificate => "RDT-VER-012",
            Self::TooManyCertificates(_) => "RDT-VER-013",
            Self::NoRoot => "RDT-VER-014",
            Self::RevocationListSize { .. } => "RDT-VER-015",
            Self::RevocationListEncoding(_) => "RDT-VER-016",
            Self::NotVerified { .. } => "RDT-VER-017",
            Self::CollateralId { .. } => "RDT-VER-018",
            Self::CollateralSize { .. } => "RDT-VER-019",
            Self::CollateralContent { .. } => "RDT-VER-020",
            Self::CollateralMismatch { .. } => "RDT-VER-021",
            Self::SignedDocument { .. } => "RDT-VER-022",
            Self::BundleSize { .. } => "RDT-VER-023",
            Self::BundleJson(_) => "RDT-VER-024",
            Self::BundleVersion(_) => "RDT-VER-025",
            Self::BundleItems { .. } => "RDT-VER-026",
            Self::BundleDuplicate { .. } => "RDT-VER-027",
            Self::BundleTime { .. } => "RDT-VER-028",
            Self::BundleEncoding { .. } => "RDT-VER-029",
            Self::ReferenceSize { .. } => "RDT-VER-030",
            Self::ReferenceJson(_) => "RDT-VER-031",
            Self::ReferenceVersion(_) => "RDT-VER-032",
            Self::ReferenceValue { .. } => "RDT-VER-033",
        })
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::NoRoot => Some("give the ARK with the ASK, as AMD's cert_chain does".to_owned()),
            Self::BundleJson(_) => {
                Some("a bundle is made by `redoubt collateral export`".to_owned())
            }
            Self::ReferenceJson(_) => Some(
                "reference values are made by `redoubt measure ... --format redoubt`".to_owned(),
            ),
            Self::NoCertificate => Some("certificates are given as PEM or DER".to_owned()),
            Self::NotVerified {
                claim: ClaimName::CertificateChain,
                ..
            } => Some(
                "simulated evidence is accepted only with the simulator's own ark.pem as a root"
                    .to_owned(),
            ),
            Self::NotVerified {
                claim: ClaimName::LaunchDigest,
                ..
            } => Some(
                "firmware, kernel, initrd, command line, CPU type and vCPU count all go into the \
                 launch digest; compare it with the launch plan's"
                    .to_owned(),
            ),
            _ => None,
        }
    }
}
