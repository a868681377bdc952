//! Real reports, field by field, and bytes that are no report.

use proptest::prelude::*;
use redoubt_evidence::{
    CpuId, EvidenceError, GuestPolicy, KeyInfo, PlatformInfo, Product, REPORT_BYTES, RawReport,
    ReportVersion, SigningKey, SnpReport, TcbLayout, TcbVersion, show,
};

const MILAN_V2: &[u8] = include_bytes!("../testdata/trustee-test-report.bin");
const MILAN_VLEK: &[u8] = include_bytes!("../testdata/trustee-test-vlek-report.bin");
const GENOA_V5: &[u8] = include_bytes!("../testdata/attestation-rs-live-report-v5-genoa.bin");

#[test]
fn a_version_2_report_is_read() {
    let report = SnpReport::parse(MILAN_V2).unwrap();
    assert_eq!(report.version(), ReportVersion::V2);
    assert_eq!(report.cpuid(), None);
    assert_eq!(report.product(), None);
    assert_eq!(report.policy().abi_minor(), 31);
    assert!(report.policy().smt_allowed());
    assert!(!report.policy().debug_allowed());
    assert_eq!(report.guest_svn(), 4);
    let tcb = TcbVersion {
        fmc: None,
        bootloader: 3,
        tee: 0,
        snp: 8,
        microcode: 115,
    };
    assert_eq!(report.reported_tcb(), tcb);
    assert_eq!(
        report.current_tcb(),
        TcbVersion {
            microcode: 206,
            ..tcb
        }
    );
    assert_eq!(report.current_version().to_string(), "1.52.4");
    assert_eq!(report.mitigations(), None);
    assert_eq!(report.as_bytes(), MILAN_V2);
}

#[test]
fn a_vlek_report_says_so() {
    let report = SnpReport::parse(MILAN_VLEK).unwrap();
    assert_eq!(report.key_info().signing_key(), SigningKey::Vlek);
    assert_eq!(report.vmpl(), 1);
    assert_eq!(report.chip_id(), &[0; 64]);
    assert_eq!(report.product(), Some(Product::Milan));
    assert!(report.platform_info().tsme_enabled());
}

