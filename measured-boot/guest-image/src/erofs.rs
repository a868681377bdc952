//! The EROFS file system (Linux, `fs/erofs/erofs_fs.h`) that a root disk holds.
//!
//! Made for images that are only read: metadata first, contents behind it, in
//! an order that follows from the paths alone. Nothing is compressed, so that
//! the bytes depend on no compressor; owners and times are zero.

use std::collections::BTreeMap;

use crate::archive::{Entry, EntryKind, TYPE_DIRECTORY, sorted};
use crate::error::GuestImageError;

/// Size of a block in bytes: a page.
pub(crate) const BLOCK_BYTES: usize = 4096;

const BLOCK_BITS: u8 = 12;
const MAGIC: u32 = 0xe0f5_e1e2;
/// The superblock's offset; what stands before it is for boot loaders.
const AT_SUPERBLOCK: usize = 1024;
const INODE_BYTES: usize = 32;
/// Inodes are named by their offset; the first block is the superblock's.
const FIRST_NID: usize = BLOCK_BYTES / INODE_BYTES;
const DIRENT_BYTES: usize = 12;
const MAX_NAME: usize = 255;
const ROOT_MODE: u32 = TYPE_DIRECTORY | 0o755;

/// One inode under construction.
struct Node<'a> {
    path: &'a str,
    mode: u32,
    links: u16,
    /// Contents of files and links, directory blocks.
    content: Vec<u8>,
    /// Device number as the kernel encodes it; zero for everything else.
    device: u32,
}

/// Writes a file system with these files; the same entries give the same bytes.
pub fn write_erofs(entries: &[Entry]) -> Result<Vec<u8>, GuestImageError> {
    let sorted = sorted(entries)?;
    let mut nodes = vec![Node {
        path: "",
        mode: ROOT_MODE,
        links: 2,
        content: Vec::new(),
        device: 0,
    }];
    for (path, entry) in &sorted {
        let (kind, content, major, minor) = entry.parts();
        if name_of(path).len() > MAX_NAME {
            return Err(GuestImageError::Path {
                path: (*path).to_owned(),
            });
        }
        nodes.push(Node {
            path,
            mode: kind | (entry.mode & 0o7777),
            links: 1,
            content: content.to_vec(),
            device: device_number(major, minor),
        });
    }
    write_directories(&mut nodes, &sorted);
    lay_out(&nodes)
}

/// The last part of a path.
fn name_of(path: &str) -> &str {
    path.rsplit_once('/').map_or(path, |(_, name)| name)
}

fn parent_of(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(parent, _)| parent)
}

/// `new_encode_dev` of the kernel.
fn device_number(major: u32, minor: u32) -> u32 {
    (minor & 0xff) | (major << 8) | ((minor & !0xff) << 12)
}

fn nid(index: usize) -> u64 {
    (FIRST_NID + index) as u64
}

/// File types of directory entries.
fn file_type(mode: u32) -> u8 {
    match mode & 0o170_000 {
        0o100_000 => 1,
        TYPE_DIRECTORY => 2,
        0o020_000 => 3,
        0o120_000 => 7,
        _ => 0,
    }
}

