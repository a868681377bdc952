//! Maps of sparse files: GNU tar's own header form and the PAX forms.

use tar::{GnuExtSparseHeader, GnuHeader, GnuSparseHeader};

use crate::errors::{EntryProblem, ImageError};

use super::pax::{MAX_SPARSE_NUMBERS, number};
use super::stream::ArchiveStream;

/// Which parts of a file are stored; the rest are holes.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct SparseMap {
    /// Offset and length of each stored part, ascending.
    pub(crate) segments: Vec<(u64, u64)>,
    /// Length of the whole file.
    pub(crate) real_size: u64,
}

impl SparseMap {
    /// Checks the order and the sum of the parts.
    pub(crate) fn new(
        numbers: &[u64],
        real_size: u64,
        stored_bytes: u64,
    ) -> Result<Self, EntryProblem> {
        let (pairs, []) = numbers.as_chunks::<2>() else {
            return Err(EntryProblem::Sparse);
        };
        let mut segments = Vec::with_capacity(pairs.len());
        let (mut end, mut sum) = (0_u64, 0_u64);
        for &[offset, length] in pairs {
            if offset < end {
                return Err(EntryProblem::Sparse);
            }
            end = offset.checked_add(length).ok_or(EntryProblem::Sparse)?;
            // Cannot overflow: the parts do not overlap.
            sum += length;
            if length > 0 {
                segments.push((offset, length));
            }
        }
        if end > real_size || sum != stored_bytes {
            return Err(EntryProblem::Sparse);
        }
        Ok(Self {
            segments,
            real_size,
        })
    }
}

/// Reads the map of GNU tar's own format, which goes on behind the header.
pub(crate) fn read_gnu_map(
    header: &GnuHeader,
    stored_bytes: u64,
    stream: &mut ArchiveStream<'_>,
) -> Result<Result<SparseMap, EntryProblem>, ImageError> {
    let mut numbers = Vec::new();
    let mut valid = collect(&header.sparse, &mut numbers).is_some();
    let mut extended = header.is_extended();
    while extended && valid {
        let mut block = GnuExtSparseHeader::new();
        if stream.read(block.as_mut_bytes())? < 512 {
            return Ok(Err(EntryProblem::Truncated));
        }
        valid = collect(block.sparse(), &mut numbers).is_some();
        extended = block.is_extended();
    }
    let Some(real_size) = header.real_size().ok().filter(|_| valid) else {
        return Ok(Err(EntryProblem::Sparse));
    };
    Ok(SparseMap::new(&numbers, real_size, stored_bytes))
}

fn collect(parts: &[GnuSparseHeader], numbers: &mut Vec<u64>) -> Option<()> {
    for part in parts.iter().filter(|part| !part.is_empty()) {
        numbers.push(part.offset().ok()?);
        numbers.push(part.length().ok()?);
    }
    (numbers.len() <= MAX_SPARSE_NUMBERS).then_some(())
}

/// Reads the map of the PAX format 1.0: decimal lines at the beginning of the
/// entry's data, padded to a block. Returns it with the bytes it took.
pub(crate) fn read_data_map(
    stream: &mut ArchiveStream<'_>,
    data_bytes: u64,
) -> Result<Result<(Vec<u64>, u64), EntryProblem>, ImageError> {
    let mut numbers = Vec::new();
    let mut expected = None;
    let mut line = Vec::new();
    let mut taken = 0;
    while expected.is_none_or(|count| numbers.len() < count) {
        let mut block = [0; 512];
        if taken + 512 > data_bytes || stream.read(&mut block)? < 512 {
            return Ok(Err(EntryProblem::Sparse));
        }
        taken += 512;
        for &byte in &block {
            if byte != b'\n' {
                line.push(byte);
                if line.len() > 20 {
                    return Ok(Err(EntryProblem::Sparse));
                }
                continue;
            }
            let Some(value) = number(&line) else {
                return Ok(Err(EntryProblem::Sparse));
            };
            line.clear();
            match expected {
                None => {
                    let count = usize::try_from(value)
                        .ok()
                        .and_then(|count| count.checked_mul(2));
                    let Some(count) = count.filter(|&count| count <= MAX_SPARSE_NUMBERS) else {
                        return Ok(Err(EntryProblem::Sparse));
                    };
                    expected = Some(count);
                }
                Some(_) => numbers.push(value),
            }
            if expected == Some(numbers.len()) {
                break;
            }
        }
    }
    Ok(Ok((numbers, taken)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_map_must_ascend_and_fit() {
        assert!(SparseMap::new(&[0, 10, 512, 5, 1000, 0], 1000, 15).is_ok());
        for (numbers, real_size, stored) in [
            (&[10, 10, 5, 5][..], 100, 15),
            (&[0, 10, 5, 10], 100, 20),
            (&[0, 10], 5, 10),
            (&[0, 10], 100, 11),
            (&[0, 10, 20], 100, 10),
            (&[u64::MAX, 2], u64::MAX, 2),
        ] {
            assert_eq!(
                SparseMap::new(numbers, real_size, stored),
                Err(EntryProblem::Sparse)
            );
        }
    }
}
