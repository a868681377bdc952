//! Minted certificates and reports: what AMD's real ones cannot show.

#![expect(clippy::unwrap_used, reason = "a test without its data has failed")]

use std::time::{Duration, SystemTime};

use p384::ecdsa::signature::Signer;
use p384::ecdsa::{Signature, SigningKey};
use redoubt_evidence::{
    CertKind, CertTable, GuestPolicy, Product, RawReport, SnpEvidence, SnpReport, TcbLayout,
    TcbVersion,
};
use redoubt_snp_simulator::pki::{Authority, AuthorityKey, EndorsementProfile, Lifetime};
use redoubt_verifier::{
    ClaimName, Collateral, Expectations, RevocationList, State, Status, TrustAnchors, Verdict,
    verify,
};
use time::OffsetDateTime;

const ARK_KEY: &str = include_str!("../testdata/ark_private_key.pem");
const ASK_KEY: &str = include_str!("../testdata/ask_private_key.pem");
const ASVK_KEY: &str = include_str!("../testdata/asvk_private_key.pem");
const CHIP: [u8; 64] = [0xC1; 64];
const GENOA_TCB: TcbVersion = TcbVersion {
    fmc: None,
    bootloader: 9,
    tee: 1,
    snp: 21,
    microcode: 72,
};
const TURIN_TCB: TcbVersion = TcbVersion {
    fmc: Some(2),
    bootloader: 1,
    tee: 3,
    snp: 4,
    microcode: 70,
};

/// A minted hierarchy: a root and one intermediate.
struct Pki {
    root: Authority,
    intermediate: Authority,
    key: SigningKey,
}

fn authority_key(pem: &str) -> AuthorityKey {
    AuthorityKey::from_pkcs8_pem(pem).unwrap()
}

fn pki() -> Pki {
    let root = Authority::root(authority_key(ARK_KEY), "CN=Test ARK", Lifetime::years(25)).unwrap();
    let intermediate = root
        .intermediate(authority_key(ASK_KEY), "CN=Test ASK", Lifetime::years(25))
        .unwrap();
    Pki {
        root,
        intermediate,
        key: SigningKey::from_slice(&[0x42; 48]).unwrap(),
    }
}

/// A Genoa guest's report; tests change what they are about.
fn genoa_report() -> RawReport {
    let tcb = GENOA_TCB.to_bytes(TcbLayout::MilanGenoa);
    let mut raw = RawReport::zeroed();
    raw.version = 3.into();
    raw.policy = GuestPolicy::RELEASE.0.into();
    raw.signature_algorithm = 1.into();
    (
        raw.reported_tcb,
        raw.current_tcb,
        raw.committed_tcb,
        raw.launch_tcb,
    ) = (tcb, tcb, tcb, tcb);
    (raw.cpuid_family, raw.cpuid_model, raw.cpuid_stepping) = (0x19, 0x11, 1);
    raw.chip_id = CHIP;
    raw
}

fn turin_report() -> RawReport {
    let tcb = TURIN_TCB.to_bytes(TcbLayout::Turin);
    let mut raw = genoa_report();
    (
        raw.reported_tcb,
        raw.current_tcb,
        raw.committed_tcb,
        raw.launch_tcb,
    ) = (tcb, tcb, tcb, tcb);
    (raw.cpuid_family, raw.cpuid_model) = (0x1A, 0x02);
    raw.chip_id = [0; 64];
    raw.chip_id[..8].copy_from_slice(&CHIP[..8]);
    raw
}

fn sign(key: &SigningKey, raw: &RawReport) -> SnpReport {
    let mut raw = *raw;
    let unsigned = SnpReport::from_raw(raw).unwrap();
    let signature: Signature = key.sign(unsigned.signed_bytes());
    let (r, s) = signature.split_bytes();
    for (index, byte) in r.iter().rev().enumerate() {
        raw.signature.r[index] = *byte;
    }
    for (index, byte) in s.iter().rev().enumerate() {
        raw.signature.s[index] = *byte;
    }
    SnpReport::from_raw(raw).unwrap()
}

fn genoa_profile() -> EndorsementProfile {
    EndorsementProfile::vcek("CN=Test VCEK", Product::Genoa, GENOA_TCB, &CHIP)
}

fn vlek_profile() -> EndorsementProfile {
    EndorsementProfile {
        hardware_id: None,
        provider_id: Some("provider".to_owned()),
        ..genoa_profile()
    }
}

impl Pki {
    fn anchors(&self) -> TrustAnchors {
        TrustAnchors::given(self.root.certificate(), "this test").unwrap()
    }

