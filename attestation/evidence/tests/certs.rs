//! Certificate tables: those a host should write, and those it should not.

use proptest::prelude::*;
use redoubt_evidence::{CertKind, CertTable, EvidenceError, Guid, MAX_CERT_BYTES, MAX_TABLE_BYTES};

const KINDS: [CertKind; 5] = [
    CertKind::Ark,
    CertKind::Ask,
    CertKind::Vcek,
    CertKind::Vlek,
    CertKind::Crl,
];

/// An entry by hand: GUID, offset, length.
fn entry(guid: Guid, offset: u32, length: u32) -> Vec<u8> {
    [
        guid.0.as_slice(),
        &offset.to_le_bytes(),
        &length.to_le_bytes(),
    ]
    .concat()
}

/// A table by hand: entries, an end, and bytes behind.
fn table(entries: &[(CertKind, u32, u32)], behind: usize) -> Vec<u8> {
    let mut bytes: Vec<u8> = entries
        .iter()
        .flat_map(|(kind, offset, length)| entry(kind.guid(), *offset, *length))
        .collect();
    bytes.extend([0; 24]);
    bytes.resize(bytes.len() + behind, 0xAB);
    bytes
}

#[test]
fn guids_are_those_of_the_specification_in_the_order_of_their_text() {
    let texts = KINDS.map(|kind| kind.guid().to_string());
    assert_eq!(
        texts,
        [
            "c0b406a4-a803-4952-9743-3fb6014cd0ae",
            "4ab7b379-bbac-4fe4-a02f-05aef327c782",
            "63da758d-e664-4564-adc5-f4b93be8accd",
            "a8074bc2-a25a-483e-aae6-39c045a0b8a1",
            "92f81bc3-5811-4d3d-97ff-d19f88dc67ea",
        ]
    );
    assert_eq!(CertKind::Vcek.guid().0[..4], [0x63, 0xda, 0x75, 0x8d]);
}

#[test]
fn an_absent_or_zeroed_table_is_empty() {
    assert!(CertTable::parse(&[]).unwrap().is_empty());
    assert!(CertTable::parse(&[0; 24]).unwrap().is_empty());
    assert!(CertTable::parse(&[0; 0x4000]).unwrap().is_empty());
}

#[test]
fn entries_are_found_wherever_they_lie() {
    // The second entry's bytes come first, with a gap between, and padding behind.
    let bytes = table(&[(CertKind::Vcek, 90, 5), (CertKind::Ask, 72, 10)], 100);
    let table = CertTable::parse(&bytes).unwrap();
    assert_eq!(table.get(CertKind::Vcek), Some(&bytes[90..95]));
    assert_eq!(table.get(CertKind::Ask), Some(&bytes[72..82]));
    assert_eq!(table.get(CertKind::Ark), None);
}

#[test]
fn unknown_entries_are_kept() {
    let other = CertKind::Other(Guid([7; 16]));
    let bytes = table(&[(other, 48, 3)], 3);
    assert_eq!(
        CertTable::parse(&bytes).unwrap().get(other),
        Some([0xAB; 3].as_slice())
    );
}

#[test]
fn entries_outside_of_the_table_are_refused() {
    for (offset, length) in [
        (48, 17),
        (64, 1),
        (u32::MAX, 1),
        (48, u32::MAX),
        (u32::MAX, u32::MAX),
        // Inside the headers.
        (0, 4),
        (47, 4),
    ] {
        let bytes = table(&[(CertKind::Vcek, offset, length)], 16);
        assert!(
            matches!(
                CertTable::parse(&bytes),
                Err(EvidenceError::TableEntryOutside { index: 0, .. })
            ),
            "{offset} {length}"
        );
    }
}

#[test]
fn overlapping_entries_are_refused() {
    let cases = [
        [(CertKind::Vcek, 72, 10), (CertKind::Ask, 81, 5)],
        [(CertKind::Vcek, 72, 10), (CertKind::Ask, 72, 10)],
        [(CertKind::Vcek, 75, 2), (CertKind::Ask, 72, 10)],
    ];
    for case in cases {
        assert!(matches!(
            CertTable::parse(&table(&case, 40)),
            Err(EvidenceError::TableOverlap { .. })
        ));
    }
    let touching = table(&[(CertKind::Vcek, 72, 10), (CertKind::Ask, 82, 5)], 40);
    assert!(CertTable::parse(&touching).is_ok());
}

