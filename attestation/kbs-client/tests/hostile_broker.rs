//! Brokers that are broken, busy or hostile, over plain HTTP on loopback.
#![expect(clippy::unwrap_used, reason = "a test's helpers fail as the test does")]

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use axum::Router;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use redoubt_attester::{Attester, AttesterError, TeeKind};
use redoubt_errors::UserError as _;
use redoubt_evidence::{CertTable, SnpEvidence, SnpReport};
use redoubt_kbs_client::{KbsClient, KbsClientConfig, KbsClientError};
use redoubt_kbs_protocol::{ErrorBody, ErrorKind, JweResponse, ResourcePath, TeeKeyPair};

/// `{"iat":0,"exp":300}` between two empty objects.
const TOKEN: &str = "e30.eyJpYXQiOjAsImV4cCI6MzAwfQ.e30";

/// A guest whose report says nothing; these brokers do not look at it.
#[derive(Debug)]
struct Blank(AtomicUsize);

#[async_trait]
impl Attester for Blank {
    fn tee(&self) -> TeeKind {
        TeeKind::Snp
    }

    async fn evidence(&self, report_data: &[u8; 64]) -> Result<SnpEvidence, AttesterError> {
        self.0.fetch_add(1, Ordering::Relaxed);
        let mut bytes = [0; 1184];
        bytes[0] = 3;
        bytes[0x34] = 1;
        bytes[0x50..0x90].copy_from_slice(report_data);
        let report = SnpReport::parse(&bytes)?;
        Ok(SnpEvidence {
            report,
            certs: CertTable::default(),
        })
    }
}

/// What a broker answers to the steps of the protocol.
#[derive(Clone)]
struct Script {
    auth: fn(usize) -> Response,
    attest: fn() -> Response,
    resource: fn(usize) -> Response,
    auth_calls: Arc<AtomicUsize>,
    resource_calls: Arc<AtomicUsize>,
    /// Cookie and authorization of each request.
    sent: Arc<Mutex<Vec<[Option<String>; 2]>>>,
}

