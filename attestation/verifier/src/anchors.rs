//! Roots of trust: AMD's, built in, and those given by hand.

use redoubt_evidence::{Product, SIMULATED_NAME_PREFIX};

use crate::cert::Cert;
use crate::error::VerifierError;

/// The most certificates that one PEM text may hold.
const MAX_CERTIFICATES: usize = 32;

const BUILT_IN: [(Product, &str); 3] = [
    (
        Product::Milan,
        include_str!("../roots/milan_ask_ark_asvk.pem"),
    ),
    (
        Product::Genoa,
        include_str!("../roots/genoa_ask_ark_asvk.pem"),
    ),
    (
        Product::Turin,
        include_str!("../roots/turin_ask_ark_asvk.pem"),
    ),
];

/// A self-signed certificate that is trusted.
#[derive(Clone, Debug)]
pub(crate) struct Root {
    pub(crate) cert: Cert,
    /// The product of a built-in AMD root; `None` for one given by hand.
    pub(crate) amd_product: Option<Product>,
    /// Where it came from, in words.
    pub(crate) source: String,
}

impl Root {
    /// Whether a person gave the root of a simulated secure processor.
    pub(crate) fn is_simulated(&self) -> bool {
        self.amd_product.is_none() && self.cert.common_name().starts_with(SIMULATED_NAME_PREFIX)
    }
}

/// The roots to trust, and intermediate certificates that help to reach them.
///
/// A simulated root is never built in: it is trusted only where somebody gives
/// it with [`TrustAnchors::given`].
#[derive(Clone, Debug, Default)]
pub struct TrustAnchors {
    pub(crate) roots: Vec<Root>,
    pub(crate) intermediates: Vec<Cert>,
}

impl TrustAnchors {
    /// AMD's roots for Milan, Genoa and Turin, with their intermediates.
    pub fn amd() -> Self {
        let mut anchors = Self::default();
        for (product, pem) in BUILT_IN {
            // The texts are constants; a test shows that all of them are read.
            if let Ok(own) = Self::read(pem.as_bytes(), "built-in AMD root", Some(product)) {
                anchors = anchors.and(own);
            }
        }
        anchors
    }

    /// Roots given by hand: PEM text, or one DER certificate, with at least one
    /// self-signed root. `source` says in words where they came from.
    ///
    /// AMD's own roots are recognised, and keep the rules that go with them.
    pub fn given(bytes: &[u8], source: &str) -> Result<Self, VerifierError> {
        let mut anchors = Self::read(bytes, source, None)?;
        let built_in = Self::amd();
        for root in &mut anchors.roots {
            let same = built_in.roots.iter().find(|known| known.cert == root.cert);
            root.amd_product = same.and_then(|known| known.amd_product);
        }
        Ok(anchors)
    }

    /// Certificates that help to reach a root, such as AMD's `cert_chain`. A
    /// root among them is not trusted by being there.
    pub fn intermediates(bytes: &[u8]) -> Result<Self, VerifierError> {
        let mut intermediates = read_certificates(bytes)?;
        for cert in &intermediates {
            cert.require_authority()?;
        }
        intermediates.retain(|cert| !cert.is_self_issued());
        Ok(Self {
            roots: Vec::new(),
            intermediates,
        })
    }

    /// Both sets together.
    #[must_use]
    pub fn and(mut self, mut other: Self) -> Self {
        self.roots.append(&mut other.roots);
        self.intermediates.append(&mut other.intermediates);
        self
    }

    /// The roots' common names.
    pub fn root_names(&self) -> Vec<String> {
        self.roots
            .iter()
            .map(|root| root.cert.common_name())
            .collect()
    }

    fn read(
        bytes: &[u8],
        source: &str,
        amd_product: Option<Product>,
    ) -> Result<Self, VerifierError> {
        let mut anchors = Self::default();
        for cert in read_certificates(bytes)? {
            cert.require_authority()?;
            if cert.is_self_issued() {
                cert.verify_issued_by(&cert)?;
                anchors.roots.push(Root {
                    cert,
                    amd_product,
                    source: source.to_owned(),
                });
            } else {
                anchors.intermediates.push(cert);
            }
        }
        if anchors.roots.is_empty() {
            Err(VerifierError::NoRoot)
        } else {
            Ok(anchors)
        }
    }
}

