//! Real images are read, and every kind of lie in them is refused by name.

#![expect(clippy::unwrap_used, reason = "a helper that fails fails its test")]

use std::io::Read;
use std::path::Path;

use proptest::prelude::*;
use redoubt_errors::OneLine;
use redoubt_firmware::{
    EdkRelease, Firmware, FirmwareError, FirmwareKind, GuestArea, Guid, SevSectionKind,
    TdxSectionKind,
};

const AMDSEV: &[u8] = include_bytes!("../testdata/ovmf_AmdSev_suffix.bin");
const GENERIC: &[u8] = include_bytes!("../testdata/ovmf_OvmfX64_suffix.bin");
const INTEL_TDX: &[u8] = include_bytes!("../testdata/ovmf_IntelTdx_suffix.bin");
const UBUNTU: &[u8] =
    include_bytes!("../../measured-boot/launch-digest/testdata/OVMF-ubuntu-2025.02-3ubuntu2.fd.gz");

fn ubuntu() -> Vec<u8> {
    let mut image = Vec::new();
    flate2::read::GzDecoder::new(UBUNTU)
        .read_to_end(&mut image)
        .unwrap();
    image
}

/// Offset in the test images of the entry data with this GUID.
fn data_of(image: &[u8], guid: Guid) -> usize {
    Firmware::parse(image)
        .unwrap()
        .footer()
        .get(guid)
        .unwrap()
        .offset
}

/// Offset in the test images of the SEV metadata.
fn metadata_of(image: &[u8]) -> usize {
    image
        .windows(4)
        .position(|window| window == b"ASEV")
        .unwrap()
}

/// Offset in the test images of the TDX metadata.
fn tdx_metadata_of(image: &[u8]) -> usize {
    image
        .windows(4)
        .position(|window| window == b"TDVF")
        .unwrap()
}

fn patched(image: &[u8], at: usize, bytes: &[u8]) -> Vec<u8> {
    let mut image = image.to_vec();
    image[at..at + bytes.len()].copy_from_slice(bytes);
    image
}

#[test]
fn an_amdsev_image_names_its_hash_area_sections_and_reset_vector() {
    let firmware = Firmware::parse(AMDSEV).unwrap();
    assert_eq!(firmware.kind(), FirmwareKind::AmdSev);
    let area = GuestArea {
        gpa: 0x0081_0c00,
        size: 0x400,
    };
    assert_eq!(firmware.kernel_hash_area(), Some(area));
    assert_eq!(
        firmware.require_kernel_hashes(Path::new("/f.fd")).unwrap(),
        area
    );
    assert_eq!(
        firmware.secret_area(),
        Some(GuestArea {
            gpa: 0x0081_0000,
            size: 0xc00
        })
    );
    assert_eq!(firmware.sev_es_reset_eip(), Some(0x0080_b004));
    let sections: Vec<_> = firmware
        .sev_sections()
        .iter()
        .map(|s| (s.gpa, s.size, s.kind))
        .collect();
    assert_eq!(
        sections,
        [
            (0x80_0000, 0x9000, SevSectionKind::SecMem),
            (0x80_a000, 0x3000, SevSectionKind::SecMem),
            (0x80_d000, 0x1000, SevSectionKind::Secrets),
            (0x80_e000, 0x1000, SevSectionKind::Cpuid),
            (0x80_f000, 0x1000, SevSectionKind::SvsmCaa),
            (0x81_0000, 0x1000, SevSectionKind::KernelHashes),
            (0x81_1000, 0xf000, SevSectionKind::SecMem),
        ]
    );
    assert!(firmware.has_tdx_metadata());
    assert!(
        firmware
            .capabilities()
            .iter()
            .all(|capability| capability.present)
    );
}