impl Default for Script {
    fn default() -> Self {
        Self {
            auth: |_| r#"{"nonce":"abc","extra-params":""}"#.into_response(),
            attest: || format!(r#"{{"token":"{TOKEN}"}}"#).into_response(),
            resource: |_| StatusCode::IM_A_TEAPOT.into_response(),
            auth_calls: Arc::default(),
            resource_calls: Arc::default(),
            sent: Arc::default(),
        }
    }
}

async fn answer(State(script): State<Script>, request: Request) -> Response {
    let header = |name: &str| {
        let value = request.headers().get(name)?;
        Some(value.to_str().unwrap().to_owned())
    };
    let sent = [header("cookie"), header("authorization")];
    script.sent.lock().unwrap().push(sent);
    match request.uri().path() {
        "/kbs/v0/auth" => (script.auth)(script.auth_calls.fetch_add(1, Ordering::Relaxed)),
        "/kbs/v0/attest" => (script.attest)(),
        _ => (script.resource)(script.resource_calls.fetch_add(1, Ordering::Relaxed)),
    }
}

struct Outcome {
    error: KbsClientError,
    reports: usize,
    resource_calls: usize,
    took: Duration,
}

/// What a client with a deadline of two seconds gets from such a broker.
async fn outcome(script: Script) -> Outcome {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let resource_calls = Arc::clone(&script.resource_calls);
    let app = Router::new().fallback(answer).with_state(script);
    tokio::spawn(async move { axum::serve(listener, app).await });
    let guest = Arc::new(Blank(AtomicUsize::new(0)));
    let mut config = KbsClientConfig::new(url);
    config.deadline = Duration::from_secs(2);
    let client = KbsClient::new(config, Arc::clone(&guest) as Arc<dyn Attester>).unwrap();
    let started = Instant::now();
    let path = ResourcePath::parse("a/b/c").unwrap();
    let error = client.get_resource(&path).await.unwrap_err();
    Outcome {
        error,
        reports: guest.0.load(Ordering::Relaxed),
        resource_calls: resource_calls.load(Ordering::Relaxed),
        took: started.elapsed(),
    }
}

fn body(status: StatusCode, kind: &ErrorKind) -> Response {
    let body = serde_json::to_string(&ErrorBody::new(kind, "why")).unwrap();
    (status, body).into_response()
}

#[tokio::test]
async fn denial_in_trustees_words_is_final() {
    let resource = |_| body(StatusCode::UNAUTHORIZED, &ErrorKind::PolicyDeny);
    let outcome = outcome(Script {
        resource,
        ..Script::default()
    })
    .await;
    assert!(
        matches!(outcome.error, KbsClientError::Denied { .. }),
        "{:?}",
        outcome.error
    );
    assert_eq!((outcome.reports, outcome.resource_calls), (1, 1));
}

/// The refusals that a real Trustee was recorded to give.
const RECORDED: &str = include_str!("../../kbs-protocol/testdata/trustee-transcript.json");

/// Trustee's recorded answer of this type to such a request: status and body as they came.
fn recorded(path: &str, kind: &str) -> Response {
    let transcript: serde_json::Value = serde_json::from_str(RECORDED).unwrap();
    let found = transcript.as_array().unwrap().iter().find(|exchange| {
        let response = &exchange["response"];
        response["status"] != 200
            && exchange["request"]["path"].as_str().unwrap().contains(path)
            && response["body"].as_str().unwrap().contains(kind)
    });
    let response = &found.unwrap()["response"];
    let status = u16::try_from(response["status"].as_u64().unwrap()).unwrap();
    let body = response["body"].as_str().unwrap().to_owned();
    (StatusCode::from_u16(status).unwrap(), body).into_response()
}

#[tokio::test]
async fn recorded_refusals_of_trustee_are_told_apart() {
    let denied = outcome(Script {
        resource: |_| recorded("/resource/", "/PolicyDeny"),
        ..Script::default()
    });
    let missing = outcome(Script {
        resource: |_| recorded("/resource/", "/PluginInternalError"),
        ..Script::default()
    });
    let no_plugin = outcome(Script {
        resource: |_| recorded("/nosuch/", "/PluginNotFound"),
        ..Script::default()
    });
    let no_token = outcome(Script {
        resource: |_| recorded("/resource/", "/TokenNotFound"),
        ..Script::default()
    });
    let bad_token = outcome(Script {
        resource: |_| recorded("/resource/", "/TokenVerifierError"),
        ..Script::default()
    });
    let bad_auth = outcome(Script {
        auth: |_| recorded("/auth", "/AttestationError"),
        ..Script::default()
    });
    let bad_evidence = outcome(Script {
        attest: || recorded("/attest", "/AttestationError"),
        ..Script::default()
    });
    for (outcome, code, reports) in [
        (denied.await, "RDT-KBC-006", 1),
        (missing.await, "RDT-KBC-007", 1),
        (no_plugin.await, "RDT-KBC-007", 1),
        (no_token.await, "RDT-KBC-010", 2),
        (bad_token.await, "RDT-KBC-010", 2),
        (bad_auth.await, "RDT-KBC-009", 0),
        (bad_evidence.await, "RDT-KBC-008", 1),
    ] {
        assert_eq!(outcome.error.code().0, code, "{:?}", outcome.error);
        assert_eq!(outcome.reports, reports, "{:?}", outcome.error);
    }
}

/// Trustee goes by the cookie, other brokers by the token.
#[tokio::test]
async fn token_is_sent_as_bearer_beside_the_latest_cookie() {
    let script = Script {
        auth: |_| {
            let challenge = r#"{"nonce":"abc","extra-params":""}"#;
            ([("set-cookie", "kbs-session-id=one; Path=/")], challenge).into_response()
        },
        attest: || {
            let answer = format!(r#"{{"token":"{TOKEN}"}}"#);
            ([("set-cookie", "kbs-session-id=two; HttpOnly")], answer).into_response()
        },
        ..Script::default()
    };
    let sent = Arc::clone(&script.sent);
    outcome(script).await;
    let cookie = |value: &str| Some(format!("kbs-session-id={value}"));
    let bearer = Some(format!("Bearer {TOKEN}"));
    assert_eq!(
        *sent.lock().unwrap(),
        [
            [None, None],
            [cookie("one"), None],
            [cookie("two"), bearer.clone()]
        ]
    );
    let without_cookies = Script::default();
    let sent = Arc::clone(&without_cookies.sent);
    outcome(without_cookies).await;
    assert_eq!(
        *sent.lock().unwrap(),
        [[None, None], [None, None], [None, bearer]]
    );
}

#[tokio::test]
async fn lost_session_starts_one_more_handshake_and_no_third() {
    let resource = |_| body(StatusCode::UNAUTHORIZED, &ErrorKind::TokenVerifier);
    let outcome = outcome(Script {
        resource,
        ..Script::default()
    })
    .await;
    assert!(matches!(
        outcome.error,
        KbsClientError::SessionRefused { .. }
    ));
    assert_eq!((outcome.reports, outcome.resource_calls), (2, 2));
}

#[tokio::test]
async fn busy_broker_is_asked_again_within_the_deadline() {
    let auth = |_| StatusCode::SERVICE_UNAVAILABLE.into_response();
    let outcome = outcome(Script {
        auth,
        ..Script::default()
    })
    .await;
    let KbsClientError::Unavailable {
        tries, status: 503, ..
    } = outcome.error
    else {
        unreachable!("{:?}", outcome.error)
    };
    assert!((2..10).contains(&tries), "{tries}");
    assert!(outcome.took < Duration::from_secs(3));
}

#[tokio::test]
async fn broker_that_recovers_is_used() {
    let auth = |call| match call {
        0 | 1 => StatusCode::SERVICE_UNAVAILABLE.into_response(),
        _ => (Script::default().auth)(call),
    };
    let outcome = outcome(Script {
        auth,
        ..Script::default()
    })
    .await;
    assert!(matches!(
        outcome.error,
        KbsClientError::UnexpectedStatus { status: 418, .. }
    ));
    assert_eq!(outcome.reports, 1);
}

#[tokio::test]
async fn redirects_are_not_followed() {
    let auth = |_| (StatusCode::FOUND, [("location", "http://127.0.0.1:1/")]).into_response();
    let outcome = outcome(Script {
        auth,
        ..Script::default()
    })
    .await;
    assert!(matches!(
        outcome.error,
        KbsClientError::UnexpectedStatus { status: 302, .. }
    ));
}

#[tokio::test]
async fn answers_without_end_are_refused() {
    let auth = |_| "x".repeat(3 * 1024 * 1024).into_response();
    let announced = outcome(Script {
        auth,
        ..Script::default()
    })
    .await;
    assert!(matches!(
        announced.error,
        KbsClientError::AnswerTooLarge { .. }
    ));
    let auth = |_| {
        let chunks = std::iter::repeat_with(|| Ok::<_, std::io::Error>("x".repeat(65536)));
        axum::body::Body::from_stream(Chunks(Box::new(chunks))).into_response()
    };
    let endless = outcome(Script {
        auth,
        ..Script::default()
    })
    .await;
    assert!(matches!(
        endless.error,
        KbsClientError::AnswerTooLarge { .. }
    ));
}

/// An endless body.
struct Chunks(Box<dyn Iterator<Item = Result<String, std::io::Error>> + Send>);

impl futures::Stream for Chunks {
    type Item = Result<String, std::io::Error>;

    fn poll_next(
        mut self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Self::Item>> {
        std::task::Poll::Ready(self.0.next())
    }
}

#[tokio::test]
async fn answers_that_are_not_the_protocol_are_refused_by_name() {
    let garbage = |_| "<html>".into_response();
    let foreign_key = |_| {
        let key = TeeKeyPair::generate().unwrap().public_key();
        JweResponse::seal(&key, b"x")
            .unwrap()
            .to_json()
            .into_response()
    };
    let scripts = [
        Script {
            auth: garbage,
            ..Script::default()
        },
        Script {
            auth: |_| r#"{"nonce":""}"#.into_response(),
            ..Script::default()
        },
        Script {
            attest: || "{}".into_response(),
            ..Script::default()
        },
        Script {
            attest: || r#"{"token":"a.b.c"}"#.into_response(),
            ..Script::default()
        },
        Script {
            resource: garbage,
            ..Script::default()
        },
        Script {
            resource: foreign_key,
            ..Script::default()
        },
    ];
    for (index, script) in scripts.into_iter().enumerate() {
        let outcome = outcome(script).await;
        assert!(
            matches!(outcome.error, KbsClientError::Protocol { .. }),
            "{index}: {:?}",
            outcome.error
        );
    }
}