    fn evidence(&self, raw: &RawReport, profile: &EndorsementProfile) -> SnpEvidence {
        self.evidence_under(&self.intermediate, raw, profile)
    }

    /// Evidence whose VEK and ASK entries come from `issuer`.
    fn evidence_under(
        &self,
        issuer: &Authority,
        raw: &RawReport,
        profile: &EndorsementProfile,
    ) -> SnpEvidence {
        let public = p384::PublicKey::from(self.key.verifying_key());
        let vek = issuer.endorse(public, profile).unwrap();
        let kind = if profile.hardware_id.is_some() {
            CertKind::Vcek
        } else {
            CertKind::Vlek
        };
        let mut certs = CertTable::default();
        certs.insert(kind, vek).unwrap();
        certs
            .insert(CertKind::Ask, issuer.certificate().to_vec())
            .unwrap();
        SnpEvidence {
            report: sign(&self.key, raw),
            certs,
        }
    }

    fn verdict(&self, evidence: &SnpEvidence) -> Verdict {
        self.verdict_with(evidence, &[])
    }

    fn verdict_with(&self, evidence: &SnpEvidence, crls: &[RevocationList]) -> Verdict {
        let anchors = self.anchors();
        let collateral = Collateral::new(&anchors, OffsetDateTime::now_utc()).with_crls(crls);
        verify(evidence, &collateral, &Expectations::default())
    }
}

fn failed(verdict: &Verdict) -> Vec<ClaimName> {
    verdict.failed().map(|claim| claim.name).collect()
}

#[test]
fn a_minted_genoa_and_a_minted_turin_report_are_authentic() {
    let pki = pki();
    let genoa = pki.evidence(&genoa_report(), &genoa_profile());
    let profile = EndorsementProfile::vcek("CN=Test VCEK", Product::Turin, TURIN_TCB, &CHIP);
    assert_eq!(profile.hardware_id.as_ref().unwrap().len(), 8);
    let turin = pki.evidence(&turin_report(), &profile);
    for evidence in [genoa, turin] {
        let verdict = pki.verdict(&evidence);
        assert_eq!(verdict.state, State::PartiallyVerified, "{verdict}");
        assert!(verdict.passed(ClaimName::HardwareId));
        // A root given by hand is no simulated one by that alone.
        assert!(!verdict.simulated);
    }
}

#[test]
fn both_encodings_of_the_hardware_id_are_accepted() {
    let pki = pki();
    let mut encoded = vec![0x04, 64];
    encoded.extend_from_slice(&CHIP);
    let profile = EndorsementProfile {
        hardware_id: Some(encoded),
        ..genoa_profile()
    };
    let verdict = pki.verdict(&pki.evidence(&genoa_report(), &profile));
    assert!(verdict.passed(ClaimName::HardwareId), "{verdict}");
}

#[test]
fn a_current_vlek_is_accepted_without_a_chip() {
    let pki = pki();
    let mut raw = genoa_report();
    raw.key_info = (1_u32 << 2).into();
    raw.chip_id = [0; 64];
    let verdict = pki.verdict(&pki.evidence(&raw, &vlek_profile()));
    assert_eq!(verdict.state, State::PartiallyVerified, "{verdict}");
    assert_eq!(
        verdict.claim(ClaimName::HardwareId).unwrap().status,
        Status::NotChecked
    );
}

#[test]
fn the_selector_must_fit_the_certificate() {
    let pki = pki();
    // The report says VCEK and a VLEK comes; the report says VLEK and a VCEK comes.
    assert_eq!(
        failed(&pki.verdict(&pki.evidence(&genoa_report(), &vlek_profile()))),
        [ClaimName::SigningKey]
    );
    for selector in [1_u32, 2, 6, 7] {
        let mut raw = genoa_report();
        raw.key_info = (selector << 2).into();
        let verdict = pki.verdict(&pki.evidence(&raw, &genoa_profile()));
        assert_eq!(failed(&verdict), [ClaimName::SigningKey], "{selector}");
    }
}

#[test]
fn a_certificate_that_is_both_or_neither_kind_is_refused() {
    let pki = pki();
    let both = EndorsementProfile {
        provider_id: Some("provider".to_owned()),
        ..genoa_profile()
    };
    assert_eq!(
        failed(&pki.verdict(&pki.evidence(&genoa_report(), &both))),
        [ClaimName::SigningKey]
    );
    let neither = EndorsementProfile {
        provider_id: None,
        ..vlek_profile()
    };
    let mut raw = genoa_report();
    raw.key_info = (1_u32 << 2).into();
    assert_eq!(
        failed(&pki.verdict(&pki.evidence(&raw, &neither))),
        [ClaimName::SigningKey]
    );
}

