//! The collateral of one quote.

use dcap_qvl::QuoteCollateralV3;
use redoubt_evidence::tdx::TdxQuote;
use redoubt_verifier::{Bundle, CollateralItem};

use crate::error::TdxVerifierError;
use crate::pck::PckInfo;

/// The largest collateral that is read, in bytes.
pub const MAX_COLLATERAL_BYTES: usize = 4 * 1024 * 1024;

/// TCB information, identity of the quoting enclave and revocation lists, with
/// the chains that signed them.
#[derive(Clone, Debug)]
pub struct TdxCollateral(pub(crate) QuoteCollateralV3);

impl TdxCollateral {
    /// Reads the JSON in which PCCS clients pass on the collateral of one quote.
    pub fn parse(bytes: &[u8]) -> Result<Self, TdxVerifierError> {
        if bytes.len() > MAX_COLLATERAL_BYTES {
            return Err(TdxVerifierError::CollateralSize {
                actual: bytes.len(),
                limit: MAX_COLLATERAL_BYTES,
            });
        }
        let collateral = serde_json::from_slice(bytes);
        collateral
            .map(Self)
            .map_err(TdxVerifierError::CollateralJson)
    }

    /// Takes what a quote needs out of a bundle.
    pub fn from_bundle(bundle: &Bundle, quote: &TdxQuote) -> Result<Self, TdxVerifierError> {
        let pck = PckInfo::of(quote)?;
        let get = |id| bundle.get(&id).ok_or(TdxVerifierError::Missing { id });
        let [tcb_info, qe_identity, pck_crl, root_ca_crl] = pck.documents();
        let (tcb_info, qe_identity) = (get(tcb_info)?, get(qe_identity)?);
        let (pck_crl, root_ca_crl) = (get(pck_crl)?, get(root_ca_crl)?);
        let (signed_tcb, signed_qe) = (tcb_info.tcb_info()?, qe_identity.qe_identity()?);
        Ok(Self(QuoteCollateralV3 {
            pck_crl_issuer_chain: chain_of(pck_crl),
            root_ca_crl: list_of(root_ca_crl)?,
            pck_crl: list_of(pck_crl)?,
            tcb_info_issuer_chain: chain_of(tcb_info),
            tcb_info: signed_tcb.text,
            tcb_info_signature: signed_tcb.signature.to_vec(),
            qe_identity_issuer_chain: chain_of(qe_identity),
            qe_identity: signed_qe.text,
            qe_identity_signature: signed_qe.signature.to_vec(),
            pck_certificate_chain: None,
        }))
    }

    /// Reads collateral of either form for a quote.
    pub fn of_file(bytes: &[u8], quote: &TdxQuote) -> Result<Self, TdxVerifierError> {
        match Self::parse(bytes) {
            Err(TdxVerifierError::CollateralJson(not_v3)) => match Bundle::parse(bytes) {
                Ok(bundle) => Self::from_bundle(&bundle, quote),
                // A file that is no bundle at all: say what the other reading found.
                Err(redoubt_verifier::VerifierError::BundleJson(_)) => {
                    Err(TdxVerifierError::CollateralJson(not_v3))
                }
                Err(error) => Err(error.into()),
            },
            outcome => outcome,
        }
    }
}

fn chain_of(item: &CollateralItem) -> String {
    item.issuer_chain.clone().unwrap_or_default()
}

/// A revocation list in DER, as the verification library takes it.
fn list_of(item: &CollateralItem) -> Result<Vec<u8>, TdxVerifierError> {
    if !item.body.starts_with(b"-----BEGIN") {
        return Ok(item.body.clone());
    }
    let (_label, der) =
        der::pem::decode_vec(&item.body).map_err(|_| TdxVerifierError::Missing { id: item.id })?;
    Ok(der)
}
