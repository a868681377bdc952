use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use redoubt_initdata::Initdata;
use redoubt_kbs_protocol::{
    AttestRequest, AttestResponse, AuthRequest, Challenge, HashAlgorithm, InitDataMessage,
    JweResponse, KbsProtocolError, ResourcePath, SessionCookie, Tee, report_data,
};
use serde_json::json;
use time::OffsetDateTime;

use crate::appraisal::{Appraisal, Appraiser};
use crate::audit::{AuditEvent, AuditLog, AuditRecord};
use crate::policy::ReleasePolicy;
use crate::reference::ReferenceStore;
use crate::refusal::{Refusal, Refused, chain_text};
use crate::resources::ResourceStore;
use crate::session::{Challenged, SessionStore};
use crate::token::{TokenClaims, TokenSigner};
use crate::{KbsServerError, ServerConfig};

/// The broker's work, apart from HTTP: challenges, evidence, releases.
#[derive(Debug)]
pub(crate) struct Broker {
    sessions: SessionStore,
    appraiser: Appraiser,
    signer: TokenSigner,
    token_lifetime_s: u32,
    policy: ReleasePolicy,
    resources: ResourceStore,
    audit: AuditLog,
}

/// An accepted answer to a challenge.
pub(crate) struct Accepted {
    pub(crate) cookie: SessionCookie,
    pub(crate) response: AttestResponse,
    pub(crate) lifetime_s: u32,
}

/// A request for a resource.
#[derive(Debug)]
pub(crate) struct ResourceRequest {
    pub(crate) cookie: Option<SessionCookie>,
    pub(crate) bearer: Option<String>,
    pub(crate) path: String,
    pub(crate) query: BTreeMap<String, String>,
    pub(crate) peer: String,
}

impl Broker {
    /// Opens everything that the configuration names; all of it must be usable.
    pub(crate) fn open(config: &ServerConfig) -> Result<Self, KbsServerError> {
        let references = ReferenceStore::open(config.storage.reference_values.clone())?;
        let appraiser = Appraiser::new(&config.snp, references)?;
        let signer = TokenSigner::load_or_create(&config.token.private_key)?;
        let policy = ReleasePolicy::open(config.storage.policy.clone())?;
        let resources = ResourceStore::open(config.storage.resources.clone())?;
        let audit = AuditLog::open(&config.storage.audit_log)?;
        let lifetime = Duration::from_secs(config.session.lifetime_s.into());
        let max_sessions = usize::try_from(config.session.max_sessions).unwrap_or(usize::MAX);
        tracing::info!(roots = ?appraiser.root_names(), "trusted roots");
        Ok(Self {
            sessions: SessionStore::new(lifetime, max_sessions),
            appraiser,
            signer,
            token_lifetime_s: config.token.lifetime_s,
            policy,
            resources,
            audit,
        })
    }

    pub(crate) fn audit(&self) -> &AuditLog {
        &self.audit
    }

    pub(crate) fn sweep(&self) {
        self.sessions.sweep();
    }

    /// `POST /auth`.
    pub(crate) fn auth(&self, body: &[u8]) -> Result<(SessionCookie, Challenge), Refused> {
        let request = AuthRequest::parse(body).map_err(|error| refused(&error))?;
        if request.tee != Tee::Snp {
            let reason = format!("evidence of {} is not verified here", request.tee);
            return Err(Refusal::UnsupportedTee.because(reason));
        }
        let (cookie, nonce) = self.sessions.open(request.tee)?;
        Ok((cookie, Challenge::new(nonce)))
    }

