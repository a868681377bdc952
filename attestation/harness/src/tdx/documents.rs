//! Documents as Intel's provisioning certification service signs them.

use redoubt_verifier::{Bundle, CollateralId, CollateralItem, Fmspc, PckAuthority};
use serde_json::{Value, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::error::HarnessError;
use crate::tdx::enclave::{QE_MRSIGNER, QE_PRODUCT, QE_SVN, QuotingEnclave};
use crate::tdx::pki::Window;

/// What the documents say that the cases change.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Documents {
    /// The platform's TCB status.
    pub(crate) status: &'static str,
    /// What is wrong with them.
    pub(crate) flaw: Flaw,
}

/// What is wrong with documents.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flaw {
    /// Nothing.
    None,
    /// The least level is above the platform's.
    Above,
    /// The TCB information is of another kind of platform.
    OtherFmspc,
    /// The identity is of another quoting enclave.
    OtherEnclave,
    /// The time of everything is past.
    Past,
    /// A word was changed after it was signed.
    Altered,
    /// The PCK certificate is revoked.
    RevokedPck,
    /// The authority of PCK certificates is revoked.
    RevokedPlatformCa,
    /// The signer of documents is revoked.
    RevokedSigner,
}

impl Default for Documents {
    fn default() -> Self {
        Self {
            status: "UpToDate",
            flaw: Flaw::None,
        }
    }
}

impl Documents {
    fn window(self) -> Window {
        let window = Window::days(30);
        if self.flaw == Flaw::Past {
            Window {
                from: window.from - time::Duration::days(60),
                to: window.from,
            }
        } else {
            window
        }
    }
}

fn rfc3339(at: OffsetDateTime) -> String {
    let at = at.replace_nanosecond(0).unwrap_or(at);
    at.format(&Rfc3339).unwrap_or_default()
}

impl QuotingEnclave {
    /// Everything that a verification of this platform's quotes needs.
    pub(crate) fn bundle_with(&self, documents: Documents) -> Result<Bundle, HarnessError> {
        let mut bundle = Bundle::default();
        for item in self.items(documents)? {
            bundle.insert(item)?;
        }
        Ok(bundle)
    }

    /// The documents one by one, as the service hands them out.
    pub(crate) fn items(&self, documents: Documents) -> Result<[CollateralItem; 4], HarnessError> {
        let window = documents.window();
        let signed = |name: &str, document: &Value| -> Result<Vec<u8>, HarnessError> {
            let mut text = document.to_string();
            let signature = hex::encode(self.signer.key.sign(text.as_bytes())?);
            if documents.flaw == Flaw::Altered {
                text = text.replace("\"UpToDate\"", "\"OutOfDate\"");
            }
            Ok(format!("{{\"{name}\":{text},\"signature\":\"{signature}\"}}").into_bytes())
        };
        let chain = |holder: &str| Some([holder, &self.root.pem].concat());
        let item = |id, body, issuer_chain| CollateralItem {
            id,
            body,
            issuer_chain,
            fetched_at: OffsetDateTime::now_utc(),
        };
        let (of_platform, of_root) = match documents.flaw {
            Flaw::RevokedPck => (vec![&self.pck], vec![]),
            Flaw::RevokedPlatformCa => (vec![], vec![&self.platform_ca]),
            Flaw::RevokedSigner => (vec![], vec![&self.signer]),
            _ => (vec![], vec![]),
        };
        Ok([
            item(
                CollateralId::TcbInfo(Fmspc(self.platform.fmspc)),
                signed("tcbInfo", &self.tcb_info(documents))?,
                chain(&self.signer.pem),
            ),
            item(
                CollateralId::QeIdentity,
                signed("enclaveIdentity", &identity(documents))?,
                chain(&self.signer.pem),
            ),
            item(
                CollateralId::PckCrl(PckAuthority::Platform),
                self.platform_ca.list(&of_platform, window)?,
                chain(&self.platform_ca.pem),
            ),
            item(
                CollateralId::RootCaCrl,
                self.root.list(&of_root, window)?,
                None,
            ),
        ])
    }

    fn tcb_info(&self, documents: Documents) -> Value {
        let window = documents.window();
        let components = |svns: [u8; 16]| {
            let components = svns.map(|svn| json!({ "svn": svn }));
            Value::from(components.to_vec())
        };
        let mut sgx = self.platform.cpu_svn;
        if documents.flaw == Flaw::Above {
            sgx[0] += 1;
        }
        let mut fmspc = self.platform.fmspc;
        if documents.flaw == Flaw::OtherFmspc {
            fmspc[5] ^= 1;
        }
        json!({
            "id": "TDX",
            "version": 3,
            "issueDate": rfc3339(window.from),
            "nextUpdate": rfc3339(window.to),
            "fmspc": hex::encode(fmspc),
            "pceId": "0000",
            "tcbType": 0,
            "tcbEvaluationDataNumber": 18,
            "tdxModule": {
                "mrsigner": "00".repeat(48),
                "attributes": "00".repeat(8),
                "attributesMask": "ff".repeat(8),
            },
            "tdxModuleIdentities": [],
            "tcbLevels": [{
                "tcb": {
                    "sgxtcbcomponents": components(sgx),
                    "pcesvn": self.platform.pce_svn,
                    "tdxtcbcomponents": components([0; 16]),
                },
                "tcbDate": "2025-01-01T00:00:00Z",
                "tcbStatus": documents.status,
                "advisoryIDs": [],
            }],
        })
    }
}

fn identity(documents: Documents) -> Value {
    let window = documents.window();
    let mut signer = QE_MRSIGNER;
    if documents.flaw == Flaw::OtherEnclave {
        signer[0] ^= 1;
    }
    json!({
        "id": "TD_QE",
        "version": 2,
        "issueDate": rfc3339(window.from),
        "nextUpdate": rfc3339(window.to),
        "tcbEvaluationDataNumber": 18,
        "miscselect": "00000000",
        "miscselectMask": "ffffffff",
        "attributes": "11000000000000000000000000000000",
        "attributesMask": "fbffffffffffffff0000000000000000",
        "mrsigner": hex::encode(signer),
        "isvprodid": QE_PRODUCT,
        "tcbLevels": [{
            "tcb": { "isvsvn": QE_SVN },
            "tcbDate": "2025-01-01T00:00:00Z",
            "tcbStatus": "UpToDate",
        }],
    })
}
