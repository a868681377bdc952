//! Names of claims.

use std::fmt;

use serde::Serialize;

/// What a claim is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ClaimName {
    /// The report's layout version.
    ReportVersion,
    /// The kind of the certificate against the report's signing-key selector.
    SigningKey,
    /// From the VCEK or VLEK to a trusted root.
    CertificateChain,
    /// Each certificate's validity at the given time.
    CertificateValidity,
    /// No certificate of the chain is revoked.
    Revocation,
    /// The processor line of report, certificate and root.
    Product,
    /// The certificate's TCB against the report's.
    CertificateTcb,
    /// The certificate's hardware id against the report's chip id.
    HardwareId,
    /// The report's signature.
    Signature,
    /// Minimum of the reported TCB.
    ReportedTcb,
    /// Minimum of the committed TCB.
    CommittedTcb,
    /// Minimum of the TCB at launch.
    LaunchTcb,
    /// The VMPL that asked for the report.
    Vmpl,
    /// Debugging by the host.
    DebugPolicy,
    /// A migration agent.
    MigrationPolicy,
    /// Simultaneous multithreading.
    SmtPolicy,
    /// One socket only.
    SingleSocketPolicy,
    /// The least firmware ABI the guest asked for.
    AbiPolicy,
    /// CXL memory and devices.
    CxlPolicy,
    /// Memory encryption with AES-256-XTS.
    Aes256XtsPolicy,
    /// Power readings, as the guest demands.
    RaplPolicy,
    /// Ciphertext hiding, as the guest demands.
    CiphertextHidingPolicy,
    /// The host's page-swap commands.
    PageSwapPolicy,
    /// Bits of policy and key information that have no meaning.
    ReservedBits,
    /// The platform's alias check.
    AliasCheck,
    /// Simultaneous multithreading on the platform.
    PlatformSmt,
    /// Transparent memory encryption on the platform.
    PlatformTsme,
    /// ECC memory on the platform.
    PlatformEcc,
    /// Power readings on the platform.
    PlatformRapl,
    /// Ciphertext hiding on the platform.
    PlatformCiphertextHiding,
    /// The security version of the guest's id block.
    GuestSvn,
    /// The guest's own data.
    ReportData,
    /// The host's data, which carries the initdata digest.
    HostData,
    /// The launch digest.
    LaunchDigest,
    /// Chips that are allowed.
    ChipId,
    /// Id keys that are allowed.
    IdKeyDigest,
    /// Author keys that are allowed.
    AuthorKeyDigest,
    /// From the quote's signature over the quoting enclave to Intel's root.
    QuoteSignature,
    /// Each document of the collateral at the given time.
    CollateralValidity,
    /// The platform's FMSPC against the one the TCB information is for.
    Fmspc,
    /// The TCB status that Intel gives the platform.
    TcbStatus,
    /// Advisories that are not tolerated.
    TcbAdvisories,
    /// How recent the TCB evaluation is.
    TcbEvaluation,
    /// EPT violations are not turned into exceptions of the guest.
    SeptVeDisable,
    /// Further attributes of the TD.
    TdAttributes,
    /// Extended features of the TD.
    Xfam,
    /// Service TDs bound to the TD.
    ServiceTd,
    /// Platform flags of the PCK certificate.
    PlatformFlags,
    /// The measurement of the TDX module.
    MrSeam,
    /// The measurement of the TD's initial memory.
    Mrtd,
    /// The host's data of the launch, which carries the initdata digest.
    MrConfigId,
    /// The owner's id.
    MrOwner,
    /// The owner's configuration.
    MrOwnerConfig,
    /// Firmware configuration, ACPI tables and boot variables.
    Rtmr0,
    /// Kernel and boot manager.
    Rtmr1,
    /// Kernel command line and initial RAM disk.
    Rtmr2,
    /// What was measured at run time.
    Rtmr3,
    /// The event log against the RTMRs.
    EventLog,
    /// Platforms that are allowed.
    PlatformId,
}

