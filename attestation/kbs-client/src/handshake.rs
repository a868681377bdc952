use std::time::Duration;

use redoubt_attester::Attester;
use redoubt_kbs_protocol::{
    AttestRequest, AttestResponse, AuthRequest, Challenge, InitDataMessage, KbsProtocolError,
    MAX_RESPONSE_BYTES, RuntimeData, SessionCookie, Tee, TeeEvidence, TeeKeyPair, TokenTimes,
    report_data,
};
use reqwest::StatusCode;
use tokio::time::Instant;
use zeroize::Zeroizing;

use crate::KbsClientError;
use crate::answer::{Step, refusal};
use crate::deadline::Deadline;
use crate::transport::{Answer, Transport, with_cookie};

/// How long a token is used whose lifetime is not known.
const UNKNOWN_LIFETIME: Duration = Duration::from_secs(60);

/// A token is not used in its last seconds, since it travels a while.
const MARGIN: Duration = Duration::from_secs(5);

/// An accepted handshake: resources come encrypted to this key.
pub(crate) struct Session {
    pub(crate) cookie: Option<SessionCookie>,
    pub(crate) token: Zeroizing<String>,
    pub(crate) key: TeeKeyPair,
    pub(crate) tee: Tee,
    pub(crate) lifetime: Duration,
    usable_until: Instant,
}

impl Session {
    pub(crate) fn is_usable(&self) -> bool {
        Instant::now() < self.usable_until
    }
}

/// Proves to the broker where this guest runs.
pub(crate) async fn attest(
    transport: &Transport,
    attester: &dyn Attester,
    initdata: Option<&str>,
    deadline: &Deadline,
) -> Result<Session, KbsClientError> {
    let protocol = |source: KbsProtocolError| KbsClientError::Protocol {
        url: transport.url().to_owned(),
        source,
    };
    let tee: Tee = attester
        .tee()
        .protocol_name()
        .parse()
        .map_err(KbsClientError::Local)?;

    let request = transport.post("/auth").json(&AuthRequest::new(tee));
    let answer = exchange(transport, request, Step::Auth, deadline).await?;
    let cookie = answer.cookie;
    let challenge = Challenge::parse(&answer.body).map_err(protocol)?;
    let hash = challenge.hash_algorithm().map_err(protocol)?;

    let key = TeeKeyPair::generate().map_err(KbsClientError::Local)?;
    let public = key.public_key();
    let bound = report_data(hash, &challenge.nonce, &public, "").map_err(KbsClientError::Local)?;
    let evidence = tokio::time::timeout(deadline.remaining(), attester.evidence(&bound))
        .await
        .map_err(|_| transport.given_up(deadline, "waiting for this guest's own evidence"))?
        .map_err(KbsClientError::Attester)?;
    let request = AttestRequest {
        init_data: initdata.map(|text| InitDataMessage::toml(text.to_owned())),
        runtime_data: RuntimeData {
            nonce: challenge.nonce,
            tee_pubkey: public,
        },
        tee_evidence: TeeEvidence {
            primary_evidence: evidence.to_kbs_json().map_err(KbsClientError::Evidence)?,
            additional_evidence: String::new(),
        },
    };

    let sent_at = Instant::now();
    let request = with_cookie(transport.post("/attest"), cookie.as_ref()).json(&request);
    let answer = exchange(transport, request, Step::Attest, deadline).await?;
    let token = Zeroizing::new(AttestResponse::parse(&answer.body).map_err(protocol)?.token);
    let lifetime = lifetime(&token).map_err(protocol)?;
    Ok(Session {
        cookie: answer.cookie.or(cookie),
        token,
        key,
        tee,
        lifetime,
        usable_until: sent_at + lifetime.saturating_sub(MARGIN),
    })
}

/// Sends a request and returns its answer if it is a success.
pub(crate) async fn exchange(
    transport: &Transport,
    request: reqwest::RequestBuilder,
    step: Step<'_>,
    deadline: &Deadline,
) -> Result<Answer, KbsClientError> {
    let answer = transport
        .send(request, MAX_RESPONSE_BYTES, deadline, step.doing())
        .await?;
    if answer.status == StatusCode::OK {
        Ok(answer)
    } else {
        Err(refusal(transport.url(), step, &answer))
    }
}

/// Measured from issue to expiry, both by the broker's clock: the guest's own
/// clock is its host's to set.
fn lifetime(token: &str) -> Result<Duration, KbsProtocolError> {
    const LONGEST: u64 = 86_400;
    let times = TokenTimes::parse(token)?;
    Ok(times
        .lifetime_s()
        .map_or(UNKNOWN_LIFETIME, |s| Duration::from_secs(s.min(LONGEST))))
}
