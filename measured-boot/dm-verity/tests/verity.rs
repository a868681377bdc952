//! Trees against `veritysetup`, superblocks and parameters against people.

#![expect(clippy::unwrap_used, reason = "a helper that fails fails its test")]

use std::io::Read;

use insta::assert_snapshot;
use proptest::prelude::*;
use redoubt_dm_verity::{
    Algorithm, Format, HashType, SUPERBLOCK_LEN, Superblock, Tree, TreeBuilder, VerityError,
    VerityParams,
};
use redoubt_errors::OneLine;
use serde_json::Value;
use sha2::{Digest, Sha256};

const UUID: [u8; 16] = [
    0x11, 0x11, 0x11, 0x11, 0x22, 0x22, 0x33, 0x33, 0x44, 0x44, 0x55, 0x55, 0x55, 0x55, 0x55, 0x55,
];

/// The data of a vector, made as `testdata/README.md` says.
fn data(name: &str) -> Vec<u8> {
    if name == "d-64k-zero.bin" {
        return vec![0; 65536];
    }
    let blocks = name.strip_prefix("d-").unwrap();
    let blocks: usize = blocks.strip_suffix("blk.bin").unwrap().parse().unwrap();
    let digests = (0_u64..).map(|count| {
        Sha256::new()
            .chain_update("dmverity-vector")
            .chain_update(count.to_le_bytes())
            .finalize()
    });
    digests
        .take(blocks * 4096 / 32)
        .flat_map(|digest| digest.to_vec())
        .collect()
}

fn tree(format: &Format, data: &[u8]) -> Tree {
    let mut builder = TreeBuilder::new(format.clone());
    builder.push(data).unwrap();
    builder.finish().unwrap()
}

fn sha256(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}

#[test]
fn all_fifteen_trees_of_veritysetup_come_out() {
    let vectors: Value = serde_json::from_str(include_str!("../testdata/vectors.json")).unwrap();
    let vectors = vectors.as_array().unwrap();
    assert_eq!(vectors.len(), 15);
    for vector in vectors {
        let text = |key: &str| vector[key].as_str().unwrap();
        let number = |key: &str| u32::try_from(vector[key].as_u64().unwrap()).unwrap();
        let name = text("name");
        let data = data(text("data"));
        assert_eq!(sha256(&data), text("data_sha256"), "{name}");
        let hash_type = match number("hash_type") {
            0 => HashType::SaltLast,
            _ => HashType::SaltFirst,
        };
        let format = Format::new(
            hash_type,
            Algorithm::from_name(text("hash_algorithm")).unwrap(),
            number("data_block_size"),
            number("hash_block_size"),
            &hex::decode(text("salt")).unwrap(),
        )
        .unwrap();
        let tree = tree(&format, &data);
        assert_eq!(hex::encode(&tree.root_hash), text("root_hash"), "{name}");
        assert_eq!(tree.bytes.len(), number("tree_len") as usize, "{name}");
        let superblock = Superblock::new(UUID, format, tree.data_blocks).unwrap();
        let block = superblock.to_block();
        assert_eq!(Superblock::parse(&block).unwrap(), superblock, "{name}");
        let area = match name {
            "d-129blk.nosb" => tree.bytes,
            _ => [block, tree.bytes].concat(),
        };
        if let Some(expected) = vector["hash_area_sha256"].as_str() {
            assert_eq!(sha256(&area), expected, "{name}");
        }
    }
}

#[test]
fn superblocks_of_veritysetup_are_read() {
    for (name, packed) in [
        (
            "d-2blk.sha256-salt32",
            &include_bytes!("../testdata/d-2blk.sha256-salt32.hash.gz")[..],
        ),
        (
            "d-129blk.sha512",
            include_bytes!("../testdata/d-129blk.sha512.hash.gz"),
        ),
        (
            "d-129blk.fmt0",
            include_bytes!("../testdata/d-129blk.fmt0.hash.gz"),
        ),
    ] {
        let mut area = Vec::new();
        flate2::read::GzDecoder::new(packed)
            .read_to_end(&mut area)
            .unwrap();
        let superblock = Superblock::parse(&area).unwrap();
        assert_eq!(superblock.uuid, UUID, "{name}");
        let data = data(&format!("{}.bin", name.split('.').next().unwrap()));
        let tree = tree(&superblock.format, &data);
        assert_eq!(area, [superblock.to_block(), tree.bytes].concat(), "{name}");
    }
}

#[test]
fn blocks_may_come_in_any_pieces() {
    let format = Format::usual(&[1, 2, 3]).unwrap();
    let data = data("d-129blk.bin");
    let whole = tree(&format, &data);
    let mut builder = TreeBuilder::new(format);
    for piece in data.chunks(3 * 4096) {
        builder.push(piece).unwrap();
    }
    assert_eq!(builder.finish().unwrap(), whole);
}