/// Reads every certificate of a PEM text, or one DER certificate.
pub(crate) fn read_certificates(bytes: &[u8]) -> Result<Vec<Cert>, VerifierError> {
    const BEGIN: &str = "-----BEGIN CERTIFICATE-----";
    const END: &str = "-----END CERTIFICATE-----";
    let text = match std::str::from_utf8(bytes) {
        Ok(text) if text.contains(BEGIN) => text,
        Ok(_) => return Err(VerifierError::NoCertificate),
        Err(_) => return Ok(vec![Cert::parse(bytes)?]),
    };
    let count = text.matches(BEGIN).count();
    if count > MAX_CERTIFICATES {
        return Err(VerifierError::TooManyCertificates(count));
    }
    let blocks = text.split_inclusive(END).filter_map(|block| {
        let start = block.find(BEGIN)?;
        block.get(start..)
    });
    blocks.map(|block| Cert::parse(block.as_bytes())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_built_in_root_signs_itself_and_both_intermediates() {
        let anchors = TrustAnchors::amd();
        assert_eq!(
            anchors.root_names(),
            ["ARK-Milan", "ARK-Genoa", "ARK-Turin"]
        );
        assert_eq!(anchors.intermediates.len(), 6);
        for root in &anchors.roots {
            let signed = |cert: &&Cert| cert.verify_issued_by(&root.cert).is_ok();
            assert_eq!(anchors.intermediates.iter().filter(signed).count(), 2);
            assert!(!root.is_simulated());
        }
    }

    #[test]
    fn two_projects_ship_the_same_milan_root() {
        let other = include_bytes!("../testdata/go-ask_ark_milan_vlek.pem");
        let other = TrustAnchors::given(other, "another project").unwrap();
        let built_in = TrustAnchors::amd();
        assert_eq!(other.roots[0].cert, built_in.roots[0].cert);
        assert!(built_in.intermediates.contains(&other.intermediates[0]));
        assert_eq!(other.roots[0].amd_product, Some(Product::Milan));
    }

    #[test]
    fn text_without_a_root_is_refused() {
        let given = |bytes: &[u8]| TrustAnchors::given(bytes, "test").unwrap_err();
        assert!(matches!(given(b""), VerifierError::NoCertificate));
        assert!(matches!(given(b"hello"), VerifierError::NoCertificate));
        assert!(matches!(
            given(&[0xFF; 8]),
            VerifierError::CertificateEncoding(_)
        ));
        let (_, pem) = BUILT_IN[0];
        let ask_only = pem
            .split_inclusive("-----END CERTIFICATE-----")
            .next()
            .unwrap();
        assert!(matches!(given(ask_only.as_bytes()), VerifierError::NoRoot));
        let unfinished = &pem[..pem.len() - 40];
        assert!(matches!(
            given(unfinished.as_bytes()),
            VerifierError::CertificateEncoding(_)
        ));
        let many = pem.repeat(11);
        assert!(matches!(
            given(many.as_bytes()),
            VerifierError::TooManyCertificates(33)
        ));
    }

    #[test]
    fn a_root_among_intermediates_is_not_trusted() {
        let (_, pem) = BUILT_IN[1];
        let anchors = TrustAnchors::intermediates(pem.as_bytes()).unwrap();
        assert!(anchors.roots.is_empty());
        assert_eq!(anchors.intermediates.len(), 2);
        let leaf = include_bytes!("../testdata/trustee-test-vcek.der");
        assert!(TrustAnchors::intermediates(leaf).is_err());
        assert!(TrustAnchors::intermediates(b"").is_err());
    }

    #[test]
    fn a_leaf_is_no_root() {
        let leaf = include_bytes!("../testdata/trustee-test-vcek.der");
        let error = TrustAnchors::given(leaf, "test").unwrap_err();
        assert!(matches!(error, VerifierError::NotAnAuthority { name } if name == "SEV-VCEK"));
    }
}