/// Fills folders with their entries, and counts the links that folders in them are.
fn write_directories(nodes: &mut [Node<'_>], sorted: &BTreeMap<&str, &Entry>) {
    let is_folder = |path: &str| {
        path.is_empty()
            || sorted
                .get(path)
                .is_some_and(|entry| entry.kind == EntryKind::Directory)
    };
    let index: BTreeMap<&str, usize> = nodes
        .iter()
        .enumerate()
        .map(|(index, node)| (node.path, index))
        .collect();
    let mut folders: BTreeMap<&str, BTreeMap<&[u8], (u64, u8)>> = BTreeMap::new();
    for (at, node) in nodes.iter().enumerate() {
        let own = (nid(at), file_type(node.mode));
        let parent = parent_of(node.path);
        if is_folder(node.path) {
            let above = index.get(parent).copied().unwrap_or_default();
            let folder = folders.entry(node.path).or_default();
            folder.insert(b".", own);
            folder.insert(b"..", (nid(above), own.1));
        }
        if !node.path.is_empty() {
            let name = name_of(node.path).as_bytes();
            folders.entry(parent).or_default().insert(name, own);
        }
    }
    for node in nodes.iter_mut() {
        let Some(entries) = folders.get(node.path).filter(|_| is_folder(node.path)) else {
            continue;
        };
        let below = entries.iter().filter(|(name, (_, kind))| {
            *kind == file_type(TYPE_DIRECTORY) && !matches!(**name, b"." | b"..")
        });
        node.links = u16::try_from(2 + below.count()).unwrap_or(u16::MAX);
        node.content = directory(entries);
    }
}

/// Directory blocks: in each, entries sorted by name, then the names.
fn directory(entries: &BTreeMap<&[u8], (u64, u8)>) -> Vec<u8> {
    let mut content = Vec::new();
    let mut block: Vec<(&[u8], u64, u8)> = Vec::new();
    let mut filled = 0;
    for (name, (nid, kind)) in entries {
        let bytes = DIRENT_BYTES + name.len();
        if filled + bytes > BLOCK_BYTES {
            append_block(&mut content, &block);
            content.resize(content.len().next_multiple_of(BLOCK_BYTES), 0);
            block.clear();
            filled = 0;
        }
        filled += bytes;
        block.push((name, *nid, *kind));
    }
    append_block(&mut content, &block);
    content
}

fn append_block(content: &mut Vec<u8>, block: &[(&[u8], u64, u8)]) {
    let mut name_at = block.len() * DIRENT_BYTES;
    for (name, nid, kind) in block {
        content.extend_from_slice(&nid.to_le_bytes());
        // Fits: a block has 4096 bytes.
        content.extend_from_slice(&u16::try_from(name_at).unwrap_or_default().to_le_bytes());
        content.extend_from_slice(&[*kind, 0]);
        name_at += name.len();
    }
    for (name, ..) in block {
        content.extend_from_slice(name);
    }
}

/// Superblock, inodes, contents.
fn lay_out(nodes: &[Node<'_>]) -> Result<Vec<u8>, GuestImageError> {
    let inodes_end = (nodes.len() + FIRST_NID) * INODE_BYTES;
    let mut next_block = inodes_end.div_ceil(BLOCK_BYTES);
    let mut inodes = Vec::new();
    let mut contents = Vec::new();
    for (number, node) in (1_u32..).zip(nodes) {
        let too_large = || GuestImageError::TooLarge {
            path: node.path.to_owned(),
            size: node.content.len(),
        };
        let size = u32::try_from(node.content.len()).map_err(|_| too_large())?;
        let place = match node.content.len() {
            0 => node.device,
            _ => u32::try_from(next_block).map_err(|_| too_large())?,
        };
        append_inode(&mut inodes, node, size, place, number);
        next_block += node.content.len().div_ceil(BLOCK_BYTES);
        contents.extend_from_slice(&node.content);
        contents.resize(contents.len().next_multiple_of(BLOCK_BYTES), 0);
    }
    let mut image = superblock(nodes.len(), next_block);
    image.append(&mut inodes);
    image.resize(image.len().next_multiple_of(BLOCK_BYTES), 0);
    image.append(&mut contents);
    Ok(image)
}

/// A compact inode whose contents stand in blocks of their own.
fn append_inode(inodes: &mut Vec<u8>, node: &Node<'_>, size: u32, place: u32, number: u32) {
    // Format (compact, flat) and extended attributes: none.
    inodes.extend_from_slice(&[0; 4]);
    // Type and permissions are 16 bits.
    let mode = u16::try_from(node.mode).unwrap_or_default();
    inodes.extend_from_slice(&mode.to_le_bytes());
    inodes.extend_from_slice(&node.links.to_le_bytes());
    inodes.extend_from_slice(&size.to_le_bytes());
    inodes.extend_from_slice(&[0; 4]);
    inodes.extend_from_slice(&place.to_le_bytes());
    inodes.extend_from_slice(&number.to_le_bytes());
    // Owner, group and what is reserved.
    inodes.extend_from_slice(&[0; 8]);
}

/// The first block.
fn superblock(inodes: usize, blocks: usize) -> Vec<u8> {
    let mut block = vec![0; BLOCK_BYTES];
    let mut put = |at: usize, bytes: &[u8]| {
        let at = AT_SUPERBLOCK + at;
        block[at..at + bytes.len()].copy_from_slice(bytes);
    };
    put(0, &MAGIC.to_le_bytes());
    put(12, &[BLOCK_BITS]);
    put(
        14,
        &u16::try_from(FIRST_NID).unwrap_or_default().to_le_bytes(),
    );
    put(16, &(inodes as u64).to_le_bytes());
    put(36, &u32::try_from(blocks).unwrap_or(u32::MAX).to_le_bytes());
    block
}

#[cfg(test)]
#[path = "erofs_tests.rs"]
mod tests;
