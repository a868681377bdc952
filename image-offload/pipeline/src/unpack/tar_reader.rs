//! Reads archives in the ustar, PAX, GNU and Unix V7 dialects.
//!
//! Header fields are decoded by the `tar` crate; the walk is our own, because
//! extension headers must be bounded before they are read into memory and
//! binary attribute values must survive.

use tar::{EntryType, Header};

use crate::errors::{EntryProblem, ImageError};

use super::entry::{EntryKind, Metadata, TarEntry};
use super::name::entry_error;
use super::pax::{PaxRecords, Timestamp};
use super::sparse::{SparseMap, read_data_map, read_gnu_map};
use super::stream::ArchiveStream;

const BLOCK: u64 = 512;
/// GNU tar's type for the name of the whole archive.
const VOLUME_LABEL: u8 = b'V';
/// An extended header or long name; names are bounded more tightly later.
const MAX_EXTENSION_BYTES: u64 = 1 << 20;

/// Walks over the entries of an archive.
pub(crate) struct TarReader<'a> {
    stream: ArchiveStream<'a>,
    /// Bytes of the current entry's data that were not read yet.
    data_left: u64,
    /// Padding behind the data.
    padding: u64,
}

/// Extension headers that apply to the next entry.
#[derive(Default)]
struct Extensions {
    long_name: Option<Vec<u8>>,
    long_link: Option<Vec<u8>>,
    pax: Option<PaxRecords>,
}

fn archive(reason: &str) -> ImageError {
    ImageError::Archive {
        reason: reason.to_owned(),
    }
}

impl<'a> TarReader<'a> {
    pub(crate) const fn new(stream: ArchiveStream<'a>) -> Self {
        Self {
            stream,
            data_left: 0,
            padding: 0,
        }
    }

