//! Real reports and certificates: what must be accepted and what refused.

#![expect(clippy::unwrap_used, reason = "a test without its data has failed")]

use redoubt_evidence::{CertKind, CertTable, SnpEvidence, SnpReport, TcbVersion};
use redoubt_verifier::{
    ClaimName, Collateral, Expectations, MinimumTcb, ReferenceSet, ReportVersions, SnpClaims,
    State, Status, TrustAnchors, Verdict, verify,
};
use time::OffsetDateTime;
use time::macros::datetime;

const MILAN_REPORT: &[u8] = include_bytes!("../testdata/trustee-test-report.bin");
const MILAN_VCEK: &[u8] = include_bytes!("../testdata/trustee-test-vcek.der");
const VLEK_REPORT: &[u8] = include_bytes!("../testdata/trustee-test-vlek-report.bin");
const VLEK: &[u8] = include_bytes!("../testdata/trustee-test-vlek.der");
const GENOA_REPORT: &[u8] = include_bytes!("../testdata/attestation-rs-live-report-v5-genoa.bin");
const GENOA_VCEK: &[u8] = include_bytes!("../testdata/attestation-rs-live-vcek-genoa.der");
const GENOA_JSON: &[u8] = include_bytes!("../testdata/trustee-e2e-snp-evidence.json");

const NOW: OffsetDateTime = datetime!(2026-06-01 12:00 UTC);

fn evidence(report: &[u8], kind: CertKind, cert: &[u8]) -> SnpEvidence {
    let mut certs = CertTable::default();
    certs.insert(kind, cert.to_vec()).unwrap();
    SnpEvidence {
        report: SnpReport::parse(report).unwrap(),
        certs,
    }
}

fn milan() -> SnpEvidence {
    evidence(MILAN_REPORT, CertKind::Vcek, MILAN_VCEK)
}

fn genoa() -> SnpEvidence {
    evidence(GENOA_REPORT, CertKind::Vcek, GENOA_VCEK)
}

/// Expects exactly what the report says, so that only authenticity decides.
fn exactly(evidence: &SnpEvidence) -> Expectations {
    let report = &evidence.report;
    Expectations {
        launch_digests: ReferenceSet::one(*report.launch_digest(), "this test"),
        host_data: ReferenceSet::one(*report.host_data(), "this test"),
        report_data: ReferenceSet::one(*report.report_data(), "this test"),
        report_versions: ReportVersions::WithVersion2,
        ..Expectations::default()
    }
}

fn verdict_at(evidence: &SnpEvidence, expected: &Expectations, at: OffsetDateTime) -> Verdict {
    verify(
        evidence,
        &Collateral::new(&TrustAnchors::amd(), at),
        expected,
    )
}

fn verdict(evidence: &SnpEvidence, expected: &Expectations) -> Verdict {
    verdict_at(evidence, expected, NOW)
}

fn failed(verdict: &Verdict) -> Vec<ClaimName> {
    verdict.failed().map(|claim| claim.name).collect()
}

#[test]
fn the_real_vcek_reports_are_verified() {
    let from_json = SnpEvidence::parse_kbs_json(GENOA_JSON).unwrap();
    for evidence in [milan(), genoa(), from_json] {
        let verdict = verdict(&evidence, &exactly(&evidence));
        assert_eq!(verdict.state, State::Verified, "{verdict}");
        assert!(!verdict.simulated);
        assert!(verdict.require_verified().is_ok());
    }
}

#[test]
fn without_reference_values_a_real_report_is_only_partially_verified() {
    let verdict = verdict(&genoa(), &Expectations::default());
    assert_eq!(verdict.state, State::PartiallyVerified, "{verdict}");
    assert!(verdict.require_verified().is_err());
    assert!(verdict.require_not_contradicted().is_ok());
    assert!(
        verdict
            .not_proven
            .iter()
            .any(|text| text.starts_with("what runs in the guest"))
    );
}

#[test]
fn version_2_needs_to_be_allowed() {
    let evidence = milan();
    let strict = Expectations {
        report_versions: ReportVersions::Current,
        ..exactly(&evidence)
    };
    assert_eq!(
        failed(&verdict(&evidence, &strict)),
        [ClaimName::ReportVersion]
    );
}

