//! Fields of a structure of fixed length, and its form in base64.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::error::{IdBlockError, IdPart};

/// The bytes at `at`; the structures' offsets are constants inside their length.
pub(crate) fn array<const N: usize, const LEN: usize>(bytes: &[u8; LEN], at: usize) -> [u8; N] {
    let mut field = [0; N];
    if let Some(found) = bytes.get(at..at + N) {
        field.copy_from_slice(found);
    }
    field
}

pub(crate) fn u32_at<const LEN: usize>(bytes: &[u8; LEN], at: usize) -> u32 {
    u32::from_le_bytes(array(bytes, at))
}

/// Refuses a field that is reserved as zero and is not.
pub(crate) fn check_reserved(
    part: IdPart,
    bytes: &[u8],
    from: usize,
    to: usize,
) -> Result<(), IdBlockError> {
    let offset = (from..to).find(|at| bytes.get(*at).is_some_and(|byte| *byte != 0));
    match offset {
        Some(offset) => Err(IdBlockError::Reserved { part, offset }),
        None => Ok(()),
    }
}

/// A structure from its base64, as configurations and QEMU have it.
pub(crate) fn from_base64<const LEN: usize>(
    part: IdPart,
    text: &str,
) -> Result<[u8; LEN], IdBlockError> {
    let wrong = IdBlockError::Format {
        part,
        expected: LEN,
    };
    // A text of another length is not worth decoding.
    if text.len() > LEN.div_ceil(3) * 4 {
        return Err(wrong);
    }
    STANDARD
        .decode(text)
        .ok()
        .and_then(|bytes| bytes.try_into().ok())
        .ok_or(wrong)
}

pub(crate) fn to_base64(bytes: &[u8]) -> String {
    STANDARD.encode(bytes)
}
