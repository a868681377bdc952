//! From a generated identity over a socket and the guest's attester to a verdict.

#![expect(clippy::unwrap_used, reason = "a test without its data has failed")]

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use redoubt_attester::{Attester, AttesterError, SimulatedAttester, TeeKind, UnixAddress};
use redoubt_evidence::psp::{KeySelector, ReportRequest, ReportResponse};
use redoubt_evidence::{EvidenceError, GuestPolicy, Product, SnpEvidence};
use redoubt_snp_simulator::{
    IdBlockFacts, LaunchFacts, RsaBits, ServeLimits, SimulatedIdentity, SoftwarePsp, serve_with,
};
use redoubt_verifier::{
    ClaimName, Collateral, Expectations, MinimumTcb, ReferenceSet, State, TrustAnchors, Verdict,
    verify,
};
use time::OffsetDateTime;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};
use tokio::task::JoinHandle;

const DIGEST: [u8; 48] = [0xD1; 48];
const HOST_DATA: [u8; 32] = [0x0D; 32];
const REPORT_DATA: [u8; 64] = [0x5A; 64];

struct Served {
    identity: SimulatedIdentity,
    attester: SimulatedAttester<UnixAddress>,
    socket: std::path::PathBuf,
    server: JoinHandle<()>,
    _dir: tempfile::TempDir,
}

impl Drop for Served {
    fn drop(&mut self) {
        self.server.abort();
    }
}

fn identity() -> SimulatedIdentity {
    SimulatedIdentity::generate_with(RsaBits::Rsa2048).unwrap()
}

fn start(facts: &LaunchFacts, limits: ServeLimits) -> Served {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("psp.sock");
    let listener = UnixListener::bind(&socket).unwrap();
    let identity = identity();
    let psp = Arc::new(SoftwarePsp::new(identity.clone(), facts).unwrap());
    let server = tokio::spawn(serve_with(psp, listener, limits));
    let attester = SimulatedAttester::new(UnixAddress(socket.clone()));
    Served {
        identity,
        attester,
        socket,
        server,
        _dir: dir,
    }
}

fn facts() -> LaunchFacts {
    LaunchFacts::new(DIGEST, HOST_DATA, GuestPolicy::RELEASE)
}

fn expected() -> Expectations {
    Expectations {
        launch_digests: ReferenceSet::one(DIGEST, "launch plan"),
        host_data: ReferenceSet::one(HOST_DATA, "initdata"),
        report_data: ReferenceSet::one(REPORT_DATA, "session"),
        ..Expectations::default()
    }
}

fn given(identity: &SimulatedIdentity) -> TrustAnchors {
    let pem = identity.trust_anchor_pem().unwrap();
    TrustAnchors::given(pem.as_bytes(), "simulator directory").unwrap()
}

fn judge(evidence: &SnpEvidence, anchors: &TrustAnchors, expected: &Expectations) -> Verdict {
    verify(
        evidence,
        &Collateral::new(anchors, OffsetDateTime::now_utc()),
        expected,
    )
}

fn failed(verdict: &Verdict) -> Vec<ClaimName> {
    verdict.failed().map(|claim| claim.name).collect()
}

#[tokio::test]
async fn evidence_is_verified_with_the_simulated_root_given_by_hand_only() {
    let served = start(&facts(), ServeLimits::default());
    assert_eq!(served.attester.tee(), TeeKind::SimulatedSnp);
    let evidence = served.attester.evidence(&REPORT_DATA).await.unwrap();

    let verdict = judge(&evidence, &given(&served.identity), &expected());
    assert_eq!(verdict.state, State::Verified, "{verdict}");
    assert!(verdict.simulated);
    assert!(
        verdict
            .not_proven
            .iter()
            .any(|text| text.contains("simulated"))
    );

    let verdict = judge(&evidence, &TrustAnchors::amd(), &expected());
    assert_eq!(verdict.state, State::NotVerified);
    assert_eq!(failed(&verdict), [ClaimName::CertificateChain]);
    assert!(!verdict.simulated);

    // Another simulator's root has the same names and another key.
    let verdict = judge(&evidence, &given(&identity()), &expected());
    assert_eq!(failed(&verdict), [ClaimName::CertificateChain]);
}