#[test]
fn the_vlek_report_is_authentic_in_its_time_but_not_of_vmpl_0() {
    let evidence = evidence(VLEK_REPORT, CertKind::Vlek, VLEK);
    let expected = exactly(&evidence);
    let then = verdict_at(&evidence, &expected, datetime!(2025-11-01 0:00 UTC));
    assert_eq!(failed(&then), [ClaimName::Vmpl], "{then}");
    let vmpl_1 = Expectations {
        maximum_vmpl: 1,
        ..expected.clone()
    };
    let allowed = verdict_at(&evidence, &vmpl_1, datetime!(2025-11-01 0:00 UTC));
    assert_eq!(allowed.state, State::Verified, "{allowed}");
    assert_eq!(
        allowed.claim(ClaimName::HardwareId).unwrap().status,
        Status::NotChecked
    );
    let later = verdict(&evidence, &vmpl_1);
    assert_eq!(failed(&later), [ClaimName::CertificateValidity], "{later}");
}

#[test]
fn one_flipped_bit_in_any_signed_byte_is_refused() {
    let good = genoa();
    let anchors = TrustAnchors::amd();
    let collateral = Collateral::new(&anchors, NOW);
    for offset in 0..0x2A0 {
        let mut bytes = good.report.to_array();
        bytes[offset] ^= 1;
        // A changed version may not even parse.
        let Ok(report) = SnpReport::parse(&bytes) else {
            continue;
        };
        let changed = SnpEvidence {
            report,
            certs: good.certs.clone(),
        };
        let verdict = verify(&changed, &collateral, &exactly(&changed));
        assert_eq!(verdict.state, State::NotVerified, "byte {offset:#x}");
    }
}

#[test]
fn a_changed_signature_is_refused() {
    let good = genoa();
    for offset in [
        0x2A0,
        0x2A0 + 47,
        0x2A0 + 48,
        0x2A0 + 71,
        0x2E8,
        0x2E8 + 48,
        0x330,
        0x49F,
    ] {
        let mut bytes = good.report.to_array();
        bytes[offset] ^= 0x80;
        let report = SnpReport::parse(&bytes).unwrap();
        let changed = SnpEvidence {
            report,
            certs: good.certs.clone(),
        };
        let verdict = verdict(&changed, &exactly(&changed));
        assert_eq!(failed(&verdict), [ClaimName::Signature], "byte {offset:#x}");
    }
}

#[test]
fn the_certificate_must_go_with_the_report() {
    // Another chip's VCEK: authentic, but not this report's.
    let swapped = evidence(GENOA_REPORT, CertKind::Vcek, MILAN_VCEK);
    let verdict_of = |evidence: &SnpEvidence| verdict(evidence, &exactly(evidence));
    let names = failed(&verdict_of(&swapped));
    for name in [
        ClaimName::Product,
        ClaimName::CertificateTcb,
        ClaimName::HardwareId,
        ClaimName::Signature,
    ] {
        assert!(names.contains(&name), "{names:?}");
    }
    // A VLEK where the report says VCEK, under both names.
    let vlek = evidence(GENOA_REPORT, CertKind::Vlek, VLEK);
    assert_eq!(failed(&verdict_of(&vlek)), [ClaimName::SigningKey]);
    let vlek_as_vcek = evidence(GENOA_REPORT, CertKind::Vcek, VLEK);
    assert_eq!(failed(&verdict_of(&vlek_as_vcek)), [ClaimName::SigningKey]);
    // No certificate at all.
    let none = SnpEvidence {
        certs: CertTable::default(),
        ..genoa()
    };
    assert_eq!(failed(&verdict_of(&none)), [ClaimName::SigningKey]);
    // Bytes that are no certificate.
    let garbage = evidence(GENOA_REPORT, CertKind::Vcek, b"garbage");
    assert_eq!(failed(&verdict_of(&garbage)), [ClaimName::SigningKey]);
}

