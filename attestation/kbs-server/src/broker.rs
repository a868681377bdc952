use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use redoubt_evidence::SnpEvidence;
use redoubt_initdata::Initdata;
use redoubt_kbs_protocol::{
    AttestRequest, AttestResponse, AuthRequest, Challenge, HashAlgorithm, InitDataMessage,
    JweResponse, KbsProtocolError, ResourcePath, RuntimeData, SessionCookie, Tee, report_data,
};
use serde_json::json;
use time::OffsetDateTime;
use tokio::sync::Semaphore;

use crate::appraisal::{Appraisal, Appraiser};
use crate::audit::{AuditEvent, AuditLog, AuditRecord};
use crate::names::{PolicyName, Tenant};
use crate::policy::{PolicyDecision, ReleasePolicies};
use crate::refusal::{Refusal, Refused, chain_text};
use crate::session::{Challenged, SessionSealer, Sessions};
use crate::spent::SpentChallenges;
use crate::storage::Storage;
use crate::token::{TokenClaims, TokenSigner};
use crate::{KbsServerError, ServerConfig};

/// The broker's work for guests, apart from HTTP: challenges, evidence, releases.
#[derive(Debug)]
pub(crate) struct Broker {
    sessions: Sessions,
    appraiser: Appraiser,
    signer: TokenSigner,
    token_lifetime_s: u32,
    policies: ReleasePolicies,
    storage: Arc<Storage>,
    audit: Arc<AuditLog>,
    /// As many guests as there are CPUs are judged at a time, so that few
    /// threads and little memory serve many.
    work: Arc<Semaphore>,
}

/// An accepted answer to a challenge.
pub(crate) struct Accepted {
    pub(crate) response: AttestResponse,
    pub(crate) lifetime_s: u32,
}

/// An answer to a challenge.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) tenant: Tenant,
    pub(crate) cookie: Option<SessionCookie>,
    pub(crate) body: Vec<u8>,
    pub(crate) peer: String,
}

/// A request for a resource.
#[derive(Debug)]
pub(crate) struct ResourceRequest {
    pub(crate) tenant: Tenant,
    /// The token: of the `Authorization` header or of the cookie.
    pub(crate) token: Option<String>,
    pub(crate) path: String,
    pub(crate) query: BTreeMap<String, String>,
    pub(crate) peer: String,
}

/// What a guest answered a challenge with.
struct Sent {
    init_data: Option<InitDataMessage>,
    runtime: RuntimeData,
    evidence: Result<SnpEvidence, Refused>,
    additional: String,
}

impl Sent {
    fn parse(body: &[u8]) -> Result<Self, Refused> {
        if let Ok(request) = AttestRequest::<SnpEvidence>::parse_as(body) {
            return Ok(Self::of(request, Ok));
        }
        // Once more, at leisure: unusable evidence is told from an unusable message.
        let request = AttestRequest::parse(body).map_err(|error| refused(&error))?;
        Ok(Self::of(request, |evidence| {
            SnpEvidence::from_kbs_json(&evidence)
                .map_err(|error| Refusal::EvidenceRefused.because(chain_text(&error)))
        }))
    }

    fn of<E>(
        request: AttestRequest<E>,
        read: impl FnOnce(E) -> Result<SnpEvidence, Refused>,
    ) -> Self {
        Self {
            init_data: request.init_data,
            runtime: request.runtime_data,
            evidence: read(request.tee_evidence.primary_evidence),
            additional: request.tee_evidence.additional_evidence,
        }
    }
}

impl Broker {
    /// Opens everything that the configuration names; all of it must be usable.
    pub(crate) fn open(
        config: &ServerConfig,
        storage: Arc<Storage>,
        audit: Arc<AuditLog>,
    ) -> Result<Self, KbsServerError> {
        let appraiser = Appraiser::new(&config.snp)?;
        let signer = TokenSigner::open(&config.token)?;
        let policies = ReleasePolicies::default();
        policies.check(&storage)?;
        let lifetime = Duration::from_secs(config.session.lifetime_s.into());
        let sealer = SessionSealer::load_or_create(&config.session.key_file)?;
        let spent = SpentChallenges::open(config.session.spent_challenges.clone())?;
        let cpus = std::thread::available_parallelism().map_or(1, usize::from);
        tracing::info!(roots = ?appraiser.root_names(), "trusted roots");
        Ok(Self {
            sessions: Sessions::new(sealer, spent, lifetime),
            appraiser,
            signer,
            token_lifetime_s: config.token.lifetime_s,
            policies,
            storage,
            audit,
            work: Arc::new(Semaphore::new(cpus)),
        })
    }