#[test]
fn every_changed_byte_changes_the_root_hash() {
    let format = Format::usual(&[]).unwrap();
    let data = data("d-2blk.bin");
    let root = tree(&format, &data).root_hash;
    for at in [0, 4095, 4096, 8191] {
        let mut changed = data.clone();
        changed[at] ^= 1;
        assert_ne!(tree(&format, &changed).root_hash, root);
    }
}

#[test]
fn data_without_blocks_or_with_half_a_block_are_refused() {
    let format = Format::usual(&[]).unwrap();
    let empty = TreeBuilder::new(format.clone()).finish();
    assert_eq!(empty, Err(VerityError::DataBlocks { blocks: 0 }));
    let half = TreeBuilder::new(format).push(&[0; 100]);
    assert_eq!(half, Err(VerityError::PartialBlock { len: 100 }));
}

#[test]
fn each_wrong_field_of_a_superblock_is_named() {
    let format = Format::usual(&[7; 32]).unwrap();
    let good = Superblock::new(UUID, format, 2).unwrap().to_block();
    let with = |at: usize, bytes: &[u8]| {
        let mut block = good.clone();
        block[at..at + bytes.len()].copy_from_slice(bytes);
        OneLine(&Superblock::parse(&block).unwrap_err()).to_string()
    };
    let lines = [
        OneLine(&Superblock::parse(&good[..511]).unwrap_err()).to_string(),
        with(0, b"V"),
        with(8, &[2]),
        with(12, &[2]),
        with(32, b"sha1\0\0"),
        with(60, b"x"),
        with(64, &[1]),
        with(68, &[0, 0, 1, 0]),
        with(72, &[0; 8]),
        with(72, &[0xff; 8]),
        with(80, &[1, 1]),
        with(83, &[1]),
        with(88 + 40, &[1]),
        with(SUPERBLOCK_LEN - 1, &[1]),
    ];
    assert_snapshot!(lines.join("\n"), @r#"
    [RDT-DMV-001] dm-verity superblock has 511 bytes, fewer than 512
    [RDT-DMV-002] dm-verity superblock, offset 0: magic is wrong
    [RDT-DMV-002] dm-verity superblock, offset 8: version is wrong
    [RDT-DMV-002] dm-verity superblock, offset 12: hash type is wrong
    [RDT-DMV-003] dm-verity algorithm "sha1" is neither sha256 nor sha512
    [RDT-DMV-002] dm-verity superblock, offset 32: algorithm is wrong
    [RDT-DMV-004] dm-verity block size 4097 is no power of two from 512 to 4096
    [RDT-DMV-004] dm-verity block size 65536 is no power of two from 512 to 4096
    [RDT-DMV-006] dm-verity device of 0 blocks is empty or too large
    [RDT-DMV-006] dm-verity device of 18446744073709551615 blocks is empty or too large
    [RDT-DMV-005] dm-verity salt of 257 bytes is longer than 256
    [RDT-DMV-002] dm-verity superblock, offset 82: padding is wrong
    [RDT-DMV-002] dm-verity superblock, offset 120: rest of the salt is wrong
    [RDT-DMV-002] dm-verity superblock, offset 344: padding is wrong
    "#);
}

const PARAMS: &str = "root_hash=6e8e5574d8d41d9a2ffcd5060c67c15c25f9c1453c4db645c9546dcd1546685f,\
                      salt=0011,data_blocks=128,data_block_size=4096,hash_block_size=4096";

#[test]
fn parameters_become_a_table_line() {
    let params: VerityParams = PARAMS.parse().unwrap();
    assert_eq!(params.to_string(), PARAMS);
    assert_eq!(params.sectors(), 1024);
    assert_snapshot!(params.table("/dev/vda", "/dev/vda", 129), @r#"
    1 /dev/vda /dev/vda 4096 4096 128 129 sha256 6e8e5574d8d41d9a2ffcd5060c67c15c25f9c1453c4db645c9546dcd1546685f 0011
    "#);
    let unsalted = PARAMS
        .replace("salt=0011", "salt=")
        .parse::<VerityParams>()
        .unwrap();
    assert!(unsalted.table("8:0", "8:0", 0).ends_with(" -"));
}

#[test]
fn wrong_parameters_are_refused() {
    let lines: Vec<_> = [
        String::new(),
        "root_hash".to_owned(),
        PARAMS.replace("salt=0011,", ""),
        format!("{PARAMS},salt=00"),
        format!("{PARAMS},panic=1"),
        PARAMS.replace("6e8e", "6e8"),
        PARAMS.replace("6e8e", "6e8 "),
        PARAMS.replace("salt=0011", "salt=0x11"),
        PARAMS.replace("salt=0011", &format!("salt={}", "00".repeat(257))),
        PARAMS.replace("=128", "=0"),
        PARAMS.replace("=128", "=+1"),
        PARAMS.replace("=128", "=18446744073709551615"),
        PARAMS.replace("hash_block_size=4096", "hash_block_size=8192"),
        PARAMS.replace("data_block_size=4096", "data_block_size=1000"),
        "x".repeat(1025),
    ]
    .iter()
    .map(|text| OneLine(&text.parse::<VerityParams>().unwrap_err()).to_string())
    .collect();
    assert_snapshot!(lines.join("\n"), @r#"
    [RDT-DMV-010] dm-verity parameters: "" is no known key=value (hint: expected root_hash=…,salt=…,data_blocks=…,data_block_size=…,hash_block_size=…)
    [RDT-DMV-010] dm-verity parameters: "root_hash" is no known key=value (hint: expected root_hash=…,salt=…,data_blocks=…,data_block_size=…,hash_block_size=…)
    [RDT-DMV-008] dm-verity parameters: salt is missing (hint: expected root_hash=…,salt=…,data_blocks=…,data_block_size=…,hash_block_size=…)
    [RDT-DMV-009] dm-verity parameters: salt is given twice
    [RDT-DMV-010] dm-verity parameters: "panic=1" is no known key=value (hint: expected root_hash=…,salt=…,data_blocks=…,data_block_size=…,hash_block_size=…)
    [RDT-DMV-011] dm-verity parameters: root_hash = "6e85574d8d41d9a2ffcd5060c67c15c25f9c1453c4db645c9546dcd1546685f" is not 64 hexadecimal digits
    [RDT-DMV-011] dm-verity parameters: root_hash = "6e8 5574d8d41d9a2ffcd5060c67c15c25f9c1453c4db645c9546dcd1546685f" is not 64 hexadecimal digits
    [RDT-DMV-011] dm-verity parameters: salt = "0x11" is not hexadecimal digits
    [RDT-DMV-005] dm-verity salt of 257 bytes is longer than 256
    [RDT-DMV-006] dm-verity device of 0 blocks is empty or too large
    [RDT-DMV-011] dm-verity parameters: data_blocks = "+1" is not a number
    [RDT-DMV-006] dm-verity device of 18446744073709551615 blocks is empty or too large
    [RDT-DMV-004] dm-verity block size 8192 is no power of two from 512 to 4096
    [RDT-DMV-004] dm-verity block size 1000 is no power of two from 512 to 4096
    [RDT-DMV-012] dm-verity parameters of 1025 bytes are longer than 1024
    "#);
}

proptest! {
    #[test]
    fn no_superblock_makes_it_panic(mut bytes in proptest::collection::vec(any::<u8>(), 512), magic: bool) {
        if magic {
            bytes[..8].copy_from_slice(b"verity\0\0");
            bytes[8..16].copy_from_slice(&[1, 0, 0, 0, 1, 0, 0, 0]);
        }
        let _ = Superblock::parse(&bytes);
    }

    #[test]
    fn parameters_survive_being_written(root in any::<[u8; 32]>(), salt in proptest::collection::vec(any::<u8>(), 0..200), blocks in 1_u64..1 << 40) {
        let params = VerityParams::new(root, &salt, blocks, 512, 4096).unwrap();
        prop_assert_eq!(params.to_string().parse::<VerityParams>().unwrap(), params);
    }

    #[test]
    fn no_text_makes_it_panic(text in "((root_hash|salt|data_blocks|data_block_size|hash_block_size)=[0-9a-f]{0,64},?){0,6}") {
        let _ = text.parse::<VerityParams>();
    }
}

#[test]
fn the_length_of_a_device_is_that_of_data_superblock_and_tree() {
    for (blocks, data_bytes, hash_bytes) in [
        (1, 4096, 4096),
        (2, 4096, 4096),
        (128, 4096, 4096),
        (129, 4096, 4096),
        (9, 512, 4096),
        (300, 1024, 512),
        (16 * 16 + 1, 512, 512),
    ] {
        let format = Format::new(
            HashType::SaltFirst,
            Algorithm::Sha256,
            data_bytes,
            hash_bytes,
            b"salt",
        )
        .unwrap();
        let data = vec![7; blocks * data_bytes as usize];
        let mut builder = TreeBuilder::new(format.clone());
        builder.push(&data).unwrap();
        let tree = builder.finish().unwrap();
        let root = tree.root_hash.as_slice().try_into().unwrap();
        let params =
            VerityParams::new(root, b"salt", blocks as u64, data_bytes, hash_bytes).unwrap();
        let mut device = data;
        device.resize(device.len().next_multiple_of(hash_bytes as usize), 0);
        device.extend(
            Superblock::new([0; 16], format, blocks as u64)
                .unwrap()
                .to_block(),
        );
        let tree_at = device.len() as u64;
        assert_eq!(params.tree_block() * u64::from(hash_bytes), tree_at);
        device.extend(tree.bytes);
        assert_eq!(params.device_bytes(), device.len() as u64, "{blocks}");
    }
}
