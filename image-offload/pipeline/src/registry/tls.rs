//! Trust in registries' certificates.

use std::sync::Arc;

use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;

use crate::errors::ImageError;
use crate::options::TrustRoots;

/// Builds the TLS settings for one choice of roots.
pub(super) fn client_config(trust: &TrustRoots) -> Result<ClientConfig, ImageError> {
    let mut roots = RootCertStore::empty();
    let (public, pems) = match trust {
        TrustRoots::Public => (true, &[][..]),
        TrustRoots::PublicAnd(pems) => (true, &pems[..]),
        TrustRoots::Only(pems) => (false, &pems[..]),
    };
    if public {
        roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
    }
    for pem in pems {
        add_pem(&mut roots, pem)?;
    }
    if roots.is_empty() {
        return Err(invalid("there are none"));
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| invalid(&error.to_string()))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(config)
}

fn add_pem(roots: &mut RootCertStore, pem: &str) -> Result<(), ImageError> {
    let before = roots.len();
    for certificate in CertificateDer::pem_slice_iter(pem.as_bytes()) {
        let certificate = certificate.map_err(|_| invalid("one is not PEM"))?;
        roots
            .add(certificate)
            .map_err(|error| invalid(&error.to_string()))?;
    }
    if roots.len() == before {
        Err(invalid("a file has no certificate"))
    } else {
        Ok(())
    }
}

fn invalid(reason: &str) -> ImageError {
    ImageError::TrustRoots {
        reason: reason.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unusable_certificate_is_refused_instead_of_ignored() {
        for trust in [
            TrustRoots::Only(vec![]),
            TrustRoots::Only(vec!["no certificate".to_owned()]),
            TrustRoots::PublicAnd(vec![
                "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n".to_owned(),
            ]),
        ] {
            assert!(matches!(
                client_config(&trust),
                Err(ImageError::TrustRoots { .. })
            ));
        }
        assert!(client_config(&TrustRoots::Public).is_ok());
    }
}