    pub(crate) fn audit(&self) -> &AuditLog {
        &self.audit
    }

    pub(crate) fn signer(&self) -> &TokenSigner {
        &self.signer
    }

    pub(crate) fn sweep(&self) {
        if let Ok(now_s) = seconds(OffsetDateTime::now_utc()) {
            self.sessions.sweep(now_s);
        }
    }

    /// `POST /auth`.
    pub(crate) fn auth(
        &self,
        tenant: &Tenant,
        body: &[u8],
    ) -> Result<(SessionCookie, Challenge), Refused> {
        let request = AuthRequest::parse(body).map_err(|error| refused(&error))?;
        if request.tee != Tee::Snp {
            let reason = format!("evidence of {} is not verified here", request.tee);
            return Err(Refusal::UnsupportedTee.because(reason));
        }
        let now_s = seconds(OffsetDateTime::now_utc())?;
        let (cookie, nonce) = self.sessions.challenge(tenant, request.tee, now_s)?;
        Ok((cookie, Challenge::new(nonce)))
    }

    /// `POST /attest`. Every outcome of an answered challenge is recorded.
    pub(crate) async fn attest(self: &Arc<Self>, answer: Answer) -> Result<Accepted, Refused> {
        let peer = answer.peer.clone();
        let tenant = answer.tenant.clone();
        let (challenged, outcome) = self
            .work(move |broker| {
                let challenged = broker.take_challenge(&answer)?;
                let outcome = broker.judge(&answer, &challenged);
                Ok((challenged, outcome))
            })
            .await?;
        let record = AuditRecord {
            peer: Some(peer),
            nonce: Some(challenged.nonce.as_str().to_owned()),
            ..of_tenant(&tenant)
        };
        match outcome {
            Ok((claims, token)) => {
                let record = with_findings(record, &claims);
                self.write(AuditEvent::EvidenceAccepted, record).await?;
                Ok(Accepted {
                    response: AttestResponse { token },
                    lifetime_s: self.token_lifetime_s,
                })
            }
            Err(refused) => {
                let record = with_refusal(record, &refused);
                self.write(AuditEvent::EvidenceRefused, record).await?;
                Err(refused)
            }
        }
    }

    fn take_challenge(&self, answer: &Answer) -> Result<Challenged, Refused> {
        let cookie = answer
            .cookie
            .as_ref()
            .ok_or_else(|| Refusal::NoSession.because("no session cookie came along"))?;
        let now_s = seconds(OffsetDateTime::now_utc())?;
        self.sessions.take(&answer.tenant, cookie, now_s)
    }

    fn judge(
        &self,
        answer: &Answer,
        challenged: &Challenged,
    ) -> Result<(TokenClaims, String), Refused> {
        let request = Sent::parse(&answer.body)?;
        let runtime = &request.runtime;
        if runtime.nonce != challenged.nonce {
            return Err(Refusal::EvidenceRefused.because("the nonce is not the session's"));
        }
        let additional = &request.additional;
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
        let references = self
            .storage
            .references(&answer.tenant)
            .map_err(|error| Refusal::Internal.because(chain_text(&error)))?;
        let evidence = request.evidence?;
        let appraisal =
            self.appraiser
                .appraise(&evidence, bound, initdata.as_ref(), &references, at)?;
        let claims = self.claims(&answer.tenant, runtime, appraisal, at)?;
        let token = self
            .signer
            .sign(&claims)
            .map_err(|error| Refusal::Internal.because(error))?;
        Ok((claims, token))
    }

    fn claims(
        &self,
        tenant: &Tenant,
        runtime: &RuntimeData,
        appraisal: Appraisal,
        at: OffsetDateTime,
    ) -> Result<TokenClaims, Refused> {
        let now_s = seconds(at)?;
        let (iat, exp) = TokenSigner::validity(now_s, self.token_lifetime_s);
        let mut submods = appraisal.submods;
        // Where Trustee's policies and plugins look for the guest's key.
        if let Some(evidence) = submods.pointer_mut("/cpu0/ear.veraison.annotated-evidence") {
            evidence["runtime_data_claims"] = json!({
                "nonce": runtime.nonce,
                "tee-pubkey": runtime.tee_pubkey,
            });
        }
        Ok(TokenClaims {
            iss: self.signer.issuer().to_owned(),
            aud: self.signer.audience().to_owned(),
            iat,
            exp,
            tenant: tenant.clone(),
            eat_nonce: runtime.nonce.as_str().to_owned(),
            tee_pubkey: runtime.tee_pubkey.clone(),
            submods,
            redoubt: appraisal.findings,
        })
    }