#[test]
fn a_generic_image_is_refused_by_path_when_kernel_hashes_are_needed() {
    let firmware = Firmware::parse(GENERIC).unwrap();
    assert_eq!(firmware.kind(), FirmwareKind::Generic);
    assert_eq!(firmware.kernel_hash_area(), None);
    let error = firmware
        .require_kernel_hashes(Path::new("/usr/share/OVMF.fd"))
        .unwrap_err();
    assert_eq!(
        OneLine(&error).to_string(),
        "[RDT-FW-004] firmware \"/usr/share/OVMF.fd\" has no kernel-hash section: it would boot \
         any kernel, initrd and command line (hint: use an AmdSev build of OVMF, such as \
         /usr/share/ovmf/OVMF.amdsev.fd of the package ovmf-amdsev)"
    );
}

#[test]
fn an_image_of_a_wrong_size_is_refused() {
    assert_eq!(
        Firmware::parse(&[]),
        Err(FirmwareError::TooSmall { size: 0 })
    );
    assert_eq!(
        Firmware::parse(&AMDSEV[..4095]),
        Err(FirmwareError::TooSmall { size: 4095 })
    );
    assert_eq!(
        Firmware::parse(&[AMDSEV, &[0]].concat()),
        Err(FirmwareError::NotWholePages { size: 4097 })
    );
    assert_eq!(
        Firmware::parse(&vec![0; (16 << 20) + 1]),
        Err(FirmwareError::TooLarge {
            size: (16 << 20) + 1
        })
    );
    assert_eq!(
        Firmware::parse(&[0; 4096]),
        Err(FirmwareError::NoFooter { offset: 4048 })
    );
}

#[test]
fn lying_lengths_in_the_footer_table_are_refused() {
    let table_length_at = 4096 - 50;
    for length in [0u16, 17, 4096, u16::MAX] {
        let image = patched(AMDSEV, table_length_at, &length.to_le_bytes());
        assert_eq!(
            Firmware::parse(&image),
            Err(FirmwareError::TableLength {
                offset: table_length_at,
                length
            })
        );
    }
    let first_entry_length_at = table_length_at - 18;
    for length in [0u16, 17, 500] {
        let image = patched(AMDSEV, first_entry_length_at, &length.to_le_bytes());
        assert!(matches!(
            Firmware::parse(&image),
            Err(FirmwareError::EntryLength { offset, length: found, .. })
                if offset == first_entry_length_at && found == length
        ));
    }
    let image = patched(AMDSEV, table_length_at, &(18u16 + 7).to_le_bytes());
    assert!(matches!(
        Firmware::parse(&image),
        Err(FirmwareError::EntryLength { remaining: 7, .. })
    ));
}

#[test]
fn an_entry_that_appears_twice_is_refused() {
    let secret_guid_at = data_of(AMDSEV, Guid::SEV_SECRET) + 8 + 2;
    let image = patched(AMDSEV, secret_guid_at, &Guid::SEV_HASH_TABLE.0);
    assert!(matches!(
        Firmware::parse(&image),
        Err(FirmwareError::DuplicateEntry {
            guid: Guid::SEV_HASH_TABLE,
            ..
        })
    ));
}

#[test]
fn an_entry_of_the_wrong_length_is_refused() {
    // The secret's entry has 8 bytes where the reset block has 4.
    let secret_guid_at = data_of(AMDSEV, Guid::SEV_SECRET) + 8 + 2;
    let reset_guid_at = data_of(AMDSEV, Guid::SEV_ES_RESET) + 4 + 2;
    let image = patched(AMDSEV, reset_guid_at, &[0; 16]);
    let image = patched(&image, secret_guid_at, &Guid::SEV_ES_RESET.0);
    assert!(matches!(
        Firmware::parse(&image),
        Err(FirmwareError::EntryData {
            expected: 4,
            actual: 8,
            ..
        })
    ));
}

