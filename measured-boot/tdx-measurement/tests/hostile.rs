//! Files that lie are refused by place and field.

#![expect(clippy::unwrap_used, reason = "a helper that fails fails its test")]

use std::io::Read;

use proptest::prelude::*;
use redoubt_errors::UserError;
use redoubt_firmware::{TdxAttributes, TdxSection, TdxSectionKind};
use redoubt_tdx_measurement::{AcpiTables, TdxError, authenticode_sha384, patched_kernel, td_hob};

fn pe_image() -> Vec<u8> {
    let mut text = String::new();
    flate2::read::GzDecoder::new(
        include_bytes!("../testdata/authenticode-vectors.json.gz").as_slice(),
    )
    .read_to_string(&mut text)
    .unwrap();
    let vectors: serde_json::Value = serde_json::from_str(&text).unwrap();
    hex::decode(vectors["cases"][0]["image_hex"].as_str().unwrap()).unwrap()
}

fn tables() -> Vec<u8> {
    let mut tables = Vec::new();
    flate2::read::GzDecoder::new(
        include_bytes!("../testdata/canonical-defaults-acpi_tables.bin.gz").as_slice(),
    )
    .read_to_end(&mut tables)
    .unwrap();
    tables
}

fn patched(bytes: &[u8], at: usize, with: &[u8]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    bytes[at..at + with.len()].copy_from_slice(with);
    bytes
}

#[test]
fn images_that_are_no_programs_are_refused() {
    let image = pe_image();
    let refused = |at: usize, with: &[u8]| match authenticode_sha384(&patched(&image, at, with))
        .unwrap_err()
    {
        TdxError::NoPeImage { offset, field } | TdxError::PeRange { offset, field } => {
            (offset, field)
        }
        other => panic!("{other}"),
    };
    assert_eq!(refused(0, b"ZM"), (0, "DOS signature"));
    assert_eq!(refused(0x3c, &[0xff; 4]), (0x3c, "place of the PE header"));
    assert_eq!(refused(0x80, b"NE"), (0x80, "PE signature"));
    assert_eq!(refused(0x98, &[0]), (0x98, "magic of the optional header"));
    assert_eq!(refused(0x86, &[97, 0]), (0x86, "number of sections"));
    assert_eq!(refused(0xd4, &[0xff; 4]), (0xd4, "size of the headers"));
    assert_eq!(refused(0xd4, &[0; 4]), (0xd4, "size of the headers"));
    // The optional header has 160 bytes; the sections' headers follow at 0x138.
    let section = 0x138;
    assert_eq!(
        refused(section + 16, &[0xff; 4]),
        (section + 16, "contents of a section")
    );
    assert_eq!(
        refused(section + 20, &0x3ff_u32.to_le_bytes()),
        (section + 16, "contents of a section")
    );
    let last = section + 80;
    assert_eq!(
        refused(last + 20, &0x500_u32.to_le_bytes()),
        (last + 20, "contents of a section, which overlap,")
    );
    let signatures = 0x98 + 112 + 4 * 8 + 4;
    assert_eq!(
        refused(signatures, &0x1_0000_u32.to_le_bytes()),
        (signatures, "size of the signatures")
    );
    for len in [0, 1, 0x40, 0x90, 0x100] {
        assert!(authenticode_sha384(&image[..len]).is_err(), "{len}");
    }
}

fn linux() -> Vec<u8> {
    let mut kernel = vec![0; 0x1000];
    kernel[0x1fe..0x200].copy_from_slice(&[0x55, 0xaa]);
    kernel[0x202..0x206].copy_from_slice(b"HdrS");
    kernel[0x206..0x208].copy_from_slice(&0x20f_u16.to_le_bytes());
    kernel[0x211] = 1;
    kernel[0x22c..0x230].copy_from_slice(&0x7fff_ffff_u32.to_le_bytes());
    kernel[0x236] = 0x7f;
    kernel
}

fn word(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap())
}

#[test]
fn the_setup_header_is_filled_as_older_qemu_fills_it() {
    let patched = patched_kernel(&linux(), 0x10_0000, 2048).unwrap();
    assert_eq!(patched[0x210], 0xb0);
    assert_eq!(patched[0x211], 0x81);
    assert_eq!(word(&patched, 0x224), 0xfe00);
    assert_eq!(word(&patched, 0x228), 0x2_0000);
    // 2 GiB less the room for ACPI tables, less one byte, less the initrd, rounded down.
    assert_eq!(word(&patched, 0x218), 0x7fed_7000);
    assert_eq!(word(&patched, 0x21c), 0x10_0000);
    let place = |memory_mib| {
        word(
            &patched_kernel(&linux(), 0x10_0000, memory_mib).unwrap(),
            0x218,
        )
    };
    // From 2816 MiB on, 2 GiB are below 4 GiB.
    assert_eq!(place(2816), place(2048));
    assert_eq!(place(65536), place(2048));
    assert!(place(2815) > place(2048));
    assert!(place(1024) < place(2048));
    let without = patched_kernel(&linux(), 0, 2048).unwrap();
    assert_eq!(word(&without, 0x218), 0);
}