    /// The stream behind the archive, for what follows its end.
    pub(crate) fn into_stream(self) -> ArchiveStream<'a> {
        self.stream
    }

    /// The next entry; skips what is left of the one before.
    pub(crate) fn next_entry(&mut self) -> Result<Option<TarEntry>, ImageError> {
        let mut extensions = Extensions::default();
        let mut pending = false;
        loop {
            self.finish_entry()?;
            let Some(header) = self.read_header()? else {
                return if pending {
                    Err(archive("it ends after an extended header"))
                } else {
                    Ok(None)
                };
            };
            let size = header
                .entry_size()
                .map_err(|_| archive("a size is not a number"))?;
            match header.entry_type() {
                EntryType::GNULongName => extensions.long_name = Some(self.extension_name(size)?),
                EntryType::GNULongLink => extensions.long_link = Some(self.extension_name(size)?),
                EntryType::XHeader => {
                    let data = self.extension(size)?;
                    let records = PaxRecords::parse(&data)
                        .map_err(|_| archive("an extended header is malformed"))?;
                    extensions.pax = Some(records);
                }
                // Global records and volume labels say nothing about files.
                EntryType::XGlobalHeader => {
                    self.begin_data(size);
                    continue;
                }
                other if other.as_byte() == VOLUME_LABEL => {
                    self.begin_data(size);
                    continue;
                }
                _ => return self.entry(&header, size, extensions).map(Some),
            }
            pending = true;
        }
    }

    /// The next stored bytes of the current entry; empty at their end.
    pub(crate) fn data(&mut self) -> Result<&[u8], ImageError> {
        if self.data_left == 0 {
            return Ok(&[]);
        }
        let chunk = self.stream.chunk(self.data_left)?;
        if chunk.is_empty() {
            return Err(archive("it ends inside a file"));
        }
        self.data_left -= chunk.len() as u64;
        Ok(chunk)
    }

    fn begin_data(&mut self, bytes: u64) {
        self.data_left = bytes;
        self.padding = (BLOCK - bytes % BLOCK) % BLOCK;
    }

    fn finish_entry(&mut self) -> Result<(), ImageError> {
        let (data, padding) = (self.data_left, self.padding);
        (self.data_left, self.padding) = (0, 0);
        if !self.stream.skip(data)? {
            return Err(archive("it ends inside a file"));
        }
        // Some writers leave out the padding of the last file, and the end
        // marks with it; the diff_id says whether that is how it should be.
        self.stream.skip(padding)?;
        Ok(())
    }

    fn read_header(&mut self) -> Result<Option<Header>, ImageError> {
        let Some(block) = self.read_block()? else {
            return Ok(None);
        };
        if block.iter().all(|&byte| byte == 0) {
            return match self.read_block()? {
                None => Ok(None),
                Some(second) if second.iter().all(|&byte| byte == 0) => Ok(None),
                Some(_) => Err(archive("a single zero block stands between entries")),
            };
        }
        let header = Header::from_byte_slice(&block).clone();
        let (unsigned, signed) = checksums(&block);
        let stated = header
            .cksum()
            .map_err(|_| archive("a checksum is not a number"))?;
        if i64::from(stated) != unsigned && i64::from(stated) != signed {
            return Err(archive("a header does not match its checksum"));
        }
        Ok(Some(header))
    }

    fn read_block(&mut self) -> Result<Option<[u8; 512]>, ImageError> {
        let mut block = [0; 512];
        match self.stream.read(&mut block)? {
            0 => Ok(None),
            512 => Ok(Some(block)),
            _ => Err(archive("it ends inside a header")),
        }
    }

    fn extension(&mut self, size: u64) -> Result<Vec<u8>, ImageError> {
        if size > MAX_EXTENSION_BYTES {
            return Err(archive("an extended header is too large"));
        }
        self.begin_data(size);
        let mut data = vec![0; usize::try_from(size).unwrap_or_default()];
        if self.stream.read(&mut data)? < data.len() {
            return Err(archive("it ends inside an extended header"));
        }
        self.data_left = 0;
        Ok(data)
    }

    fn extension_name(&mut self, size: u64) -> Result<Vec<u8>, ImageError> {
        let mut name = self.extension(size)?;
        if let Some(end) = name.iter().position(|&byte| byte == 0) {
            name.truncate(end);
        }
        Ok(name)
    }

    fn entry(
        &mut self,
        header: &Header,
        header_size: u64,
        extensions: Extensions,
    ) -> Result<TarEntry, ImageError> {
        let mut pax = extensions.pax.unwrap_or_default();
        let name = pax
            .sparse
            .name
            .take()
            .or(pax.path.take())
            .or(extensions.long_name)
            .unwrap_or_else(|| header.path_bytes().into_owned());
        let link = pax
            .linkpath
            .take()
            .or(extensions.long_link)
            .unwrap_or_else(|| header.link_name_bytes().unwrap_or_default().into_owned());
        let size = pax.size.unwrap_or(header_size);
        let kind = self
            .kind(header, &name, link, size, &pax)?
            .map_err(|problem| entry_error(&name, problem))?;
        let metadata =
            metadata(header, pax).ok_or_else(|| entry_error(&name, EntryProblem::Metadata))?;
        Ok(TarEntry {
            name,
            kind,
            metadata,
        })
    }

    fn kind(
        &mut self,
        header: &Header,
        name: &[u8],
        link: Vec<u8>,
        size: u64,
        pax: &PaxRecords,
    ) -> Result<Result<EntryKind, EntryProblem>, ImageError> {
        // Entries other than files have no data, whatever their size says.
        self.begin_data(0);
        Ok(match header.entry_type() {
            EntryType::Regular | EntryType::Continuous if name.ends_with(b"/") => {
                // Unix V7 marks directories by their name alone.
                self.begin_data(size);
                Ok(EntryKind::Directory)
            }
            EntryType::Regular | EntryType::Continuous => return self.file(size, pax),
            EntryType::GNUSparse => {
                let Some(gnu) = header.as_gnu() else {
                    return Ok(Err(EntryProblem::Sparse));
                };
                let map = read_gnu_map(gnu, size, &mut self.stream)?;
                self.begin_data(size);
                map.map(|map| EntryKind::File {
                    stored_bytes: size,
                    sparse: Some(map),
                })
            }
            EntryType::Link => Ok(EntryKind::HardLink { target: link }),
            EntryType::Symlink => Ok(EntryKind::Symlink { target: link }),
            EntryType::Directory => Ok(EntryKind::Directory),
            EntryType::Fifo => Ok(EntryKind::Fifo),
            EntryType::Char => {
                device(header).map(|(major, minor)| EntryKind::CharDevice { major, minor })
            }
            EntryType::Block => {
                device(header).map(|(major, minor)| EntryKind::BlockDevice { major, minor })
            }
            _ => Err(EntryProblem::Type),
        })
    }

    fn file(
        &mut self,
        size: u64,
        pax: &PaxRecords,
    ) -> Result<Result<EntryKind, EntryProblem>, ImageError> {
        if !pax.sparse.is_sparse() {
            self.begin_data(size);
            return Ok(Ok(EntryKind::File {
                stored_bytes: size,
                sparse: None,
            }));
        }
        let Some(real_size) = pax.sparse.real_size else {
            return Ok(Err(EntryProblem::Sparse));
        };
        let (numbers, map_bytes) = if pax.sparse.map_in_data() {
            match read_data_map(&mut self.stream, size)? {
                Ok(found) => found,
                Err(problem) => return Ok(Err(problem)),
            }
        } else {
            (pax.sparse.map.clone(), 0)
        };
        // The map is a whole number of blocks: the padding stays the same.
        let stored_bytes = size - map_bytes;
        self.begin_data(stored_bytes);
        Ok(
            SparseMap::new(&numbers, real_size, stored_bytes).map(|map| EntryKind::File {
                stored_bytes,
                sparse: Some(map),
            }),
        )
    }
}

