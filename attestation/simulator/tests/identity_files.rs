//! A simulated identity on disk.

#![expect(clippy::unwrap_used, reason = "a test without its data has failed")]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use redoubt_evidence::psp::{ReportRequest, ReportResponse};
use redoubt_evidence::{CertKind, GuestPolicy, SnpEvidence};
use redoubt_snp_simulator::{
    LaunchFacts, RsaBits, SimulatedIdentity, SimulatorError, SoftwarePsp, init,
};
use redoubt_verifier::{Collateral, Expectations, State, TrustAnchors, verify};

fn stored() -> (tempfile::TempDir, SimulatedIdentity) {
    let dir = tempfile::tempdir().unwrap();
    let identity = SimulatedIdentity::generate_with(RsaBits::Rsa2048).unwrap();
    identity.store(dir.path()).unwrap();
    (dir, identity)
}

fn evidence_of(identity: SimulatedIdentity) -> SnpEvidence {
    let facts = LaunchFacts::new([1; 48], [2; 32], GuestPolicy::RELEASE);
    let psp = SoftwarePsp::new(identity, &facts).unwrap();
    let response = psp.report(&ReportRequest::new([3; 64])).unwrap();
    ReportResponse::parse(&response.to_bytes().unwrap()).unwrap()
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[test]
fn init_writes_an_identity_that_load_reads_and_verifiers_accept() {
    let parent = tempfile::tempdir().unwrap();
    let dir = parent.path().join("deep/simulator");
    let made = init(&dir).unwrap();
    let mut names: Vec<_> = fs::read_dir(&dir)
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    names.sort();
    assert_eq!(
        names,
        [
            "ark.pem",
            "ask.pem",
            "identity.json",
            "vcek-key.pem",
            "vcek.pem"
        ]
    );
    assert_eq!(mode(&dir.join("vcek-key.pem")), 0o600);
    assert_eq!(mode(&dir.join("ark.pem")), 0o644);

    let loaded = SimulatedIdentity::load(&dir).unwrap();
    assert_eq!(loaded.chip_id(), made.chip_id());
    let evidence = evidence_of(loaded);
    // The host's ask.pem is not needed: the ASK comes with the evidence.
    let ark = fs::read(dir.join("ark.pem")).unwrap();
    let anchors = TrustAnchors::given(&ark, "ark.pem").unwrap();
    assert_eq!(anchors.root_names(), ["Redoubt simulated ARK"]);
    let at = time::OffsetDateTime::now_utc();
    let verdict = verify(
        &evidence,
        &Collateral::new(&anchors, at),
        &Expectations::default(),
    );
    assert_eq!(verdict.state, State::PartiallyVerified, "{verdict}");
    assert!(evidence.certs.get(CertKind::Vcek).is_some());
}

#[test]
fn a_second_identity_in_the_same_directory_is_refused() {
    let (dir, _identity) = stored();
    let before = fs::read(dir.path().join("vcek-key.pem")).unwrap();
    assert!(matches!(
        init(dir.path()),
        Err(SimulatorError::Exists { .. })
    ));
    assert_eq!(fs::read(dir.path().join("vcek-key.pem")).unwrap(), before);
}

#[test]
fn an_interrupted_attempt_can_be_repeated() {
    let (dir, identity) = stored();
    fs::remove_file(dir.path().join("identity.json")).unwrap();
    fs::write(dir.path().join("vcek-key.new"), "half").unwrap();
    assert!(matches!(
        SimulatedIdentity::load(dir.path()),
        Err(SimulatorError::File { .. })
    ));
    identity.store(dir.path()).unwrap();
    assert_eq!(
        SimulatedIdentity::load(dir.path()).unwrap().chip_id(),
        identity.chip_id()
    );
    assert_eq!(mode(&dir.path().join("vcek-key.pem")), 0o600);
}

#[test]
fn a_key_that_others_can_read_is_refused() {
    let (dir, _identity) = stored();
    let key = dir.path().join("vcek-key.pem");
    fs::set_permissions(&key, fs::Permissions::from_mode(0o640)).unwrap();
    let error = SimulatedIdentity::load(dir.path()).unwrap_err();
    assert!(matches!(error, SimulatorError::KeyMode { mode: 0o640, .. }));
}

#[test]
fn files_that_do_not_belong_together_are_refused() {
    let (dir, _identity) = stored();
    let (other, _identity) = stored();
    let own_key = fs::read(dir.path().join("vcek-key.pem")).unwrap();
    let other_key = fs::read(other.path().join("vcek-key.pem")).unwrap();
    fs::write(dir.path().join("vcek-key.pem"), other_key).unwrap();
    let error = SimulatedIdentity::load(dir.path()).unwrap_err();
    assert!(matches!(
        error,
        SimulatorError::Content {
            what: "the VCEK's key",
            ..
        }
    ));
    fs::write(dir.path().join("vcek-key.pem"), own_key).unwrap();

    // identity.json of another chip: its reports would not fit the VCEK.
    fs::copy(
        other.path().join("identity.json"),
        dir.path().join("identity.json"),
    )
    .unwrap();
    let error = SimulatedIdentity::load(dir.path()).unwrap_err();
    assert!(
        matches!(error, SimulatorError::IdentityDiffers { what: "chip_id" }),
        "{error}"
    );
}

#[test]
fn damaged_files_are_refused() {
    for file in [
        "ark.pem",
        "ask.pem",
        "vcek.pem",
        "vcek-key.pem",
        "identity.json",
    ] {
        let (dir, _identity) = stored();
        fs::write(dir.path().join(file), "not what it should be").unwrap();
        let error = SimulatedIdentity::load(dir.path()).unwrap_err();
        assert!(
            matches!(
                error,
                SimulatorError::Content { .. } | SimulatorError::Identity(_)
            ),
            "{file}: {error:?}"
        );
        fs::write(dir.path().join(file), vec![b'a'; 70 * 1024]).unwrap();
        let error = SimulatedIdentity::load(dir.path()).unwrap_err();
        assert!(
            matches!(error, SimulatorError::FileTooLong { .. }),
            "{file}: {error:?}"
        );
    }
}

#[test]
fn the_private_key_does_not_show() {
    let (dir, identity) = stored();
    let pem = fs::read_to_string(dir.path().join("vcek-key.pem")).unwrap();
    assert!(pem.contains("PRIVATE KEY"));
    let shown = format!("{identity:?}");
    assert!(!shown.contains("key"), "{shown}");
}