#[test]
fn another_chip_or_another_firmware_is_refused() {
    let pki = pki();
    let mut raw = genoa_report();
    raw.chip_id[63] ^= 1;
    assert_eq!(
        failed(&pki.verdict(&pki.evidence(&raw, &genoa_profile()))),
        [ClaimName::HardwareId]
    );
    // A Turin id is 8 bytes; the rest of the field must be zero.
    let profile = EndorsementProfile::vcek("CN=Test VCEK", Product::Turin, TURIN_TCB, &CHIP);
    let mut raw = turin_report();
    raw.chip_id[8] = 1;
    assert_eq!(
        failed(&pki.verdict(&pki.evidence(&raw, &profile))),
        [ClaimName::HardwareId]
    );
    let other = TcbVersion {
        snp: GENOA_TCB.snp + 1,
        ..GENOA_TCB
    };
    let profile = EndorsementProfile {
        tcb: other,
        ..genoa_profile()
    };
    assert_eq!(
        failed(&pki.verdict(&pki.evidence(&genoa_report(), &profile))),
        [ClaimName::CertificateTcb]
    );
}

#[test]
fn each_bit_of_the_guest_policy_counts() {
    let pki = pki();
    let with_bit = |bit: u32| {
        let mut raw = genoa_report();
        raw.policy = (GuestPolicy::RELEASE.0 | 1 << bit).into();
        failed(&pki.verdict(&pki.evidence(&raw, &genoa_profile())))
    };
    assert_eq!(with_bit(18), [ClaimName::MigrationPolicy]);
    assert_eq!(with_bit(19), [ClaimName::DebugPolicy]);
    assert_eq!(with_bit(21), [ClaimName::CxlPolicy]);
    for demanded in [20, 22, 23, 24, 25] {
        assert_eq!(with_bit(demanded), [], "{demanded}");
    }
    for unknown in [26, 40, 63] {
        assert_eq!(with_bit(unknown), [ClaimName::ReservedBits], "{unknown}");
    }
    let mut raw = genoa_report();
    raw.policy = 0.into();
    assert_eq!(
        failed(&pki.verdict(&pki.evidence(&raw, &genoa_profile()))),
        [ClaimName::ReservedBits]
    );
    let mut raw = genoa_report();
    raw.key_info = (1_u32 << 9).into();
    assert_eq!(
        failed(&pki.verdict(&pki.evidence(&raw, &genoa_profile()))),
        [ClaimName::ReservedBits]
    );
}

#[test]
fn what_a_guest_demands_and_a_platform_has_can_be_required() {
    let pki = pki();
    let mut raw = genoa_report();
    raw.policy = (GuestPolicy::RELEASE.0 | 0b1_1111 << 20).into();
    // ECC, RAPL off, ciphertext hiding, alias check; no SMT.
    raw.platform_info = 0b11_1110_u64.into();
    raw.guest_svn = 7.into();
    let evidence = pki.evidence(&raw, &genoa_profile());
    let mut expected = Expectations::default();
    expected.policy.allow_cxl = true;
    expected.policy.require_single_socket = true;
    expected.policy.require_aes_256_xts = true;
    expected.policy.require_rapl_disabled = true;
    expected.policy.require_ciphertext_hiding = true;
    expected.platform.require_alias_check = true;
    expected.platform.require_smt_disabled = true;
    expected.platform.require_tsme = true;
    expected.platform.require_ecc = true;
    expected.platform.require_rapl_disabled = true;
    expected.platform.require_ciphertext_hiding = true;
    expected.minimum_guest_svn = Some(7);
    let anchors = pki.anchors();
    let collateral = Collateral::new(&anchors, OffsetDateTime::now_utc());
    let verdict = verify(&evidence, &collateral, &expected);
    assert_eq!(failed(&verdict), [], "{verdict}");
    expected.policy.require_page_swap_disabled = true;
    expected.minimum_guest_svn = Some(8);
    let verdict = verify(&evidence, &collateral, &expected);
    assert_eq!(
        failed(&verdict),
        [ClaimName::PageSwapPolicy, ClaimName::GuestSvn]
    );
}