    /// `POST /attest`. Every outcome of an answered challenge is recorded.
    pub(crate) fn attest(
        &self,
        cookie: Option<&SessionCookie>,
        body: &[u8],
        peer: &str,
    ) -> Result<Accepted, Refused> {
        let cookie =
            cookie.ok_or_else(|| Refusal::NoSession.because("no session cookie came along"))?;
        let challenged = self.sessions.take_challenge(cookie)?;
        let outcome = self.judge(&challenged, body);
        let record = AuditRecord {
            peer: Some(peer.to_owned()),
            nonce: Some(challenged.nonce.as_str().to_owned()),
            ..AuditRecord::default()
        };
        match outcome {
            Ok((claims, token)) => {
                let record = with_findings(record, &claims);
                self.write(AuditEvent::EvidenceAccepted, record)?;
                let lifetime_s = self.token_lifetime_s;
                let lifetime = Duration::from_secs(lifetime_s.into());
                self.sessions.attested(cookie, Arc::new(claims), lifetime);
                let response = AttestResponse { token };
                Ok(Accepted {
                    cookie: cookie.clone(),
                    response,
                    lifetime_s,
                })
            }
            Err(refused) => {
                let record = with_refusal(record, &refused);
                self.write(AuditEvent::EvidenceRefused, record)?;
                Err(refused)
            }
        }
    }

    fn judge(
        &self,
        challenged: &Challenged,
        body: &[u8],
    ) -> Result<(TokenClaims, String), Refused> {
        let request = AttestRequest::parse(body).map_err(|error| refused(&error))?;
        let runtime = &request.runtime_data;
        if runtime.nonce != challenged.nonce {
            return Err(Refusal::EvidenceRefused.because("the nonce is not the session's"));
        }
        let additional = &request.tee_evidence.additional_evidence;
        if !additional.is_empty() {
            // It would be bound, but not verified: better refused than half believed.
            return Err(Refusal::UnsupportedTee.because("evidence of further devices came along"));
        }
        let bound = report_data(
            HashAlgorithm::Sha384,
            &runtime.nonce,
            &runtime.tee_pubkey,
            additional,
        )
        .map_err(|error| refused(&error))?;
        let initdata = request.init_data.as_ref().map(read_initdata).transpose()?;
        let at = OffsetDateTime::now_utc();
        let evidence = &request.tee_evidence.primary_evidence;
        let appraisal = self
            .appraiser
            .appraise(evidence, bound, initdata.as_ref(), at)?;
        let claims = self.claims(&request, appraisal, at)?;
        let token = self
            .signer
            .sign(&claims)
            .map_err(|error| Refusal::Internal.because(error.to_string()))?;
        Ok((claims, token))
    }

    fn claims(
        &self,
        request: &AttestRequest,
        appraisal: Appraisal,
        at: OffsetDateTime,
    ) -> Result<TokenClaims, Refused> {
        let now_s = seconds(at)?;
        let (iat, exp) = TokenSigner::validity(now_s, self.token_lifetime_s);
        let runtime = &request.runtime_data;
        let mut submods = appraisal.submods;
        // Where Trustee's policies and plugins look for the guest's key.
        if let Some(evidence) = submods.pointer_mut("/cpu0/ear.veraison.annotated-evidence") {
            evidence["runtime_data_claims"] = json!({
                "nonce": runtime.nonce,
                "tee-pubkey": runtime.tee_pubkey,
            });
        }
        Ok(TokenClaims {
            iss: TokenSigner::issuer(),
            iat,
            exp,
            eat_nonce: runtime.nonce.as_str().to_owned(),
            tee_pubkey: runtime.tee_pubkey.clone(),
            submods,
            redoubt: appraisal.findings,
        })
    }

    /// `GET /resource/...`. A resource leaves only after its release is on
    /// record.
    pub(crate) fn resource(&self, request: &ResourceRequest) -> Result<JweResponse, Refused> {
        let claims = self.claims_of(request)?;
        let record = AuditRecord {
            peer: Some(request.peer.clone()),
            nonce: Some(claims.eat_nonce.clone()),
            resource: Some(request.path.clone()),
            ..AuditRecord::default()
        };
        let record = with_findings(record, &claims);
        match self.release(request, &claims) {
            Ok(response) => {
                self.write(AuditEvent::ResourceReleased, record)?;
                Ok(response)
            }
            Err(refused) => {
                self.write(AuditEvent::ResourceRefused, with_refusal(record, &refused))?;
                Err(refused)
            }
        }
    }