#[test]
fn other_files_than_linux_kernels_are_refused() {
    let refused = |kernel: &[u8]| match patched_kernel(kernel, 1, 2048).unwrap_err() {
        TdxError::NoLinuxKernel { offset, field } => (offset, field),
        other => panic!("{other}"),
    };
    assert_eq!(refused(&linux()[..0x200]), (0x200, "end of the file"));
    assert_eq!(
        refused(&patched(&linux(), 0x1fe, &[0])),
        (0x1fe, "boot flag")
    );
    assert_eq!(
        refused(&patched(&linux(), 0x202, b"hdrs")),
        (0x202, "magic of the setup header")
    );
    assert_eq!(
        refused(&patched(&linux(), 0x206, &[2, 2])),
        (0x206, "version of the boot protocol")
    );
    assert_eq!(
        patched_kernel(&linux(), 1 << 30, 512).unwrap_err(),
        TdxError::InitrdSize {
            size: 1 << 30,
            memory_mib: 512
        }
    );
    for memory_mib in [0, u64::MAX] {
        let error = patched_kernel(&linux(), 1, memory_mib).unwrap_err();
        assert_eq!(error, TdxError::MemorySize { memory_mib });
    }
}

#[test]
fn acpi_tables_that_lie_are_refused() {
    let tables = tables();
    let refused = |tables: Vec<u8>| AcpiTables::from_tables(tables).unwrap_err();
    assert_eq!(refused(Vec::new()), TdxError::AcpiSize { size: 0 });
    assert_eq!(
        refused(vec![0; (4 << 20) + 1]),
        TdxError::AcpiSize {
            size: (4 << 20) + 1
        }
    );
    assert_eq!(
        refused(vec![0; 4096]),
        TdxError::AcpiMissing { signature: "RSDT" }
    );
    for length in [0u32, 9, 131_073, u32::MAX] {
        assert_eq!(
            refused(patched(&tables, 68, &length.to_le_bytes())),
            TdxError::AcpiLength {
                offset: 64,
                signature: "DSDT".to_owned(),
                length
            }
        );
    }
    let unknown = refused(patched(&tables, 8698, b"TPM2"));
    assert_eq!(
        unknown,
        TdxError::AcpiUnknown {
            offset: 8698,
            signature: "TPM2".to_owned()
        }
    );
    assert!(unknown.hint().unwrap().contains("table-loader"));
    assert!(AcpiTables::from_files(vec![1], vec![2], vec![3]).is_ok());
    assert!(AcpiTables::from_files(vec![], vec![2], vec![3]).is_err());
}

#[test]
fn tables_for_another_number_of_vcpus_are_refused() {
    let tables = AcpiTables::from_tables(tables()).unwrap();
    assert_eq!(tables.check_vcpus(4), Ok(()));
    assert_eq!(
        tables.check_vcpus(8),
        Err(TdxError::AcpiVcpus { found: 4, vcpus: 8 })
    );
    let nothing_to_compare = AcpiTables::from_files(vec![1], vec![2], vec![0; 64]).unwrap();
    assert_eq!(nothing_to_compare.check_vcpus(8), Ok(()));
}

fn section(kind: TdxSectionKind, gpa: u64, size: u64) -> TdxSection {
    TdxSection {
        kind,
        data_offset: 0,
        data_size: 0,
        gpa,
        size,
        attributes: TdxAttributes(0),
        descriptor_offset: 0,
    }
}

#[test]
fn hand_off_blocks_that_cannot_be_are_refused() {
    let hob = section(TdxSectionKind::TdHob, 0x80_9000, 0x2000);
    let temporary = section(TdxSectionKind::TempMem, 0x81_0000, 0x1000);
    assert_eq!(
        td_hob(&[temporary], 2048),
        Err(TdxError::SectionCount {
            kind: "TD HOB",
            count: 0
        })
    );
    assert_eq!(
        td_hob(&[hob, hob], 2048),
        Err(TdxError::SectionCount {
            kind: "TD HOB",
            count: 2
        })
    );
    assert_eq!(
        td_hob(&[hob, temporary], 8),
        Err(TdxError::SectionOutsideMemory {
            gpa: 0x80_9000,
            memory_mib: 8
        })
    );
    for memory_mib in [0, (64 << 20) + 1, u64::MAX] {
        assert_eq!(
            td_hob(&[hob], memory_mib),
            Err(TdxError::MemorySize { memory_mib })
        );
    }
    let many: Vec<_> = (0..60)
        .map(|index| section(TdxSectionKind::TempMem, 0x100_0000 + index * 0x2000, 0x1000))
        .chain([section(TdxSectionKind::TdHob, 0x80_9000, 0x1000)])
        .collect();
    assert!(matches!(
        td_hob(&many, 2048),
        Err(TdxError::HobTooLarge { size: 0x1000, .. })
    ));
}

proptest! {
    #[test]
    fn damaged_programs_never_panic(edits in proptest::collection::vec((0usize..0x200, any::<u8>()), 1..10)) {
        let mut image = pe_image();
        for (at, byte) in edits {
            image[at] = byte;
        }
        let _ = authenticode_sha384(&image);
    }

    #[test]
    fn damaged_tables_never_panic(edits in proptest::collection::vec((8400usize..9000, any::<u8>()), 1..10)) {
        let mut tables = tables();
        for (at, byte) in edits {
            tables[at] = byte;
        }
        let _ = AcpiTables::from_tables(tables);
    }

    #[test]
    fn every_shape_has_a_hand_off_block_that_covers_its_memory(memory_mib in 16u64..1_000_000) {
        let sections = [
            section(TdxSectionKind::TempMem, 0x81_0000, 0x1_0000),
            section(TdxSectionKind::TdHob, 0x80_9000, 0x2000),
        ];
        let list = td_hob(&sections, memory_mib).unwrap();
        let total: u64 = list[56..]
            .chunks_exact(48)
            .map(|resource| u64::from_le_bytes(resource[40..48].try_into().unwrap()))
            .sum();
        prop_assert_eq!(total, memory_mib << 20);
    }
}