#[test]
fn minimum_versions_of_turin_include_its_fmc() {
    let pki = pki();
    let profile = EndorsementProfile::vcek("CN=Test VCEK", Product::Turin, TURIN_TCB, &CHIP);
    let turin = pki.evidence(&turin_report(), &profile);
    let genoa = pki.evidence(&genoa_report(), &genoa_profile());
    let anchors = pki.anchors();
    let collateral = Collateral::new(&anchors, OffsetDateTime::now_utc());
    let with = |evidence: &SnpEvidence, minimum| {
        let expected = Expectations {
            minimum_tcb: redoubt_verifier::MinimumTcb::all(minimum),
            ..Expectations::default()
        };
        failed(&verify(evidence, &collateral, &expected))
    };
    let all = [
        ClaimName::ReportedTcb,
        ClaimName::CommittedTcb,
        ClaimName::LaunchTcb,
    ];
    assert_eq!(with(&turin, TURIN_TCB), []);
    let newer = TcbVersion {
        fmc: Some(3),
        ..TURIN_TCB
    };
    assert_eq!(with(&turin, newer), all);
    // A processor without an FMC does not meet a minimum of it.
    let of_genoa = TcbVersion {
        fmc: Some(0),
        ..GENOA_TCB
    };
    assert_eq!(with(&genoa, of_genoa), all);
    // Each of the three is looked at by itself.
    for (name, field) in [
        (ClaimName::CommittedTcb, 0_usize),
        (ClaimName::LaunchTcb, 1),
    ] {
        let mut raw = genoa_report();
        let older = TcbVersion {
            snp: GENOA_TCB.snp - 1,
            ..GENOA_TCB
        }
        .to_bytes(TcbLayout::MilanGenoa);
        if field == 0 {
            raw.committed_tcb = older;
        } else {
            raw.launch_tcb = older;
        }
        let evidence = pki.evidence(&raw, &genoa_profile());
        assert_eq!(with(&evidence, GENOA_TCB), [name]);
    }
}

#[test]
fn a_version_5_turin_report_with_a_vlek_is_accepted() {
    let pki = pki();
    let mut raw = turin_report();
    raw.version = 5.into();
    raw.key_info = (1_u32 << 2).into();
    raw.chip_id = [0; 64];
    let profile = EndorsementProfile {
        hardware_id: None,
        provider_id: Some("provider".to_owned()),
        ..EndorsementProfile::vcek("CN=Test VLEK", Product::Turin, TURIN_TCB, &CHIP)
    };
    let verdict = pki.verdict(&pki.evidence(&raw, &profile));
    assert_eq!(verdict.state, State::PartiallyVerified, "{verdict}");
}

#[test]
fn siena_and_bergamo_are_of_genoas_line() {
    let pki = pki();
    for (model, good) in [
        (0x11, true),
        (0xA0, true),
        (0xAA, true),
        (0xAF, true),
        (0xB0, false),
    ] {
        let mut raw = genoa_report();
        raw.cpuid_model = model;
        let verdict = pki.verdict(&pki.evidence(&raw, &genoa_profile()));
        assert_eq!(verdict.passed(ClaimName::Product), good, "{model:#x}");
    }
}

#[test]
fn another_product_is_refused() {
    let pki = pki();
    let profile = EndorsementProfile {
        product_name: "Milan-B0".to_owned(),
        ..genoa_profile()
    };
    assert_eq!(
        failed(&pki.verdict(&pki.evidence(&genoa_report(), &profile))),
        [ClaimName::Product]
    );
    let profile = EndorsementProfile {
        product_name: "Rome".to_owned(),
        ..genoa_profile()
    };
    assert_eq!(
        failed(&pki.verdict(&pki.evidence(&genoa_report(), &profile))),
        [ClaimName::Product]
    );
    let mut raw = genoa_report();
    raw.cpuid_family = 0x17;
    assert_eq!(
        failed(&pki.verdict(&pki.evidence(&raw, &genoa_profile()))),
        [ClaimName::Product]
    );
}

#[test]
fn another_roots_intermediate_is_refused() {
    let pki = pki();
    let forged =
        Authority::root(authority_key(ASVK_KEY), "CN=Test ARK", Lifetime::years(25)).unwrap();
    let ask = forged
        .intermediate(authority_key(ASK_KEY), "CN=Test ASK", Lifetime::years(25))
        .unwrap();
    let evidence = pki.evidence_under(&ask, &genoa_report(), &genoa_profile());
    assert_eq!(
        failed(&pki.verdict(&evidence)),
        [ClaimName::CertificateChain]
    );
}

#[test]
fn a_chain_that_skips_the_intermediate_is_refused() {
    let pki = pki();
    let evidence = pki.evidence_under(&pki.root, &genoa_report(), &genoa_profile());
    // The root in the intermediate's place is a certificate that signed itself.
    let verdict = pki.verdict(&evidence);
    assert_eq!(failed(&verdict), [ClaimName::CertificateChain], "{verdict}");
}