#[test]
fn chains_that_do_not_verify_are_refused() {
    for cert in [
        include_bytes!("../testdata/trustee-test-vcek-invalid-legacy.der").as_slice(),
        include_bytes!("../testdata/trustee-test-vcek-invalid-new.der"),
    ] {
        let evidence = evidence(MILAN_REPORT, CertKind::Vcek, cert);
        let verdict = verdict(&evidence, &exactly(&evidence));
        assert_eq!(verdict.state, State::NotVerified);
        assert!(
            failed(&verdict).contains(&ClaimName::CertificateChain),
            "{verdict}"
        );
    }
}

#[test]
fn a_turin_vcek_chains_to_amds_root() {
    let turin = include_bytes!("../testdata/sev-vcek_turin.der");
    let evidence = evidence(GENOA_REPORT, CertKind::Vcek, turin);
    let verdict = verdict(&evidence, &exactly(&evidence));
    let chain = verdict.claim(ClaimName::CertificateChain).unwrap();
    assert_eq!(chain.status, Status::Passed);
    assert_eq!(chain.seen, "SEV-VCEK < SEV-Turin < ARK-Turin");
    // And yet it is not this report's.
    assert!(failed(&verdict).contains(&ClaimName::Product));
}

#[test]
fn a_chain_needs_its_root() {
    let evidence = genoa();
    let milan_only = include_bytes!("../roots/milan_ask_ark_asvk.pem");
    let anchors = TrustAnchors::given(milan_only, "this test").unwrap();
    let verdict = verify(
        &evidence,
        &Collateral::new(&anchors, NOW),
        &exactly(&evidence),
    );
    assert_eq!(failed(&verdict), [ClaimName::CertificateChain]);
    let none = TrustAnchors::default();
    let verdict = verify(&evidence, &Collateral::new(&none, NOW), &exactly(&evidence));
    assert_eq!(failed(&verdict), [ClaimName::CertificateChain]);
}

#[test]
fn certificates_are_checked_at_the_given_time() {
    let evidence = genoa();
    for at in [
        datetime!(2000-01-01 0:00 UTC),
        datetime!(2100-01-01 0:00 UTC),
    ] {
        let verdict = verdict_at(&evidence, &exactly(&evidence), at);
        assert_eq!(failed(&verdict), [ClaimName::CertificateValidity]);
    }
}

#[test]
fn reference_values_decide() {
    let evidence = genoa();
    let good = exactly(&evidence);
    let cases = [
        (
            ClaimName::LaunchDigest,
            Expectations {
                launch_digests: ReferenceSet::one([1; 48], "test"),
                ..good.clone()
            },
        ),
        (
            ClaimName::HostData,
            Expectations {
                host_data: ReferenceSet::one([1; 32], "test"),
                ..good.clone()
            },
        ),
        (
            ClaimName::ReportData,
            Expectations {
                report_data: ReferenceSet::one([1; 64], "test"),
                ..good.clone()
            },
        ),
        (
            ClaimName::ChipId,
            Expectations {
                chip_ids: ReferenceSet::one([1; 64], "test"),
                ..good.clone()
            },
        ),
        (
            ClaimName::IdKeyDigest,
            Expectations {
                id_key_digests: ReferenceSet::one([1; 48], "test"),
                ..good.clone()
            },
        ),
        (
            ClaimName::AuthorKeyDigest,
            Expectations {
                author_key_digests: ReferenceSet::one([0; 48], "test"),
                ..good.clone()
            },
        ),
    ];
    for (name, expected) in cases {
        let verdict = verdict(&evidence, &expected);
        assert_eq!(failed(&verdict), [name]);
        assert_eq!(verdict.state, State::NotVerified);
    }
}

#[test]
fn one_of_several_reference_values_is_enough_and_its_source_is_named() {
    let evidence = genoa();
    let mut expected = exactly(&evidence);
    expected.launch_digests = ReferenceSet::one([1; 48], "release 1");
    expected
        .launch_digests
        .insert(*evidence.report.launch_digest(), "release 2");
    let verdict = verdict(&evidence, &expected);
    assert_eq!(verdict.state, State::Verified);
    assert_eq!(
        verdict.claim(ClaimName::LaunchDigest).unwrap().source,
        "release 2"
    );
}