impl ClaimName {
    /// The name in words.
    pub fn words(self) -> &'static str {
        match self {
            Self::ReportVersion => "report version",
            Self::SigningKey => "signing key",
            Self::CertificateChain => "certificate chain",
            Self::CertificateValidity => "certificate validity",
            Self::Revocation => "revocation",
            Self::Product => "product",
            Self::CertificateTcb => "certificate TCB",
            Self::HardwareId => "hardware id",
            Self::Signature => "signature",
            Self::ReportedTcb => "reported TCB",
            Self::CommittedTcb => "committed TCB",
            Self::LaunchTcb => "launch TCB",
            Self::Vmpl => "VMPL",
            Self::DebugPolicy => "debug policy",
            Self::MigrationPolicy => "migration policy",
            Self::SmtPolicy => "SMT policy",
            Self::SingleSocketPolicy => "single-socket policy",
            Self::AbiPolicy => "ABI policy",
            Self::CxlPolicy => "CXL policy",
            Self::Aes256XtsPolicy => "AES-256-XTS policy",
            Self::RaplPolicy => "RAPL policy",
            Self::CiphertextHidingPolicy => "ciphertext policy",
            Self::PageSwapPolicy => "page-swap policy",
            Self::ReservedBits => "reserved bits",
            Self::AliasCheck => "alias check",
            Self::PlatformSmt => "platform SMT",
            Self::PlatformTsme => "platform TSME",
            Self::PlatformEcc => "platform ECC",
            Self::PlatformRapl => "platform RAPL",
            Self::PlatformCiphertextHiding => "platform ciphertext",
            Self::GuestSvn => "guest SVN",
            Self::ReportData => "report data",
            Self::HostData => "host data",
            Self::LaunchDigest => "launch digest",
            Self::ChipId => "chip id",
            Self::IdKeyDigest => "id key digest",
            Self::AuthorKeyDigest => "author key digest",
            Self::QuoteSignature => "quote signature",
            Self::CollateralValidity => "collateral validity",
            Self::Fmspc => "FMSPC",
            Self::TcbStatus => "TCB status",
            Self::TcbAdvisories => "TCB advisories",
            Self::TcbEvaluation => "TCB evaluation",
            Self::SeptVeDisable => "SEPT_VE_DISABLE",
            Self::TdAttributes => "TD attributes",
            Self::Xfam => "XFAM",
            Self::ServiceTd => "service TD",
            Self::PlatformFlags => "platform flags",
            Self::MrSeam => "MRSEAM",
            Self::Mrtd => "MRTD",
            Self::MrConfigId => "MRCONFIGID",
            Self::MrOwner => "MROWNER",
            Self::MrOwnerConfig => "MROWNERCONFIG",
            Self::Rtmr0 => "RTMR0",
            Self::Rtmr1 => "RTMR1",
            Self::Rtmr2 => "RTMR2",
            Self::Rtmr3 => "RTMR3",
            Self::EventLog => "event log",
            Self::PlatformId => "platform id",
        }
    }

    /// What remains open where this claim was not checked; `None` if nothing
    /// that matters by itself.
    pub(crate) fn left_open(self) -> Option<&'static str> {
        Some(match self {
            Self::LaunchDigest => {
                "what runs in the guest: no reference value for the launch digest was given"
            }
            Self::HostData => "the guest's initdata: no HOST_DATA was expected",
            Self::ReportData => {
                "freshness, and who holds the session's key: no REPORT_DATA was expected"
            }
            Self::Revocation => "that no certificate was revoked: no revocation list was given",
            Self::ReportedTcb | Self::CommittedTcb | Self::LaunchTcb => {
                "that the firmware is current: no minimum TCB was given"
            }
            Self::AliasCheck => {
                "that memory is free of aliases: the platform's alias check was not required"
            }
            Self::ChipId => "which machine it is: no chip id was expected",
            Self::Mrtd => "what firmware runs in the guest: no MRTD was expected",
            Self::Rtmr0 | Self::Rtmr1 | Self::Rtmr2 => {
                "what runs in the guest: no reference value for one of RTMR0 to RTMR2 was given"
            }
            Self::Rtmr3 => "what the guest measured since its start: no RTMR3 was expected",
            Self::MrConfigId => "the guest's initdata: no MRCONFIGID was expected",
            Self::EventLog => "what was measured into the RTMRs: no event log was given",
            Self::PlatformId => "which machine it is: no platform id was expected",
            Self::HardwareId => "which chip signed: a VLEK belongs to a provider, not to a chip",
            _ => return None,
        })
    }
}

impl fmt::Display for ClaimName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.words())
    }
}