#[tokio::test]
async fn evidence_survives_the_key_brokers_json() {
    let served = start(&facts(), ServeLimits::default());
    let evidence = served.attester.evidence(&REPORT_DATA).await.unwrap();
    let json = serde_json::to_vec(&evidence.to_kbs_json().unwrap()).unwrap();
    let received = SnpEvidence::parse_kbs_json(&json).unwrap();
    assert_eq!(received, evidence);
    let verdict = judge(&received, &given(&served.identity), &expected());
    assert_eq!(verdict.state, State::Verified);
}

#[tokio::test]
async fn whatever_is_not_as_expected_is_refused_by_name() {
    let served = start(&facts(), ServeLimits::default());
    let evidence = served.attester.evidence(&REPORT_DATA).await.unwrap();
    let anchors = given(&served.identity);
    let own = evidence.report.reported_tcb();
    let newer = redoubt_evidence::TcbVersion {
        snp: own.snp + 1,
        ..own
    };
    let cases = [
        (
            ClaimName::LaunchDigest,
            Expectations {
                launch_digests: ReferenceSet::one([1; 48], "test"),
                ..expected()
            },
        ),
        (
            ClaimName::HostData,
            Expectations {
                host_data: ReferenceSet::one([1; 32], "test"),
                ..expected()
            },
        ),
        (
            ClaimName::ReportData,
            Expectations {
                report_data: ReferenceSet::one([1; 64], "test"),
                ..expected()
            },
        ),
        (
            ClaimName::ReportedTcb,
            Expectations {
                minimum_tcb: MinimumTcb {
                    reported: Some(newer),
                    ..MinimumTcb::default()
                },
                ..expected()
            },
        ),
    ];
    for (name, expected) in cases {
        let verdict = judge(&evidence, &anchors, &expected);
        assert_eq!(failed(&verdict), [name]);
        assert_eq!(verdict.state, State::NotVerified);
    }
}

#[tokio::test]
async fn debuggable_and_movable_guests_are_refused() {
    let cases = [
        (1 << 19, vec![ClaimName::DebugPolicy]),
        (1 << 18, vec![ClaimName::MigrationPolicy]),
        (
            1 << 18 | 1 << 19,
            vec![ClaimName::DebugPolicy, ClaimName::MigrationPolicy],
        ),
    ];
    for (bits, names) in cases {
        let policy = GuestPolicy(GuestPolicy::RELEASE.0 | bits);
        let served = start(&LaunchFacts { policy, ..facts() }, ServeLimits::default());
        let evidence = served.attester.evidence(&REPORT_DATA).await.unwrap();
        let verdict = judge(&evidence, &given(&served.identity), &expected());
        assert_eq!(failed(&verdict), names);
    }
}

#[tokio::test]
async fn a_report_for_a_less_privileged_level_is_refused() {
    let served = start(&facts(), ServeLimits::default());
    let request = ReportRequest {
        vmpl: 1,
        ..ReportRequest::new(REPORT_DATA)
    };
    let evidence = exchange(&served.socket, &request.to_bytes()).await.unwrap();
    let verdict = judge(&evidence, &given(&served.identity), &expected());
    assert_eq!(failed(&verdict), [ClaimName::Vmpl]);
}

#[tokio::test]
async fn the_guest_learns_its_own_host_data() {
    let served = start(&facts(), ServeLimits::default());
    assert_eq!(served.attester.host_data().await.unwrap(), HOST_DATA);
}