#[test]
fn minimum_versions_are_ordered_and_apply_to_each_tcb() {
    let evidence = genoa();
    let own = evidence.report.reported_tcb();
    let at_own = Expectations {
        minimum_tcb: MinimumTcb::all(own),
        ..exactly(&evidence)
    };
    assert_eq!(verdict(&evidence, &at_own).state, State::Verified);
    let above = TcbVersion {
        snp: own.snp + 1,
        bootloader: 0,
        ..own
    };
    let too_high = Expectations {
        minimum_tcb: MinimumTcb::all(above),
        ..exactly(&evidence)
    };
    assert_eq!(
        failed(&verdict(&evidence, &too_high)),
        [
            ClaimName::ReportedTcb,
            ClaimName::CommittedTcb,
            ClaimName::LaunchTcb
        ]
    );
}

#[test]
fn rules_on_policy_and_platform_are_kept() {
    let evidence = genoa();
    let with = |change: fn(&mut Expectations)| {
        let mut expected = exactly(&evidence);
        change(&mut expected);
        failed(&verdict(&evidence, &expected))
    };
    assert_eq!(with(|e| e.policy.allow_smt = false), [ClaimName::SmtPolicy]);
    assert_eq!(
        with(|e| e.policy.require_single_socket = true),
        [ClaimName::SingleSocketPolicy]
    );
    assert_eq!(
        with(|e| e.policy.minimum_abi = Some((1, 51))),
        [ClaimName::AbiPolicy]
    );
    assert_eq!(with(|e| e.policy.minimum_abi = Some((0, 0))), []);
    assert_eq!(with(|e| e.platform.require_alias_check = true), []);
    // This guest demands nothing more, so that each demand on it fails alone.
    assert_eq!(
        with(|e| e.policy.require_aes_256_xts = true),
        [ClaimName::Aes256XtsPolicy]
    );
    assert_eq!(
        with(|e| e.policy.require_rapl_disabled = true),
        [ClaimName::RaplPolicy]
    );
    assert_eq!(
        with(|e| e.policy.require_ciphertext_hiding = true),
        [ClaimName::CiphertextHidingPolicy]
    );
    assert_eq!(
        with(|e| e.policy.require_page_swap_disabled = true),
        [ClaimName::PageSwapPolicy]
    );
    assert_eq!(
        with(|e| e.platform.require_smt_disabled = true),
        [ClaimName::PlatformSmt]
    );
    assert_eq!(
        with(|e| e.platform.require_tsme = true),
        [ClaimName::PlatformTsme]
    );
    assert_eq!(with(|e| e.platform.require_ecc = true), []);
    assert_eq!(
        with(|e| e.platform.require_rapl_disabled = true),
        [ClaimName::PlatformRapl]
    );
    assert_eq!(
        with(|e| e.platform.require_ciphertext_hiding = true),
        [ClaimName::PlatformCiphertextHiding]
    );
    assert_eq!(
        with(|e| e.minimum_guest_svn = Some(1)),
        [ClaimName::GuestSvn]
    );
    assert_eq!(with(|e| e.minimum_guest_svn = Some(0)), []);
    let old = milan();
    let strict = Expectations {
        platform: redoubt_verifier::PlatformRules {
            require_alias_check: true,
            ..Default::default()
        },
        ..exactly(&old)
    };
    assert_eq!(failed(&verdict(&old, &strict)), [ClaimName::AliasCheck]);
}

#[test]
fn claims_for_a_policy_are_typed() {
    let evidence = genoa();
    let verdict = verdict(&evidence, &exactly(&evidence));
    let json = SnpClaims::of(&evidence, &verdict).to_json().unwrap();
    assert_eq!(json["verdict"], "verified");
    assert_eq!(json["simulated"], false);
    assert_eq!(
        json["measurement"],
        hex::encode(evidence.report.launch_digest())
    );
    assert_eq!(json["policy_debug_allowed"], false);
    assert_eq!(json["policy_abi_minor"], 0);
    assert_eq!(json["reported_tcb_snp"], 27);
    assert_eq!(json["committed_tcb"]["microcode"], 27);
    assert_eq!(json["product"], "Genoa");
    assert!(
        json["passed"]
            .as_array()
            .unwrap()
            .iter()
            .any(|name| name == "signature")
    );
    assert_eq!(json["failed"], serde_json::json!([]));
}

