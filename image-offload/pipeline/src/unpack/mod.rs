//! From a verified stream to a directory: archive reading and extraction.

mod entry;
mod extractor;
mod metadata;
mod name;
mod pax;
mod sparse;
mod stream;
mod tar_reader;
#[cfg(test)]
mod tests;

pub(crate) use extractor::{extract, is_whiteout};
pub(crate) use metadata::OPAQUE_XATTR;
pub(crate) use stream::ArchiveStream;
#[cfg(feature = "fuzzing")]
pub(crate) use tar_reader::TarReader;
