//! The report's own signature.

use redoubt_evidence::SnpReport;
use ring::signature::{ECDSA_P384_SHA384_FIXED, UnparsedPublicKey};

/// The report's number for ECDSA P-384 with SHA-384.
const ECDSA_P384_SHA384: u32 = 1;

/// The length of a P-384 scalar in bytes.
const SCALAR_BYTES: usize = 48;

/// Verifies the signature; an error says in words what is wrong with it.
pub(crate) fn verify_report(report: &SnpReport, public_point: &[u8]) -> Result<(), String> {
    let algorithm = report.signature_algorithm();
    if algorithm != ECDSA_P384_SHA384 {
        return Err(format!("signature algorithm {algorithm}"));
    }
    let raw = &report.raw().signature;
    let mut signature = [0; 2 * SCALAR_BYTES];
    let (r, s) = signature.split_at_mut(SCALAR_BYTES);
    big_endian(&raw.r, r).ok_or("r is longer than 48 bytes")?;
    big_endian(&raw.s, s).ok_or("s is longer than 48 bytes")?;
    if raw.reserved.iter().any(|byte| *byte != 0) {
        return Err("bytes behind the signature that are not zero".to_owned());
    }
    UnparsedPublicKey::new(&ECDSA_P384_SHA384_FIXED, public_point)
        .verify(report.signed_bytes(), &signature)
        .map_err(|_| "a signature of another key or another report".to_owned())
}

/// Writes a little-endian number big-endian; `None` if it does not fit.
fn big_endian(little_endian: &[u8; 72], out: &mut [u8]) -> Option<()> {
    let (low, high) = little_endian.split_at(SCALAR_BYTES);
    if high.iter().any(|byte| *byte != 0) {
        return None;
    }
    out.copy_from_slice(low);
    out.reverse();
    Some(())
}