#[test]
fn two_entries_of_one_kind_are_refused() {
    let bytes = table(&[(CertKind::Vcek, 72, 4), (CertKind::Vcek, 76, 4)], 8);
    assert!(matches!(
        CertTable::parse(&bytes),
        Err(EvidenceError::DuplicateCertificate(CertKind::Vcek))
    ));
}

#[test]
fn tables_without_an_end_are_refused() {
    let endless = entry(CertKind::Vcek.guid(), 24, 1);
    assert!(matches!(
        CertTable::parse(&endless),
        Err(EvidenceError::TableUnterminated { .. })
    ));
    assert!(matches!(
        CertTable::parse(&[1; 23]),
        Err(EvidenceError::TableUnterminated { .. })
    ));
    let many: Vec<u8> = (0..17)
        .flat_map(|n| entry(Guid([n + 1; 16]), 500, 1))
        .collect();
    let many = [many, vec![0; 200]].concat();
    assert!(matches!(
        CertTable::parse(&many),
        Err(EvidenceError::TableUnterminated { limit: 16 })
    ));
}

#[test]
fn sizes_are_bounded() {
    assert!(matches!(
        CertTable::parse(&vec![0; MAX_TABLE_BYTES + 1]),
        Err(EvidenceError::TableSize { .. })
    ));
    let mut table = CertTable::default();
    for bytes in [0, MAX_CERT_BYTES + 1] {
        assert!(matches!(
            table.insert(CertKind::Vcek, vec![1; bytes]),
            Err(EvidenceError::CertificateSize { actual, .. }) if actual == bytes
        ));
    }
    table
        .insert(CertKind::Vcek, vec![1; MAX_CERT_BYTES])
        .unwrap();
    table
        .insert(CertKind::Ask, vec![1; MAX_CERT_BYTES])
        .unwrap();
    assert!(matches!(
        table.build(),
        Err(EvidenceError::TableSize { .. })
    ));
    let empty_entry = self::table(&[(CertKind::Vcek, 48, 0)], 0);
    assert!(matches!(
        CertTable::parse(&empty_entry),
        Err(EvidenceError::CertificateSize { actual: 0, .. })
    ));
}

proptest! {
    #[test]
    fn what_is_built_is_read_again(
        certs in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 1..2000), 0..5)
    ) {
        let mut table = CertTable::default();
        for (kind, cert) in KINDS.into_iter().zip(certs) {
            table.insert(kind, cert).unwrap();
        }
        let bytes = table.build().unwrap();
        prop_assert_eq!(CertTable::parse(&bytes).unwrap(), table.clone());
        // The driver's buffer is longer than the table.
        let padded = [bytes, vec![0; 500]].concat();
        prop_assert_eq!(CertTable::parse(&padded).unwrap(), table);
    }

    #[test]
    fn any_bytes_are_a_table_or_an_error(
        bytes in proptest::collection::vec(any::<u8>(), 0..600)
    ) {
        let _ = CertTable::parse(&bytes);
    }

    #[test]
    fn any_entries_are_a_table_or_an_error(
        entries in proptest::collection::vec((0_u8..6, 0_u32..300, 0_u32..300), 0..6)
    ) {
        let entries: Vec<(CertKind, u32, u32)> = entries
            .into_iter()
            .map(|(kind, offset, length)| {
                let kind = KINDS.get(usize::from(kind)).copied();
                (kind.unwrap_or(CertKind::Other(Guid([9; 16]))), offset, length)
            })
            .collect();
        let bytes = table(&entries, 200);
        if let Ok(table) = CertTable::parse(&bytes) {
            prop_assert_eq!(table.entries().len(), entries.len());
            for (kind, offset, length) in entries {
                let (start, length) = (offset as usize, length as usize);
                prop_assert_eq!(table.get(kind), Some(&bytes[start..start + length]));
            }
        }
    }
}
