//! Initdata as the value of a Kubernetes annotation.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::error::InitdataError;
use crate::gzip;

/// The annotation that carries initdata.
pub const ANNOTATION: &str = "io.katacontainers.config.hypervisor.cc_init_data";
/// What Kubernetes allows for all annotations of an object together, in bytes.
pub const MAX_ANNOTATION_BYTES: usize = 256 << 10;

pub(crate) fn encode(document: &[u8]) -> Result<String, InitdataError> {
    let annotation = STANDARD.encode(gzip::compress(document));
    if annotation.len() > MAX_ANNOTATION_BYTES {
        return Err(InitdataError::AnnotationTooLarge {
            size: annotation.len(),
        });
    }
    Ok(annotation)
}

pub(crate) fn decode(annotation: &str) -> Result<Vec<u8>, InitdataError> {
    let annotation = annotation.trim();
    if annotation.len() > MAX_ANNOTATION_BYTES {
        return Err(InitdataError::AnnotationTooLarge {
            size: annotation.len(),
        });
    }
    let compressed = STANDARD
        .decode(annotation)
        .map_err(|_| InitdataError::NotBase64)?;
    if is_base64_of_gzip(&compressed) {
        return Err(InitdataError::EncodedTwice);
    }
    gzip::decompress(&compressed)
}

/// `H4sI` is how the first three bytes of every gzip stream look in base64.
fn is_base64_of_gzip(bytes: &[u8]) -> bool {
    bytes.starts_with(b"H4sI")
}
