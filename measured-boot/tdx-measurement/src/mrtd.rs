//! MRTD: a hash over what the launcher adds to the guest (TDX Module Base 1.5, section 12.2.1).

use redoubt_firmware::{Firmware, PAGE_BYTES, TdxSection};
use sha2::{Digest, Sha384};

use crate::error::TdxError;
use crate::generation::PageOrder;

/// `MR.EXTEND` measures a page in pieces of this many bytes.
const CHUNK_BYTES: usize = 256;
/// Each operation is hashed as a record of this length.
const RECORD_BYTES: usize = 128;
/// The address in a record.
const RECORD_GPA: std::ops::Range<usize> = 16..24;

/// MRTD of a guest with this firmware.
pub fn mrtd(firmware: &Firmware, order: PageOrder) -> Result<[u8; 48], TdxError> {
    let mut hash = Sha384::new();
    for section in firmware.require_tdx_sections()? {
        let data = firmware.tdx_section_data(section)?;
        match order {
            PageOrder::ByPage => {
                for gpa in pages(section) {
                    add_page(&mut hash, section, gpa);
                    extend_page(&mut hash, section, data, gpa);
                }
            }
            PageOrder::BySection => {
                for gpa in pages(section) {
                    add_page(&mut hash, section, gpa);
                }
                for gpa in pages(section) {
                    extend_page(&mut hash, section, data, gpa);
                }
            }
        }
    }
    Ok(hash.finalize().into())
}

/// Addresses of a section's pages.
fn pages(section: &TdxSection) -> impl Iterator<Item = u64> {
    (section.gpa..section.end()).step_by(PAGE_BYTES)
}

fn record(operation: &[u8], gpa: u64) -> [u8; RECORD_BYTES] {
    let mut record = [0; RECORD_BYTES];
    record
        .iter_mut()
        .zip(operation)
        .for_each(|(to, from)| *to = *from);
    record[RECORD_GPA].copy_from_slice(&gpa.to_le_bytes());
    record
}

fn add_page(hash: &mut Sha384, section: &TdxSection, gpa: u64) {
    if !section.attributes.added_at_run_time() {
        hash.update(record(b"MEM.PAGE.ADD", gpa));
    }
}

/// Measures a page; what the image does not fill is zeros.
fn extend_page(hash: &mut Sha384, section: &TdxSection, data: &[u8], gpa: u64) {
    if !section.attributes.measured() {
        return;
    }
    for chunk_gpa in (gpa..).step_by(CHUNK_BYTES).take(PAGE_BYTES / CHUNK_BYTES) {
        let start = usize::try_from(chunk_gpa - section.gpa).unwrap_or(usize::MAX);
        let rest = data.get(start..).unwrap_or_default();
        let mut chunk = [0; CHUNK_BYTES];
        chunk
            .iter_mut()
            .zip(rest)
            .for_each(|(to, from)| *to = *from);
        hash.update(record(b"MR.EXTEND", chunk_gpa));
        hash.update(chunk);
    }
}