#[tokio::test]
async fn an_id_block_is_reported_and_can_be_required() {
    let block = IdBlockFacts {
        id_key_digest: [3; 48],
        author_key_digest: Some([4; 48]),
        family_id: [5; 16],
        image_id: [6; 16],
        guest_svn: 7,
    };
    let served = start(
        &LaunchFacts {
            id_block: Some(block),
            ..facts()
        },
        ServeLimits::default(),
    );
    let evidence = served.attester.evidence(&REPORT_DATA).await.unwrap();
    assert_eq!(evidence.report.guest_svn(), 7);
    assert_eq!(evidence.report.raw().family_id, [5; 16]);
    let required = Expectations {
        id_key_digests: ReferenceSet::one([3; 48], "test"),
        author_key_digests: ReferenceSet::one([4; 48], "test"),
        ..expected()
    };
    let verdict = judge(&evidence, &given(&served.identity), &required);
    assert_eq!(verdict.state, State::Verified, "{verdict}");
}

#[tokio::test]
async fn reports_of_one_guest_share_their_id_and_those_of_two_do_not() {
    let served = start(&facts(), ServeLimits::default());
    let first = served.attester.evidence(&[1; 64]).await.unwrap().report;
    let second = served.attester.evidence(&[2; 64]).await.unwrap().report;
    assert_eq!(first.report_id(), second.report_id());
    assert_eq!(first.product(), Some(Product::Genoa));
    let other = SoftwarePsp::new(served.identity.clone(), &facts()).unwrap();
    let ReportResponse::Report(other) = other.report(&ReportRequest::new([1; 64])).unwrap() else {
        panic!("refused");
    };
    assert_ne!(other.report.report_id(), first.report_id());
}

async fn exchange(socket: &Path, request: &[u8]) -> Result<SnpEvidence, EvidenceError> {
    let mut stream = UnixStream::connect(socket).await.unwrap();
    stream
        .write_u32_le(u32::try_from(request.len()).unwrap())
        .await
        .unwrap();
    stream.write_all(request).await.unwrap();
    read_response(&mut stream).await
}

async fn read_response(stream: &mut UnixStream) -> Result<SnpEvidence, EvidenceError> {
    let length = stream.read_u32_le().await.unwrap();
    let mut response = vec![0; usize::try_from(length).unwrap()];
    stream.read_exact(&mut response).await.unwrap();
    ReportResponse::parse(&response)
}

/// Whether the server still answers a good guest.
async fn still_serves(served: &Served) {
    let evidence = served.attester.evidence(&REPORT_DATA).await.unwrap();
    assert_eq!(evidence.report.report_data(), &REPORT_DATA);
}

#[tokio::test]
async fn malformed_requests_get_a_status_and_no_report() {
    let served = start(&facts(), ServeLimits::default());
    let good = ReportRequest::new(REPORT_DATA).to_bytes();
    let with = |offset: usize, value: u8| {
        let mut bytes = good;
        bytes[offset] = value;
        bytes
    };
    let vlek = ReportRequest {
        key: KeySelector::Vlek,
        ..ReportRequest::new(REPORT_DATA)
    };
    let cases = [
        (with(64, 4), 0x16),
        (with(67, 0x80), 0x16),
        (with(95, 1), 0x16),
        (with(68, 9), 0x27),
        (vlek.to_bytes(), 0x27),
    ];
    for (request, status) in cases {
        let error = exchange(&served.socket, &request).await.unwrap_err();
        assert!(
            matches!(error, EvidenceError::ResponseStatus(seen) if seen == status),
            "{error:?}"
        );
    }
    still_serves(&served).await;
}

#[tokio::test]
async fn one_connection_carries_many_requests() {
    let served = start(&facts(), ServeLimits::default());
    let mut stream = UnixStream::connect(&served.socket).await.unwrap();
    for number in 0..5 {
        let request = ReportRequest::new([number; 64]).to_bytes();
        stream.write_u32_le(96).await.unwrap();
        stream.write_all(&request).await.unwrap();
        let evidence = read_response(&mut stream).await.unwrap();
        assert_eq!(evidence.report.report_data(), &[number; 64]);
    }
}

