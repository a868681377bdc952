//! Which address of which service holds a document.

use std::fmt::{self, Write as _};

use redoubt_verifier::{CollateralId, VcekId};

/// A service that hands out collateral.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Service {
    /// AMD's key distribution service.
    AmdKds,
    /// Intel's provisioning certification service.
    IntelPcs,
    /// Where Intel keeps the root's revocation list.
    IntelRoot,
}

impl fmt::Display for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::AmdKds => "AMD's key distribution service",
            Self::IntelPcs => "Intel's provisioning certification service",
            Self::IntelRoot => "Intel's certificate store",
        })
    }
}

/// Which of Intel's two sets of TCB levels is asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TcbUpdate {
    /// The set that platforms can be expected to meet.
    #[default]
    Standard,
    /// The newest set, before the world has caught up.
    Early,
}

impl TcbUpdate {
    fn name(self) -> &'static str {
        match self {
            Self::Standard => "standard",
            Self::Early => "early",
        }
    }
}

/// Where the services are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Services {
    /// AMD's key distribution service.
    pub amd_kds: String,
    /// Intel's provisioning certification service.
    pub intel_pcs: String,
    /// Intel's certificate store.
    pub intel_root: String,
    /// Which of Intel's two sets of TCB levels is asked for.
    pub tcb_update: TcbUpdate,
}

impl Default for Services {
    fn default() -> Self {
        Self {
            amd_kds: "https://kdsintf.amd.com".to_owned(),
            intel_pcs: "https://api.trustedservices.intel.com".to_owned(),
            intel_root: "https://certificates.trustedservices.intel.com".to_owned(),
            tcb_update: TcbUpdate::Standard,
        }
    }
}

/// A request for one document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Request {
    pub(crate) service: Service,
    pub(crate) url: String,
    /// The answer's header that holds the issuer's chain, percent-encoded.
    pub(crate) chain_header: Option<&'static str>,
}

impl Services {
    /// The request for a document.
    pub(crate) fn request(&self, id: &CollateralId) -> Request {
        let update = self.tcb_update.name();
        let (service, path, chain_header) = match id {
            CollateralId::Vcek(vcek) => (Service::AmdKds, vcek_path(vcek), None),
            CollateralId::Chain(product, issuer) => {
                let path = format!("{}/v1/{product}/cert_chain", issuer.name());
                (Service::AmdKds, path, None)
            }
            CollateralId::Crl(product, issuer) => {
                let path = format!("{}/v1/{product}/crl", issuer.name());
                (Service::AmdKds, path, None)
            }
            CollateralId::TcbInfo(fmspc) => (
                Service::IntelPcs,
                format!("tdx/certification/v4/tcb?fmspc={fmspc}&update={update}"),
                Some("TCB-Info-Issuer-Chain"),
            ),
            CollateralId::QeIdentity => (
                Service::IntelPcs,
                format!("tdx/certification/v4/qe/identity?update={update}"),
                Some("SGX-Enclave-Identity-Issuer-Chain"),
            ),
            CollateralId::PckCrl(authority) => (
                Service::IntelPcs,
                format!(
                    "sgx/certification/v4/pckcrl?ca={}&encoding=der",
                    authority.name()
                ),
                Some("SGX-PCK-CRL-Issuer-Chain"),
            ),
            CollateralId::RootCaCrl => (Service::IntelRoot, "IntelSGXRootCA.der".to_owned(), None),
        };
        let base = match service {
            Service::AmdKds => &self.amd_kds,
            Service::IntelPcs => &self.intel_pcs,
            Service::IntelRoot => &self.intel_root,
        };
        Request {
            service,
            url: format!("{}/{path}", base.trim_end_matches('/')),
            chain_header,
        }
    }
}

/// Versions are two decimal digits at least, as AMD 57230 writes them.
fn vcek_path(vcek: &VcekId) -> String {
    let mut path = format!("vcek/v1/{}/", vcek.product);
    // Writing to a `String` cannot fail.
    for byte in vcek.hardware_id() {
        let _ = write!(path, "{byte:02x}");
    }
    let tcb = vcek.tcb;
    let _ = write!(
        path,
        "?blSPL={:02}&teeSPL={:02}&snpSPL={:02}&ucodeSPL={:02}",
        tcb.bootloader, tcb.tee, tcb.snp, tcb.microcode
    );
    if let Some(fmc) = tcb.fmc {
        let _ = write!(path, "&fmcSPL={fmc:02}");
    }
    path
}

/// Undoes percent-encoding; `None` for text that is not encoded so.
pub(crate) fn percent_decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte == b'%' {
            let digit = |byte: Option<u8>| char::from(byte?).to_digit(16);
            let (high, low) = (digit(rest.next())?, digit(rest.next())?);
            bytes.push(u8::try_from(high << 4 | low).ok()?);
        } else {
            bytes.push(byte);
        }
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_document_has_the_address_that_its_service_documents() {
        let url = |id: &str| Services::default().request(&id.parse().unwrap()).url;
        let turin = "snp/vcek/Turin/0102030405060708/1-2-3-70-9";
        assert_eq!(
            url(turin),
            "https://kdsintf.amd.com/vcek/v1/Turin/0102030405060708?blSPL=01&teeSPL=02&snpSPL=03&ucodeSPL=70&fmcSPL=09"
        );
        let milan = format!("snp/vcek/Milan/{}/3-0-8-115", "ab".repeat(64));
        assert_eq!(
            url(&milan),
            format!(
                "https://kdsintf.amd.com/vcek/v1/Milan/{}?blSPL=03&teeSPL=00&snpSPL=08&ucodeSPL=115",
                "ab".repeat(64)
            )
        );
        for (id, expected) in [
            (
                "snp/chain/Genoa/vlek",
                "https://kdsintf.amd.com/vlek/v1/Genoa/cert_chain",
            ),
            (
                "snp/crl/Genoa/vcek",
                "https://kdsintf.amd.com/vcek/v1/Genoa/crl",
            ),
            (
                "tdx/tcb-info/50806f000000",
                "https://api.trustedservices.intel.com/tdx/certification/v4/tcb?fmspc=50806f000000&update=standard",
            ),
            (
                "tdx/qe-identity",
                "https://api.trustedservices.intel.com/tdx/certification/v4/qe/identity?update=standard",
            ),
            (
                "tdx/pck-crl/platform",
                "https://api.trustedservices.intel.com/sgx/certification/v4/pckcrl?ca=platform&encoding=der",
            ),
            (
                "tdx/root-ca-crl",
                "https://certificates.trustedservices.intel.com/IntelSGXRootCA.der",
            ),
        ] {
            assert_eq!(url(id), expected);
        }
    }

    #[test]
    fn percent_encoding_is_undone() {
        assert_eq!(percent_decoded("a%20b%0A"), Some("a b\n".to_owned()));
        for text in ["%", "%2", "%zz", "%FF"] {
            assert_eq!(percent_decoded(text), None, "{text}");
        }
    }
}
