use std::fmt;
use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};

use crate::KbsClientError;

/// Most certificates that a pin may hold.
const MAX_PINNED: usize = 16;

/// Largest pin, in bytes of PEM.
const MAX_PEM_BYTES: usize = 256 * 1024;

/// TLS that trusts the pinned certificates alone, or the web's roots without a pin.
pub fn tls_config(pinned_pem: Option<&str>) -> Result<ClientConfig, KbsClientError> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let refuse = |error: &dyn fmt::Display| KbsClientError::PinnedCertificate(error.to_string());
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|error| refuse(&error))?;
    let Some(pem) = pinned_pem else {
        let roots = RootCertStore {
            roots: webpki_roots::TLS_SERVER_ROOTS.to_vec(),
        };
        return Ok(builder.with_root_certificates(roots).with_no_client_auth());
    };
    let pinned = read_pem(pem)?;
    let mut roots = RootCertStore::empty();
    for certificate in &pinned {
        roots
            .add(certificate.clone())
            .map_err(|error| refuse(&error))?;
    }
    let by_issuer =
        WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider))
            .build()
            .map_err(|error| refuse(&error))?;
    let verifier = PinnedVerifier {
        pinned,
        by_issuer,
        provider,
    };
    Ok(builder
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_no_client_auth())
}

fn read_pem(pem: &str) -> Result<Vec<CertificateDer<'static>>, KbsClientError> {
    let refuse = |reason: &str| KbsClientError::PinnedCertificate(reason.to_owned());
    if pem.len() > MAX_PEM_BYTES {
        return Err(refuse("it is too large"));
    }
    let certificates = CertificateDer::pem_slice_iter(pem.as_bytes())
        .collect::<Result<Vec<_>, _>>()
        .map_err(|_| refuse("it is not PEM"))?;
    match certificates.len() {
        0 => Err(refuse("there is no certificate in it")),
        1..=MAX_PINNED => Ok(certificates),
        _ => Err(refuse("there are too many certificates in it")),
    }
}

/// Accepts a server that shows a pinned certificate itself, under whatever name
/// and at whatever time (the measured pin names the key, and a guest's clock is
/// its host's), or one that a pinned certificate issued, by the usual rules.
#[derive(Debug)]
struct PinnedVerifier {
    pinned: Vec<CertificateDer<'static>>,
    by_issuer: Arc<WebPkiServerVerifier>,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for PinnedVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        if self.pinned.iter().any(|pinned| pinned == end_entity) {
            return Ok(ServerCertVerified::assertion());
        }
        self.by_issuer.verify_server_cert(
            end_entity,
            intermediates,
            server_name,
            ocsp_response,
            now,
        )
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, cert, dss, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, cert, dss, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider
            .signature_verification_algorithms
            .supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pins_without_a_certificate_are_refused() {
        let garbage = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        let key = "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n";
        for pem in [
            "",
            "hello",
            key,
            garbage,
            "-----BEGIN CERTIFICATE-----\n%%\n",
        ] {
            let refused = tls_config(Some(pem));
            assert!(
                matches!(refused, Err(KbsClientError::PinnedCertificate(_))),
                "{pem:?}"
            );
        }
        let long = " ".repeat(MAX_PEM_BYTES + 1);
        assert!(tls_config(Some(&long)).is_err());
        assert!(tls_config(None).is_ok());
    }
}
