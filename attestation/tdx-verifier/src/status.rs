//! TCB statuses as Intel names them.

use std::fmt;
use std::str::FromStr;

use serde::Serialize;

use crate::error::TdxVerifierError;

/// What Intel says of a platform's TCB.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
pub enum TcbStatus {
    /// Nothing is missing.
    UpToDate,
    /// Software must be hardened against an advisory.
    SWHardeningNeeded,
    /// The platform must be configured.
    ConfigurationNeeded,
    /// Both of them.
    ConfigurationAndSWHardeningNeeded,
    /// Firmware or microcode is too old.
    OutOfDate,
    /// Too old, and to be configured.
    OutOfDateConfigurationNeeded,
    /// The TDX module was updated under the running TD, which should be started anew.
    TDRelaunchAdvised,
    /// The same, and the platform must be configured.
    TDRelaunchAdvisedConfigurationNeeded,
    /// Keys of this TCB are not to be trusted. Never accepted.
    Revoked,
}

impl TcbStatus {
    const ALL: [Self; 9] = [
        Self::UpToDate,
        Self::SWHardeningNeeded,
        Self::ConfigurationNeeded,
        Self::ConfigurationAndSWHardeningNeeded,
        Self::OutOfDate,
        Self::OutOfDateConfigurationNeeded,
        Self::TDRelaunchAdvised,
        Self::TDRelaunchAdvisedConfigurationNeeded,
        Self::Revoked,
    ];

    /// Intel's name.
    pub fn name(self) -> &'static str {
        match self {
            Self::UpToDate => "UpToDate",
            Self::SWHardeningNeeded => "SWHardeningNeeded",
            Self::ConfigurationNeeded => "ConfigurationNeeded",
            Self::ConfigurationAndSWHardeningNeeded => "ConfigurationAndSWHardeningNeeded",
            Self::OutOfDate => "OutOfDate",
            Self::OutOfDateConfigurationNeeded => "OutOfDateConfigurationNeeded",
            Self::TDRelaunchAdvised => "TDRelaunchAdvised",
            Self::TDRelaunchAdvisedConfigurationNeeded => "TDRelaunchAdvisedConfigurationNeeded",
            Self::Revoked => "Revoked",
        }
    }
}

impl fmt::Display for TcbStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for TcbStatus {
    type Err = TdxVerifierError;

    fn from_str(text: &str) -> Result<Self, TdxVerifierError> {
        let named = Self::ALL.into_iter().find(|status| status.name() == text);
        named.ok_or_else(|| TdxVerifierError::Status {
            text: text.chars().take(64).collect(),
        })
    }
}

impl From<dcap_qvl::TcbStatus> for TcbStatus {
    fn from(status: dcap_qvl::TcbStatus) -> Self {
        match status {
            dcap_qvl::TcbStatus::UpToDate => Self::UpToDate,
            dcap_qvl::TcbStatus::SWHardeningNeeded => Self::SWHardeningNeeded,
            dcap_qvl::TcbStatus::ConfigurationNeeded => Self::ConfigurationNeeded,
            dcap_qvl::TcbStatus::ConfigurationAndSWHardeningNeeded => {
                Self::ConfigurationAndSWHardeningNeeded
            }
            dcap_qvl::TcbStatus::OutOfDate => Self::OutOfDate,
            dcap_qvl::TcbStatus::OutOfDateConfigurationNeeded => Self::OutOfDateConfigurationNeeded,
            dcap_qvl::TcbStatus::TDRelaunchAdvised => Self::TDRelaunchAdvised,
            dcap_qvl::TcbStatus::TDRelaunchAdvisedConfigurationNeeded => {
                Self::TDRelaunchAdvisedConfigurationNeeded
            }
            dcap_qvl::TcbStatus::Revoked => Self::Revoked,
        }
    }
}