    fn claims_of(&self, request: &ResourceRequest) -> Result<Arc<TokenClaims>, Refused> {
        // A token says more than a session: where both come, it counts.
        if let Some(token) = &request.bearer {
            let now_s = seconds(OffsetDateTime::now_utc())?;
            let claims = self.signer.verify(token, now_s);
            return claims
                .map(Arc::new)
                .map_err(|reason| Refusal::InvalidToken.because(reason));
        }
        request
            .cookie
            .as_ref()
            .and_then(|cookie| self.sessions.claims(cookie))
            .ok_or_else(|| Refusal::NoSession.because("neither a token nor an attested session"))
    }

    fn release(
        &self,
        request: &ResourceRequest,
        claims: &TokenClaims,
    ) -> Result<JweResponse, Refused> {
        let path = ResourcePath::parse(&request.path)
            .map_err(|error| Refusal::InvalidPath.because(error.to_string()))?;
        if !self.policy.allows(claims, &path, &request.query)? {
            let reason = match claims.redoubt.shortcomings.as_slice() {
                [] => "the release policy does not allow it".to_owned(),
                shortcomings => shortcomings.join("; "),
            };
            return Err(Refusal::PolicyDenied.because(reason));
        }
        let resource = self.resources.read(&path)?;
        JweResponse::seal(&claims.tee_pubkey, &resource)
            .map_err(|error| Refusal::Internal.because(chain_text(&error)))
    }

    /// Without a record, nothing is answered.
    fn write(&self, event: AuditEvent, record: AuditRecord) -> Result<(), Refused> {
        self.audit.record(event, record).map_err(|error| {
            let reason = chain_text(&error);
            tracing::error!(reason, "the audit log cannot be written");
            Refusal::Internal.because(reason)
        })
    }
}

fn with_findings(record: AuditRecord, claims: &TokenClaims) -> AuditRecord {
    let findings = &claims.redoubt;
    let shortcomings = findings.shortcomings.join("; ");
    AuditRecord {
        tee: Some(findings.tee.clone()),
        launch_digest: Some(findings.launch_digest.clone()),
        host_data: Some(findings.host_data.clone()),
        reference: findings.reference.clone(),
        reason: (!shortcomings.is_empty()).then_some(shortcomings),
        ..record
    }
}

fn with_refusal(record: AuditRecord, refused: &Refused) -> AuditRecord {
    AuditRecord {
        code: Some(refused.refusal.code()),
        reason: Some(refused.reason.clone()),
        ..record
    }
}

fn read_initdata(message: &InitDataMessage) -> Result<Initdata, Refused> {
    if message.format != InitDataMessage::TOML {
        return Err(Refusal::EvidenceRefused.because("the init-data's format is not toml"));
    }
    Initdata::parse_toml(message.body.as_bytes()).map_err(|error| {
        Refusal::EvidenceRefused.because(format!("init-data: {}", chain_text(&error)))
    })
}

fn seconds(at: OffsetDateTime) -> Result<u64, Refused> {
    u64::try_from(at.unix_timestamp())
        .map_err(|_| Refusal::Internal.because("the clock stands before 1970"))
}

/// What a guest is told about a message that the protocol does not allow.
fn refused(error: &KbsProtocolError) -> Refused {
    let refusal = match error {
        KbsProtocolError::MessageTooLarge { .. } => Refusal::TooLarge,
        KbsProtocolError::UnsupportedVersion { .. } => Refusal::UnsupportedVersion,
        KbsProtocolError::UnknownTee(_) => Refusal::UnsupportedTee,
        KbsProtocolError::UnusableKey(_) => Refusal::UnsupportedKey,
        KbsProtocolError::NoRandomness | KbsProtocolError::EncryptionFailed => Refusal::Internal,
        _ => Refusal::MalformedRequest,
    };
    refusal.because(chain_text(error))
}