    /// `GET /resource/...`. A resource leaves only after its release is on
    /// record.
    pub(crate) async fn resource(
        self: &Arc<Self>,
        request: ResourceRequest,
    ) -> Result<JweResponse, Refused> {
        let (record, outcome) = self
            .work(move |broker| {
                let claims = broker.claims_of(&request)?;
                let record = AuditRecord {
                    peer: Some(request.peer.clone()),
                    nonce: Some(claims.eat_nonce.clone()),
                    resource: Some(request.path.clone()),
                    ..of_tenant(&request.tenant)
                };
                let record = with_findings(record, &claims);
                Ok((record, broker.release(&request, &claims)))
            })
            .await?;
        match outcome {
            Ok((policy, response)) => {
                let record = AuditRecord {
                    policy: Some(policy.to_string()),
                    ..record
                };
                self.write(AuditEvent::ResourceReleased, record).await?;
                Ok(response)
            }
            Err(refused) => {
                let record = with_refusal(record, &refused);
                self.write(AuditEvent::ResourceRefused, record).await?;
                Err(refused)
            }
        }
    }

    fn claims_of(&self, request: &ResourceRequest) -> Result<TokenClaims, Refused> {
        let token = request
            .token
            .as_deref()
            .ok_or_else(|| Refusal::NoSession.because("neither a token nor an attested session"))?;
        let now_s = seconds(OffsetDateTime::now_utc())?;
        self.signer
            .verify(token, &request.tenant, now_s)
            .map_err(|reason| Refusal::InvalidToken.because(reason))
    }

    fn release(
        &self,
        request: &ResourceRequest,
        claims: &TokenClaims,
    ) -> Result<(PolicyName, JweResponse), Refused> {
        let internal = |error: &KbsServerError| Refusal::Internal.because(chain_text(error));
        let path = ResourcePath::parse(&request.path)
            .map_err(|error| Refusal::InvalidPath.because(error.to_string()))?;
        let policy = self
            .storage
            .policy_of(&request.tenant, &path)
            .map_err(|error| internal(&error))?;
        let decision =
            self.policies
                .decide(&self.storage, claims, &policy, &path, &request.query)?;
        if !decision.allowed {
            return Err(denied(&policy, &decision, claims));
        }
        let resource = self
            .storage
            .resource(&request.tenant, &path)
            .map_err(|error| internal(&error))?
            .ok_or_else(|| Refusal::NoSuchResource.because("there is no such resource"))?;
        let response = JweResponse::seal(&claims.tee_pubkey, &resource)
            .map_err(|error| Refusal::Internal.because(chain_text(&error)))?;
        Ok((policy, response))
    }

    /// Runs work that computes and reads files off the threads that serve
    /// connections.
    async fn work<T: Send + 'static>(
        self: &Arc<Self>,
        work: impl FnOnce(&Self) -> Result<T, Refused> + Send + 'static,
    ) -> Result<T, Refused> {
        let stopped = |error: &dyn std::fmt::Display| {
            Refusal::Internal.because(format!("a task failed: {error}"))
        };
        let work_permit = Arc::clone(&self.work).acquire_owned().await;
        let permit = work_permit.map_err(|error| stopped(&error))?;
        let broker = Arc::clone(self);
        let task = tokio::task::spawn_blocking(move || {
            // Kept to the end of the work, even if nobody waits for it any more.
            let _permit = permit;
            work(&broker)
        });
        task.await.unwrap_or_else(|error| Err(stopped(&error)))
    }

    /// Without a record, nothing is answered.
    async fn write(&self, event: AuditEvent, record: AuditRecord) -> Result<(), Refused> {
        self.audit.record(event, record).await.map_err(|error| {
            let reason = chain_text(&error);
            tracing::error!(reason, "the audit log cannot be written");
            Refusal::Internal.because(reason)
        })
    }
}

/// A denial with all that is known about its reason, for the audit log.
fn denied(policy: &PolicyName, decision: &PolicyDecision, claims: &TokenClaims) -> Refused {
    let mut reasons = claims.redoubt.shortcomings.clone();
    reasons.extend(decision.reasons.iter().cloned());
    if reasons.is_empty() {
        reasons.push(format!("the release policy {policy} does not allow it"));
    }
    Refusal::PolicyDenied.because(reasons.join("; "))
}

fn of_tenant(tenant: &Tenant) -> AuditRecord {
    AuditRecord {
        tenant: (!tenant.is_default()).then(|| tenant.to_string()),
        ..AuditRecord::default()
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