fn checksums(block: &[u8; 512]) -> (i64, i64) {
    let mut sums = (0, 0);
    for (position, &byte) in block.iter().enumerate() {
        // The checksum's own field counts as spaces.
        let byte = if (148..156).contains(&position) {
            b' '
        } else {
            byte
        };
        sums.0 += i64::from(byte);
        sums.1 += i64::from(byte.cast_signed());
    }
    sums
}

fn device(header: &Header) -> Result<(u32, u32), EntryProblem> {
    // Both dialects with device numbers have them at the same place.
    let block = header.as_bytes();
    let part = |field| {
        numeric(field)
            .and_then(|number| u32::try_from(number).ok())
            .ok_or(EntryProblem::DeviceNumber)
    };
    Ok((part(&block[329..337])?, part(&block[337..345])?))
}

/// A number of a header: octal digits, or binary with the top bit set. An
/// empty field means zero, as all other readers take it.
fn numeric(field: &[u8]) -> Option<i64> {
    let first = *field.first()?;
    if first & 0x80 != 0 {
        let start = if first & 0x40 != 0 { -1 } else { 0 };
        let first = i128::from(if start == 0 { first & 0x7f } else { first });
        let value = field[1..]
            .iter()
            .try_fold(first | (start << 8), |value, &byte| {
                value.checked_mul(256)?.checked_add(i128::from(byte))
            })?;
        return i64::try_from(value).ok();
    }
    let text = field.split(|&byte| byte == 0).next()?.trim_ascii();
    text.iter().try_fold(0_i64, |value, &digit| {
        let digit = (b'0'..=b'7')
            .contains(&digit)
            .then(|| i64::from(digit - b'0'))?;
        value.checked_mul(8)?.checked_add(digit)
    })
}

fn metadata(header: &Header, pax: PaxRecords) -> Option<Metadata> {
    let old = header.as_old();
    // The highest number means "no change" to the kernel.
    let id = |stated: Option<u64>, field: &[u8]| {
        let id = match stated {
            Some(id) => id,
            None => u64::try_from(numeric(field)?).ok()?,
        };
        u32::try_from(id).ok().filter(|&id| id != u32::MAX)
    };
    let mtime = match pax.mtime {
        Some(mtime) => mtime,
        None => Timestamp {
            seconds: numeric(&old.mtime)?,
            nanoseconds: 0,
        },
    };
    Some(Metadata {
        uid: id(pax.uid, &old.uid)?,
        gid: id(pax.gid, &old.gid)?,
        mode: u32::try_from(numeric(&old.mode)? & 0o7777).ok()?,
        mtime,
        xattrs: pax.xattrs,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn numbers_are_read_in_both_forms() {
        for (field, value) in [
            (&b"0000644\0"[..], Some(0o644)),
            (b"   644 \0", Some(0o644)),
            (b"\0\0\0\0", Some(0)),
            (b"    ", Some(0)),
            (b"9", None),
            (b"\x80\0\0\0\0\0\x01\0", Some(256)),
            (b"\xff\xff\xff\xff", Some(-1)),
            (b"\xff\xff\xff\x9c", Some(-100)),
            (b"\x80\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff", None),
        ] {
            assert_eq!(numeric(field), value, "{field:?}");
        }
    }

    proptest! {
        #[test]
        fn no_field_makes_the_reader_panic(field in proptest::collection::vec(any::<u8>(), 1..13)) {
            let _ = numeric(&field);
        }
    }
}