#[test]
fn an_imitation_of_amds_names_is_refused_under_amds_roots() {
    const AMD: &str = "O=Advanced Micro Devices,ST=CA,L=Santa Clara,C=US,OU=Engineering";
    let name = |common_name: &str| format!("CN={common_name},{AMD}");
    let years = Lifetime::years(25);
    let root = Authority::root(authority_key(ARK_KEY), &name("ARK-Genoa"), years).unwrap();
    let intermediate = root
        .intermediate(authority_key(ASK_KEY), &name("SEV-Genoa"), years)
        .unwrap();
    let pki = Pki {
        root,
        intermediate,
        ..pki()
    };
    let profile = EndorsementProfile {
        subject: name("SEV-VCEK"),
        ..genoa_profile()
    };
    let evidence = pki.evidence(&genoa_report(), &profile);
    let anchors = TrustAnchors::amd();
    let collateral = Collateral::new(&anchors, OffsetDateTime::now_utc());
    let verdict = verify(&evidence, &collateral, &Expectations::default());
    assert_eq!(failed(&verdict), [ClaimName::CertificateChain]);
}

#[test]
fn expired_certificates_are_refused_wherever_they_stand() {
    let past = Lifetime {
        not_before: SystemTime::now() - Duration::from_secs(48 * 3600),
        not_after: SystemTime::now() - Duration::from_secs(24 * 3600),
    };
    let pki = pki();
    let vek = EndorsementProfile {
        lifetime: past,
        ..genoa_profile()
    };
    let expired_vek = pki.evidence(&genoa_report(), &vek);
    assert_eq!(
        failed(&pki.verdict(&expired_vek)),
        [ClaimName::CertificateValidity]
    );

    let ask = pki
        .root
        .intermediate(authority_key(ASK_KEY), "CN=Test ASK", past)
        .unwrap();
    let expired_ask = pki.evidence_under(&ask, &genoa_report(), &genoa_profile());
    assert_eq!(
        failed(&pki.verdict(&expired_ask)),
        [ClaimName::CertificateValidity]
    );
}

#[test]
fn revocation_lists_are_kept() {
    let pki = pki();
    let evidence = pki.evidence(&genoa_report(), &genoa_profile());
    let list = |authority: &Authority, revoked: &[&[u8]], lifetime: Lifetime| {
        RevocationList::parse(&authority.revocation_list(revoked, lifetime).unwrap()).unwrap()
    };
    let current = Lifetime::years(1);
    let vek = evidence.certs.get(CertKind::Vcek).unwrap();

    let empty = list(&pki.root, &[], current);
    let verdict = pki.verdict_with(&evidence, std::slice::from_ref(&empty));
    assert!(verdict.passed(ClaimName::Revocation), "{verdict}");

    let revokes_ask = list(&pki.root, &[pki.intermediate.certificate()], current);
    let revokes_root = list(&pki.root, &[pki.root.certificate()], current);
    let revokes_vek = list(&pki.intermediate, &[vek], current);
    let overdue = list(
        &pki.root,
        &[],
        Lifetime {
            not_before: SystemTime::now() - Duration::from_secs(48 * 3600),
            not_after: SystemTime::now() - Duration::from_secs(24 * 3600),
        },
    );
    let forged_root =
        Authority::root(authority_key(ASVK_KEY), "CN=Test ARK", Lifetime::years(25)).unwrap();
    let forged = list(&forged_root, &[], current);
    for lists in [
        vec![revokes_ask],
        vec![revokes_root],
        vec![empty.clone(), revokes_vek.clone()],
        // The root's own list is missing.
        vec![revokes_vek],
        vec![overdue],
        vec![forged],
    ] {
        let verdict = pki.verdict_with(&evidence, &lists);
        assert_eq!(failed(&verdict), [ClaimName::Revocation], "{verdict}");
        assert_eq!(verdict.state, State::NotVerified);
    }
    assert_eq!(
        pki.verdict(&evidence)
            .claim(ClaimName::Revocation)
            .unwrap()
            .status,
        Status::NotChecked
    );
}

#[test]
fn a_revocation_list_that_is_none_is_refused() {
    let pki = pki();
    let list = pki.root.revocation_list(&[], Lifetime::years(1)).unwrap();
    assert!(RevocationList::parse(&list[..list.len() - 1]).is_err());
    assert!(RevocationList::parse(&[]).is_err());
    assert!(RevocationList::parse(pki.root.certificate()).is_err());
}