#[test]
fn metadata_that_is_misplaced_or_mislabelled_is_refused() {
    let pointer_at = data_of(AMDSEV, Guid::SEV_METADATA);
    for distance in [0u32, 15, 4097, u32::MAX] {
        let image = patched(AMDSEV, pointer_at, &distance.to_le_bytes());
        assert_eq!(
            Firmware::parse(&image),
            Err(FirmwareError::MetadataPlace {
                offset: pointer_at,
                distance
            })
        );
    }
    let start = metadata_of(AMDSEV);
    assert_eq!(
        Firmware::parse(&patched(AMDSEV, start, b"asev")),
        Err(FirmwareError::MetadataSignature { offset: start })
    );
    assert_eq!(
        Firmware::parse(&patched(AMDSEV, start + 8, &2u32.to_le_bytes())),
        Err(FirmwareError::MetadataVersion {
            offset: start + 8,
            version: 2
        })
    );
    for count in [6u32, 8, 0x1555_5556, u32::MAX] {
        assert!(matches!(
            Firmware::parse(&patched(AMDSEV, start + 12, &count.to_le_bytes())),
            Err(FirmwareError::MetadataLength { .. })
        ));
    }
}

#[test]
fn sections_that_overlap_or_leave_memory_are_refused() {
    let first = metadata_of(AMDSEV) + 16;
    assert!(matches!(
        Firmware::parse(&patched(AMDSEV, first, &0x80_0001u32.to_le_bytes())),
        Err(FirmwareError::SectionAlignment {
            field: "address",
            ..
        })
    ));
    assert!(matches!(
        Firmware::parse(&patched(AMDSEV, first + 4, &0x801u32.to_le_bytes())),
        Err(FirmwareError::SectionAlignment {
            field: "length",
            ..
        })
    ));
    assert!(matches!(
        Firmware::parse(&patched(AMDSEV, first + 4, &0u32.to_le_bytes())),
        Err(FirmwareError::SectionRange { length: 0, .. })
    ));
    assert!(matches!(
        Firmware::parse(&patched(AMDSEV, first, &0xffff_f000u32.to_le_bytes())),
        Err(FirmwareError::SectionRange { .. })
    ));
    let second = first + 12;
    assert_eq!(
        Firmware::parse(&patched(AMDSEV, second, &0x80_8000u32.to_le_bytes())),
        Err(FirmwareError::SectionOverlap {
            offset: second,
            gpa: 0x80_8000
        })
    );
}

#[test]
fn a_hash_area_outside_its_section_is_refused() {
    let at = data_of(AMDSEV, Guid::SEV_HASH_TABLE);
    for gpa in [0x80_dc00u32, 0x81_0c01, 0x81_1000] {
        assert_eq!(
            Firmware::parse(&patched(AMDSEV, at, &gpa.to_le_bytes())),
            Err(FirmwareError::HashAreaPlace {
                offset: at,
                gpa,
                size: 0x400
            })
        );
    }
}

#[test]
fn a_whole_image_names_its_tdx_sections_and_version() {
    let image = ubuntu();
    let firmware = Firmware::parse(&image).unwrap();
    assert_eq!(firmware.kind(), FirmwareKind::Generic);
    let sections: Vec<_> = firmware
        .require_tdx_sections()
        .unwrap()
        .iter()
        .map(|s| (s.gpa, s.size, s.kind, s.attributes.0))
        .collect();
    assert_eq!(
        sections,
        [
            (0xffc8_4000, 0x37_c000, TdxSectionKind::Bfv, 1),
            (0xffc0_0000, 0x8_4000, TdxSectionKind::Cfv, 0),
            (0x81_1000, 0xf000, TdxSectionKind::TempMem, 0),
            (0x80_b000, 0x2000, TdxSectionKind::TempMem, 0),
            (0x80_9000, 0x2000, TdxSectionKind::TdHob, 0),
            (0x80_0000, 0x6000, TdxSectionKind::TempMem, 0),
        ]
    );
    let bfv = &firmware.tdx_sections()[0];
    assert!(bfv.attributes.measured() && !bfv.attributes.added_at_run_time());
    assert_eq!(firmware.tdx_section_data(bfv).unwrap(), &image[0x8_4000..]);
    let version = firmware.version();
    assert_eq!(version.version.as_deref(), Some("2025.02-3ubuntu2"));
    assert_eq!(
        version.vendor.as_deref(),
        Some("Ubuntu distribution of EDK II")
    );
    let release = EdkRelease {
        year: 2025,
        month: 2,
    };
    assert_eq!(version.release(), Some(release));
}