#[tokio::test]
async fn a_wrong_length_ends_only_its_own_connection() {
    let served = start(&facts(), ServeLimits::default());
    for length in [0, 95, 97, u32::MAX] {
        let mut stream = UnixStream::connect(&served.socket).await.unwrap();
        stream.write_u32_le(length).await.unwrap();
        let mut rest = Vec::new();
        // Closed by the server: the end of the stream, or a reset of it.
        let read = stream.read_to_end(&mut rest).await;
        assert!(read.is_err() || rest.is_empty());
    }
    still_serves(&served).await;
}

#[tokio::test]
async fn silent_guests_hold_no_connection_for_long() {
    let limits = ServeLimits {
        connections: 2,
        idle: Duration::from_millis(200),
        ..ServeLimits::default()
    };
    let served = start(&facts(), limits);
    let mut silent = UnixStream::connect(&served.socket).await.unwrap();
    let mut half = UnixStream::connect(&served.socket).await.unwrap();
    half.write_u32_le(96).await.unwrap();
    // Both places are taken, so a third guest is sent away.
    let refused = served.attester.evidence(&REPORT_DATA).await.unwrap_err();
    assert!(matches!(refused, AttesterError::Exchange(_)), "{refused:?}");
    // Both are closed after the idle time, and there is room again.
    let mut rest = Vec::new();
    silent.read_to_end(&mut rest).await.unwrap();
    half.read_to_end(&mut rest).await.unwrap();
    assert!(rest.is_empty());
    still_serves(&served).await;
}

#[tokio::test]
async fn requests_are_slowed_down_to_the_rate() {
    let limits = ServeLimits {
        per_second: 20,
        burst: 2,
        ..ServeLimits::default()
    };
    let served = start(&facts(), limits);
    let mut stream = UnixStream::connect(&served.socket).await.unwrap();
    let start = std::time::Instant::now();
    for _ in 0..10 {
        let request = ReportRequest::new(REPORT_DATA).to_bytes();
        stream.write_u32_le(96).await.unwrap();
        stream.write_all(&request).await.unwrap();
        read_response(&mut stream).await.unwrap();
    }
    // Two at once (three with the one just due), the other seven 50 ms apart.
    assert!(
        start.elapsed() >= Duration::from_millis(340),
        "{:?}",
        start.elapsed()
    );
}

#[tokio::test]
async fn connections_end_with_the_server() {
    let served = start(&facts(), ServeLimits::default());
    let mut stream = UnixStream::connect(&served.socket).await.unwrap();
    stream.write_u32_le(96).await.unwrap();
    stream
        .write_all(&ReportRequest::new(REPORT_DATA).to_bytes())
        .await
        .unwrap();
    read_response(&mut stream).await.unwrap();
    served.server.abort();
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest).await.unwrap();
    assert!(rest.is_empty());
}

#[tokio::test]
async fn a_flood_of_garbage_stops_neither_the_server_nor_another_connection() {
    let served = start(
        &facts(),
        ServeLimits {
            per_second: 2000,
            ..ServeLimits::default()
        },
    );
    let mut good = UnixStream::connect(&served.socket).await.unwrap();
    for round in 0..200_u32 {
        let mut bad = UnixStream::connect(&served.socket).await.unwrap();
        // The server may have hung up already.
        let _ = bad
            .write_all(&round.wrapping_mul(0x9E37_79B9).to_le_bytes().repeat(50))
            .await;
    }
    good.write_u32_le(96).await.unwrap();
    good.write_all(&ReportRequest::new(REPORT_DATA).to_bytes())
        .await
        .unwrap();
    let evidence = read_response(&mut good).await.unwrap();
    assert_eq!(evidence.report.report_data(), &REPORT_DATA);
    still_serves(&served).await;
}

#[tokio::test]
async fn without_a_secure_processor_there_is_a_clear_error() {
    let dir = tempfile::tempdir().unwrap();
    let attester = SimulatedAttester::new(UnixAddress(dir.path().join("none.sock")));
    let error = attester.evidence(&REPORT_DATA).await.unwrap_err();
    assert!(matches!(error, AttesterError::Connect { .. }));
}
