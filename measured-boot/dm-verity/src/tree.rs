//! The hash tree (Linux, `Documentation/admin-guide/device-mapper/verity.rst`).

use crate::error::VerityError;
use crate::format::Format;

/// Makes a tree out of data blocks that come one after the other.
#[derive(Clone, Debug)]
pub struct TreeBuilder {
    format: Format,
    leaves: Vec<u8>,
    only: Vec<u8>,
    blocks: u64,
}

/// A finished tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tree {
    /// The digest that stands for all data.
    pub root_hash: Vec<u8>,
    /// The levels as they stand on disk, the root's block first; empty for a single data block.
    pub bytes: Vec<u8>,
    /// Number of data blocks.
    pub data_blocks: u64,
}

impl TreeBuilder {
    /// A tree without data.
    pub fn new(format: Format) -> Self {
        Self {
            format,
            leaves: Vec::new(),
            only: Vec::new(),
            blocks: 0,
        }
    }

    /// Adds whole data blocks.
    pub fn push(&mut self, data: &[u8]) -> Result<(), VerityError> {
        let block_bytes = self.format.data_block_bytes() as usize;
        if !data.len().is_multiple_of(block_bytes) {
            return Err(VerityError::PartialBlock { len: data.len() });
        }
        for block in data.chunks_exact(block_bytes) {
            let digest = self.format.digest(block);
            append_digest(&self.format, &digest, &mut self.leaves);
            self.only = digest;
            self.blocks += 1;
        }
        Ok(())
    }

    /// Computes the levels above the leaves.
    pub fn finish(self) -> Result<Tree, VerityError> {
        let Self {
            format,
            leaves,
            only,
            blocks,
        } = self;
        match blocks {
            0 => return Err(VerityError::DataBlocks { blocks }),
            // A single block needs no tree: its digest is the root hash.
            1 => {
                return Ok(Tree {
                    root_hash: only,
                    bytes: Vec::new(),
                    data_blocks: 1,
                });
            }
            _ => {}
        }
        let block_bytes = format.hash_block_bytes() as usize;
        let mut levels = Vec::new();
        let mut level = padded(leaves, block_bytes);
        while level.len() > block_bytes {
            let mut above = Vec::new();
            for block in level.chunks_exact(block_bytes) {
                append_digest(&format, &format.digest(block), &mut above);
            }
            levels.push(level);
            level = padded(above, block_bytes);
        }
        let root_hash = format.digest(&level);
        levels.push(level);
        levels.reverse();
        Ok(Tree {
            root_hash,
            bytes: levels.concat(),
            data_blocks: blocks,
        })
    }
}

/// Adds a digest to a level; no digest crosses the end of a block, as block sizes are multiples.
fn append_digest(format: &Format, digest: &[u8], level: &mut Vec<u8>) {
    debug_assert_eq!(digest.len(), format.algorithm().digest_len());
    level.extend_from_slice(digest);
}

fn padded(mut level: Vec<u8>, block_bytes: usize) -> Vec<u8> {
    level.resize(level.len().next_multiple_of(block_bytes), 0);
    level
}