#[test]
fn a_build_for_tdx_alone_lists_sev_memory_that_it_does_not_have() {
    let firmware = Firmware::parse(INTEL_TDX).unwrap();
    assert_eq!(firmware.kind(), FirmwareKind::Tdvf);
    assert_eq!(firmware.tdx_sections().len(), 6);
    // The entries for a service module and for the memory above are zero.
    let kinds: Vec<_> = firmware.sev_sections().iter().map(|s| s.kind).collect();
    assert_eq!(
        kinds,
        [
            SevSectionKind::SecMem,
            SevSectionKind::SecMem,
            SevSectionKind::Secrets,
            SevSectionKind::Cpuid
        ]
    );
    let present: Vec<_> = firmware
        .capabilities()
        .into_iter()
        .filter(|capability| capability.present)
        .map(|capability| capability.name)
        .collect();
    assert_eq!(present, ["multiple-vcpus", "tdx"]);
    // A length without an address, or the other way round, is no such entry.
    let empty = metadata_of(INTEL_TDX) + 16 + 5 * 12;
    for (at, value) in [(0, 0x81_0000u32), (4, 0x1000)] {
        let image = patched(INTEL_TDX, empty + at, &value.to_le_bytes());
        assert_eq!(Firmware::parse(&image).is_ok(), at == 4, "{at}");
    }
}

#[test]
fn an_image_without_sev_metadata_is_a_tdvf() {
    let image = ubuntu();
    // Renames the entry that points to the SEV metadata.
    let guid_at = data_of(&image, Guid::SEV_METADATA) + 4 + 2;
    let hash_guid_at = data_of(&image, Guid::SEV_HASH_TABLE) + 8 + 2;
    let image = patched(&image, guid_at, &[1; 16]);
    let image = patched(&image, hash_guid_at, &[2; 16]);
    let firmware = Firmware::parse(&image).unwrap();
    assert_eq!(firmware.kind(), FirmwareKind::Tdvf);
    let missing: Vec<_> = firmware
        .capabilities()
        .into_iter()
        .filter(|capability| !capability.present)
        .map(|capability| capability.name)
        .collect();
    assert_eq!(missing, ["kernel-hashes", "sev-snp", "sev-secret", "svsm"]);
}

#[test]
fn data_outside_a_cut_image_is_refused_where_it_is_used() {
    let firmware = Firmware::parse(GENERIC).unwrap();
    let bfv = &firmware.tdx_sections()[0];
    assert_eq!(
        firmware.tdx_section_data(bfv),
        Err(FirmwareError::TdxDataRange {
            offset: bfv.descriptor_offset,
            place: 0x8_4000,
            data: 0x37_c000,
            size: 4096
        })
    );
    let no_tdx = patched(GENERIC, data_of(GENERIC, Guid::TDX_METADATA) + 6, &[3; 16]);
    let error = Firmware::parse(&no_tdx)
        .unwrap()
        .require_tdx_sections()
        .unwrap_err();
    assert_eq!(error, FirmwareError::NoTdxMetadata);
}