#[test]
fn a_version_5_report_reads_well() {
    let report = SnpReport::parse(GENOA_V5).unwrap();
    insta::assert_snapshot!(show(&report), @r"
    version                5
    product                Genoa (family 0x19, model 0xa0, stepping 2)
    vmpl                   0
    launch digest          d9912ba396ce409c2947841d93a5076b6839b898c22b4aae05edb3b2b058a99927f8cf9a4f8617ee695deb14795496c8
    host data              0000000000000000000000000000000000000000000000000000000000000000
    report data            68656c6c6f2d6174746573746174696f6e0000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000
    guest policy           0x30000: ABI at least 0.0, SMT allowed, migration agent not allowed, debug not allowed, single socket not required, CXL not allowed, AES-256-XTS not required, RAPL off not required, ciphertext hiding not required, page swap allowed
    platform info          0x25: SMT on, TSME off, ECC on, RAPL on, ciphertext hiding off, alias check complete, trusted I/O off
    guest svn              0
    family id              00000000000000000000000000000000
    image id               00000000000000000000000000000000
    id key digest          none
    author key digest      none
    report id              7361aad95cf77168e008a7bf382dfa8cf4e22c914e63666e89dfe794e74087f5
    migration agent id     none
    chip id                b5f9a4c8280e63c97d288db6648577dc2b848884aa682d7a227ba40e50deb2b0d112b599d87aaccda78d06f4254b1e81c4d953ef3c699db39d4e06013e9fa4ce
    reported tcb           bootloader 10, tee 0, snp 27, microcode 27
    current tcb            bootloader 10, tee 0, snp 27, microcode 27
    committed tcb          bootloader 10, tee 0, snp 27, microcode 27
    launch tcb             bootloader 10, tee 0, snp 27, microcode 27
    current firmware       1.55.49
    committed firmware     1.55.49
    launch mitigations     0xb
    current mitigations    0xb
    signing key            VCEK
    signature algorithm    ECDSA P-384 with SHA-384
    signature r            aa5bd42ecef076a4501bada2fb798f76721461940a192a04d51ba1498d4e6b68b8b11f8f2f60e5bd8580d0b3461b2d04
    signature s            e590fc8faad9ee72d377d4718ed05263f3e9b275f5accb74f8e29c073d4e314d78a69341e028e06821a56dcbc4f838ea

    not verified: these are the report's own words
    ");
}

#[test]
fn only_1184_bytes_of_a_known_version_are_a_report() {
    for length in [0, 1, 1183, 1185, 4000] {
        let mut bytes = GENOA_V5.to_vec();
        bytes.resize(length, 0);
        assert!(matches!(
            SnpReport::parse(&bytes),
            Err(EvidenceError::ReportSize { actual }) if actual == length
        ));
    }
    for version in [0_u32, 1, 4, 6, 0x0100_0002, u32::MAX] {
        let mut bytes = GENOA_V5.to_vec();
        bytes[..4].copy_from_slice(&version.to_le_bytes());
        assert!(matches!(
            SnpReport::parse(&bytes),
            Err(EvidenceError::ReportVersion(seen)) if seen == version
        ));
    }
}

#[test]
fn every_policy_bit_has_its_accessor() {
    let set = |bit: u32| GuestPolicy(1 << bit);
    assert!(set(16).smt_allowed());
    assert!(set(17).reserved_one());
    assert!(set(18).migration_agent_allowed());
    assert!(set(19).debug_allowed());
    assert!(set(20).single_socket_required());
    assert!(set(21).cxl_allowed());
    assert!(set(22).aes_256_xts_required());
    assert!(set(23).rapl_must_be_disabled());
    assert!(set(24).ciphertext_hiding_required());
    assert!(set(25).page_swap_disabled());
    assert_eq!(set(26).unknown_bits(), 1 << 26);
    assert_eq!(GuestPolicy(0x0003_1234).abi_major(), 0x12);
    assert_eq!(GuestPolicy(0x0003_1234).abi_minor(), 0x34);
    assert_eq!(GuestPolicy(0x03FF_FFFF).unknown_bits(), 0);
    assert_eq!(GuestPolicy::RELEASE.0, 0x30000);
}

#[test]
fn every_platform_and_key_bit_has_its_accessor() {
    let set = |bit: u32| PlatformInfo(1 << bit);
    assert!(set(0).smt_enabled());
    assert!(set(1).tsme_enabled());
    assert!(set(2).ecc_enabled());
    assert!(set(3).rapl_disabled());
    assert!(set(4).ciphertext_hiding_enabled());
    assert!(set(5).alias_check_complete());
    assert!(set(7).tio_enabled());
    assert_eq!(PlatformInfo(u64::MAX).unknown_bits(), u64::MAX - 0xBF);
    assert!(KeyInfo(1).author_key_enabled());
    assert!(KeyInfo(2).chip_key_masked());
    let keys = [0, 4, 8, 28].map(|bits| KeyInfo(bits).signing_key());
    let expected = [
        SigningKey::Vcek,
        SigningKey::Vlek,
        SigningKey::Reserved(2),
        SigningKey::None,
    ];
    assert_eq!(keys, expected);
    assert_eq!(KeyInfo(0x3F).unknown_bits(), 0x20);
}

#[test]
fn products_follow_from_family_and_model() {
    let product = |family, model| {
        Product::from_cpuid(CpuId {
            family,
            model,
            stepping: 0,
        })
    };
    assert_eq!(product(0x19, 0x01), Some(Product::Milan));
    assert_eq!(product(0x19, 0x11), Some(Product::Genoa));
    assert_eq!(product(0x19, 0xA0), Some(Product::Genoa));
    assert_eq!(product(0x19, 0xAF), Some(Product::Genoa));
    assert_eq!(product(0x19, 0x20), None);
    assert_eq!(product(0x1A, 0x02), Some(Product::Turin));
    assert_eq!(product(0x1A, 0x11), Some(Product::Turin));
    assert_eq!(product(0x17, 0x31), None);
    let named = Product::from_certificate_name;
    assert_eq!(named("Milan-B0"), Some(Product::Milan));
    assert_eq!(named("Turin"), Some(Product::Turin));
    assert_eq!(named("Milano"), None);
    assert_eq!(named(""), None);
}

#[test]
fn both_byte_orders_of_a_tcb_are_kept() {
    let bytes = [1, 2, 3, 4, 5, 6, 7, 8];
    let milan = TcbVersion::from_bytes(bytes, TcbLayout::MilanGenoa);
    assert_eq!(
        milan,
        TcbVersion {
            fmc: None,
            bootloader: 1,
            tee: 2,
            snp: 7,
            microcode: 8
        }
    );
    assert_eq!(
        milan.to_bytes(TcbLayout::MilanGenoa),
        [1, 2, 0, 0, 0, 0, 7, 8]
    );
    let turin = TcbVersion::from_bytes(bytes, TcbLayout::Turin);
    assert_eq!(
        turin,
        TcbVersion {
            fmc: Some(1),
            bootloader: 2,
            tee: 3,
            snp: 4,
            microcode: 8
        }
    );
    assert_eq!(turin.to_bytes(TcbLayout::Turin), [1, 2, 3, 4, 0, 0, 0, 8]);
}

#[test]
fn a_turin_report_has_turins_byte_order() {
    let mut raw = RawReport::zeroed();
    raw.version = 3.into();
    (raw.cpuid_family, raw.cpuid_model) = (0x1A, 0x02);
    raw.reported_tcb = [1, 2, 3, 4, 0, 0, 0, 8];
    let report = SnpReport::from_raw(raw).unwrap();
    assert_eq!(report.product(), Some(Product::Turin));
    assert_eq!(report.reported_tcb().fmc, Some(1));
    assert_eq!(report.reported_tcb().snp, 4);
}

#[test]
fn a_minimum_is_met_component_by_component() {
    let own = TcbVersion {
        fmc: None,
        bootloader: 5,
        tee: 5,
        snp: 5,
        microcode: 5,
    };
    assert!(own.at_least(&own));
    assert!(own.at_least(&TcbVersion::default()));
    for lower in [
        TcbVersion {
            bootloader: 4,
            ..own
        },
        TcbVersion { tee: 4, ..own },
        TcbVersion { snp: 4, ..own },
        TcbVersion {
            microcode: 4,
            ..own
        },
    ] {
        assert!(!lower.at_least(&own));
        assert!(own.at_least(&lower));
    }
    // A higher component does not make up for a lower one.
    assert!(
        !TcbVersion {
            snp: 4,
            microcode: 200,
            ..own
        }
        .at_least(&own)
    );
    let with_fmc = TcbVersion {
        fmc: Some(1),
        ..own
    };
    assert!(!own.at_least(&with_fmc));
    assert!(with_fmc.at_least(&own));
    assert!(!with_fmc.at_least(&TcbVersion {
        fmc: Some(2),
        ..own
    }));
}

proptest! {
    #[test]
    fn any_bytes_are_a_report_or_an_error_and_never_more(
        bytes in proptest::collection::vec(any::<u8>(), 0..1300)
    ) {
        if let Ok(report) = SnpReport::parse(&bytes) {
            prop_assert_eq!(report.as_bytes(), bytes.as_slice());
        }
    }

    #[test]
    fn any_report_of_a_known_version_is_kept_byte_for_byte_and_shown(
        version in prop_oneof![Just(2_u32), Just(3), Just(5)],
        rest in proptest::collection::vec(any::<u8>(), REPORT_BYTES - 4)
    ) {
        let bytes = [version.to_le_bytes().as_slice(), &rest].concat();
        let report = SnpReport::parse(&bytes).unwrap();
        prop_assert_eq!(report.to_array().to_vec(), bytes);
        prop_assert!(show(&report).lines().count() > 25);
    }
}