#[test]
fn a_verdict_reads_well() {
    let evidence = genoa();
    let wrong = Expectations {
        host_data: ReferenceSet::one([7; 32], "initdata"),
        ..exactly(&evidence)
    };
    let verdict = verdict(&evidence, &wrong);
    insta::assert_snapshot!(
        verdict.require_verified().unwrap_err(),
        @"the evidence is not verified: host data expected 0707070707070707070707070707070707070707070707070707070707070707, seen 0000000000000000000000000000000000000000000000000000000000000000"
    );
    insta::assert_snapshot!(verdict, @r#"
    not verified
      passed       report version        5, expected 2, 3 or 5 [verification rules]
      passed       signing key           a VCEK certificate [AMD 56860]
      passed       certificate chain     SEV-VCEK < SEV-Genoa < ARK-Genoa, expected a chain to ARK-Milan, ARK-Genoa, ARK-Turin [built-in AMD root]
      passed       certificate validity  all valid, expected valid at 2026-06-01T12:00:00Z [given time]
      not checked  revocation            no list given (not revoked)
      passed       product               report Genoa, certificate "Genoa", expected Genoa [built-in AMD root]
      passed       certificate TCB       bootloader 10, tee 0, snp 27, microcode 27 [AMD 56860]
      passed       hardware id           b5f9a4c8280e63c97d288db6648577dc2b848884aa682d7a227ba40e50deb2b0d112b599d87aaccda78d06f4254b1e81c4d953ef3c699db39d4e06013e9fa4ce [AMD 56860]
      passed       signature             valid, expected by the VCEK, ECDSA P-384 with SHA-384 [AMD 56860]
      not checked  reported TCB          bootloader 10, tee 0, snp 27, microcode 27 (no minimum given)
      not checked  committed TCB         bootloader 10, tee 0, snp 27, microcode 27 (no minimum given)
      not checked  launch TCB            bootloader 10, tee 0, snp 27, microcode 27 (no minimum given)
      passed       VMPL                  0 [verification rules]
      passed       debug policy          not allowed [verification rules]
      passed       migration policy      not allowed [verification rules]
      passed       SMT policy            allowed, expected any [verification rules]
      passed       single-socket policy  not required, expected any [verification rules]
      passed       CXL policy            not allowed [verification rules]
      passed       AES-256-XTS policy    not required, expected any [verification rules]
      passed       RAPL policy           not required, expected any [verification rules]
      passed       ciphertext policy     not required, expected any [verification rules]
      passed       page-swap policy      not required, expected any [verification rules]
      passed       reserved bits         as specified [AMD 56860]
      passed       alias check           complete, expected any [verification rules]
      passed       platform SMT          on, expected any [verification rules]
      passed       platform TSME         off, expected any [verification rules]
      passed       platform ECC          on, expected any [verification rules]
      passed       platform RAPL         on, expected any [verification rules]
      passed       platform ciphertext   off, expected any [verification rules]
      passed       launch digest         d9912ba396ce409c2947841d93a5076b6839b898c22b4aae05edb3b2b058a99927f8cf9a4f8617ee695deb14795496c8 [this test]
      failed       host data             0000000000000000000000000000000000000000000000000000000000000000, but expected 0707070707070707070707070707070707070707070707070707070707070707 [reference values]
      passed       report data           68656c6c6f2d6174746573746174696f6e0000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000 [this test]
      not checked  chip id               b5f9a4c8280e63c97d288db6648577dc2b848884aa682d7a227ba40e50deb2b0d112b599d87aaccda78d06f4254b1e81c4d953ef3c699db39d4e06013e9fa4ce (no value given)
      not checked  id key digest         000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000 (no value given)
      not checked  author key digest     000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000 (no value given)
    not proven:
      - anything: the evidence is not verified
      - that no certificate was revoked: no revocation list was given
      - that the firmware is current: no minimum TCB was given
      - which machine it is: no chip id was expected
      - that the workload, its image and its policy are free of faults
      - that the guest is available: a host can always stop it
    "#);
}