#[test]
fn tdx_metadata_that_is_misplaced_or_mislabelled_is_refused() {
    let pointer_at = data_of(GENERIC, Guid::TDX_METADATA);
    for distance in [0u32, 15, 4097, u32::MAX] {
        assert_eq!(
            Firmware::parse(&patched(GENERIC, pointer_at, &distance.to_le_bytes())),
            Err(FirmwareError::TdxMetadataPlace {
                offset: pointer_at,
                distance
            })
        );
    }
    let start = tdx_metadata_of(GENERIC);
    assert_eq!(
        Firmware::parse(&patched(GENERIC, start, b"tdvf")),
        Err(FirmwareError::TdxMetadataSignature { offset: start })
    );
    assert_eq!(
        Firmware::parse(&patched(GENERIC, start + 8, &2u32.to_le_bytes())),
        Err(FirmwareError::TdxMetadataVersion {
            offset: start + 8,
            version: 2
        })
    );
    for count in [0u32, 5, 7, 65, 0x0800_0000, u32::MAX] {
        assert!(matches!(
            Firmware::parse(&patched(GENERIC, start + 12, &count.to_le_bytes())),
            Err(FirmwareError::TdxMetadataLength { count: found, .. }) if found == count
        ));
    }
}

#[test]
fn tdx_sections_that_lie_are_refused_with_the_field() {
    let first = tdx_metadata_of(GENERIC) + 16;
    let with = |at: usize, value: u64, len: usize| {
        Firmware::parse(&patched(GENERIC, first + at, &value.to_le_bytes()[..len])).unwrap_err()
    };
    assert_eq!(
        with(8, 0xffc8_4001, 8),
        FirmwareError::TdxSectionAlignment {
            offset: first + 8,
            field: "address",
            value: 0xffc8_4001
        }
    );
    assert_eq!(
        with(16, 0x37_c800, 8),
        FirmwareError::TdxSectionAlignment {
            offset: first + 16,
            field: "length",
            value: 0x37_c800
        }
    );
    for (gpa, length) in [(0xffc8_4000, 0), (0xffff_ffff_ffff_f000, 0x37_c000)] {
        let image = patched(GENERIC, first + 8, &u64::to_le_bytes(gpa));
        let image = patched(&image, first + 16, &u64::to_le_bytes(length));
        assert_eq!(
            Firmware::parse(&image).unwrap_err(),
            FirmwareError::TdxSectionRange {
                offset: first,
                gpa,
                length
            }
        );
    }
    assert_eq!(
        with(4, 0x37_c001, 4),
        FirmwareError::TdxDataSize {
            offset: first + 4,
            data: 0x37_c001,
            length: 0x37_c000
        }
    );
    assert_eq!(
        with(16, 64 << 20, 8),
        FirmwareError::TdxSectionsTooLarge {
            offset: first,
            length: 64 << 20
        }
    );
    let second = first + 32;
    assert_eq!(
        with(32 + 8, 0xffc8_4000, 8),
        FirmwareError::TdxSectionOverlap {
            offset: second,
            gpa: 0xffc8_4000,
            other: 0xffc8_4000
        }
    );
}

proptest! {
    #[test]
    fn damaged_volumes_never_panic(edits in proptest::collection::vec((0usize..0x200, any::<u8>()), 1..8)) {
        // A volume with a file and a GUID-defined section, as EDK II writes them.
        let mut image = ubuntu()[0x8_4000..0x8_5000].to_vec();
        image.extend_from_slice(GENERIC);
        for (at, byte) in edits {
            image[at] = byte;
        }
        if let Ok(firmware) = Firmware::parse(&image) {
            let _ = firmware.version();
        }
    }

    #[test]
    fn damaged_images_never_panic(edits in proptest::collection::vec((2600usize..4096, any::<u8>()), 1..12)) {
        let mut image = AMDSEV.to_vec();
        for (at, byte) in edits {
            image[at] = byte;
        }
        if let Ok(firmware) = Firmware::parse(&image) {
            prop_assert!(firmware.sev_sections().iter().all(|s| s.end() <= 1 << 32));
        }
    }

    #[test]
    fn arbitrary_pages_with_a_footer_never_panic(mut page in proptest::collection::vec(any::<u8>(), 4096), length in 0u16..300) {
        page[4048..4064].copy_from_slice(&Guid::FOOTER.0);
        page[4046..4048].copy_from_slice(&length.to_le_bytes());
        let _ = Firmware::parse(&page);
    }
}
