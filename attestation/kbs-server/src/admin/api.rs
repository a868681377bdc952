use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use redoubt_kbs_protocol::ResourcePath;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use time::OffsetDateTime;
use tokio::sync::Semaphore;
use zeroize::Zeroizing;

use super::token::{AdminClaims, AdminKeys, AdminRole};
use crate::KbsServerError;
use crate::audit::{AuditEvent, AuditHead, AuditLog, AuditRecord};
use crate::names::{PolicyName, ReferenceSetName, Tenant};
use crate::reference::{SnpReferenceValue, parse_reference_values};
use crate::refusal::{Refusal, Refused, chain_text};
use crate::rvps::{RvpsImport, parse_rvps};
use crate::storage::{EmbeddedStorage, PolicySummary, ResourceSummary, Storage};

/// Most resources in one page of a list.
const PAGE: usize = 1000;

/// A request to the admin API, before it is known who asks.
#[derive(Clone, Debug)]
pub(crate) struct AdminRequest {
    pub(crate) bearer: Option<Zeroizing<String>>,
    pub(crate) tenant: Tenant,
    pub(crate) peer: String,
}

/// A policy as it travels.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PolicyDocument {
    /// Its name; the default policy if it is missing.
    #[serde(default)]
    pub policy_id: PolicyName,
    /// Its text in base64url.
    pub policy: String,
}

impl PolicyDocument {
    /// Wraps a text.
    pub fn new(policy_id: PolicyName, text: &str) -> Self {
        Self {
            policy_id,
            policy: URL_SAFE_NO_PAD.encode(text),
        }
    }

    /// The text.
    pub fn text(&self) -> Option<String> {
        let bytes = URL_SAFE_NO_PAD.decode(&self.policy).ok()?;
        String::from_utf8(bytes).ok()
    }
}

/// One page of a list of resources.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResourcePage {
    /// The resources in order.
    pub resources: Vec<ResourceSummary>,
    /// The path after which the next page begins, if there is one.
    pub next: Option<ResourcePath>,
}

/// What an import of reference values came to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImportReport {
    /// The name of the set.
    pub name: ReferenceSetName,
    /// How many values it has now.
    pub values: usize,
    /// Names in the document that have no counterpart here.
    pub left_out: Vec<String>,
}

/// A reference value of a set.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReferenceSummary {
    /// The set.
    pub name: ReferenceSetName,
    /// The launch digest, in hexadecimal.
    pub launch_digest: String,
    /// The `HOST_DATA` that must come with it, in hexadecimal.
    pub host_data: Option<String>,
}

/// What administrators do. Every change is on record before it is made, and a
/// change that then fails is on record as well.
#[derive(Debug)]
pub(crate) struct Admin {
    keys: AdminKeys,
    storage: Arc<Storage>,
    audit: Arc<AuditLog>,
    /// One administrator's work at a time, so that it takes no more than one of
    /// the threads that serve guests as well.
    work: Arc<Semaphore>,
}

impl Admin {
    pub(crate) fn new(keys: AdminKeys, storage: Arc<Storage>, audit: Arc<AuditLog>) -> Self {
        Self {
            keys,
            storage,
            audit,
            work: Arc::new(Semaphore::new(1)),
        }
    }

    /// Whether anybody is an administrator.
    pub(crate) fn is_enabled(&self) -> bool {
        !self.keys.is_empty()
    }

    /// Stores a resource.
    pub(crate) async fn put_resource(
        &self,
        request: &AdminRequest,
        path: ResourcePath,
        policy: PolicyName,
        bytes: Zeroizing<Vec<u8>>,
    ) -> Result<(), Refused> {
        let record = AuditRecord {
            resource: Some(path.to_string()),
            policy: Some(policy.to_string()),
            ..self.record(request, AdminRole::Admin).await?
        };
        let tenant = request.tenant.clone();
        let now_s = now_s();
        self.change(AuditEvent::ResourceStored, record, move |storage| {
            storage.put_resource(&tenant, &path, &bytes, &policy, now_s)
        })
        .await
    }

    /// Removes a resource.
    pub(crate) async fn delete_resource(
        &self,
        request: &AdminRequest,
        path: ResourcePath,
    ) -> Result<bool, Refused> {
        let record = AuditRecord {
            resource: Some(path.to_string()),
            ..self.record(request, AdminRole::Admin).await?
        };
        let tenant = request.tenant.clone();
        self.change(AuditEvent::ResourceDeleted, record, move |storage| {
            storage.delete_resource(&tenant, &path)
        })
        .await
    }

    /// Lists resources.
    pub(crate) async fn list_resources(
        &self,
        request: &AdminRequest,
        after: Option<ResourcePath>,
    ) -> Result<ResourcePage, Refused> {
        self.authorise(request, AdminRole::Reader).await?;
        let tenant = request.tenant.clone();
        let listed = self
            .run(move |storage| storage.list_resources(&tenant, after.as_ref(), PAGE))
            .await;
        let resources = listed.map_err(|error| refused(&error))?;
        let is_full = resources.len() == PAGE;
        let last = resources.last().map(|resource| resource.path.clone());
        Ok(ResourcePage {
            resources,
            next: last.filter(|_| is_full),
        })
    }

    /// Sets a policy.
    pub(crate) async fn put_policy(
        &self,
        request: &AdminRequest,
        document: &[u8],
    ) -> Result<(), Refused> {
        let record = self.record(request, AdminRole::Admin).await?;
        let document: PolicyDocument = serde_json::from_slice(document)
            .map_err(|error| Refusal::ChangeRefused.because(error.to_string()))?;
        let text = document
            .text()
            .ok_or_else(|| Refusal::ChangeRefused.because("the policy is not base64url of text"))?;
        let record = AuditRecord {
            policy: Some(document.policy_id.to_string()),
            sha256: Some(hex::encode(Sha256::digest(&text))),
            ..record
        };
        let tenant = request.tenant.clone();
        self.change(AuditEvent::PolicySet, record, move |storage| {
            storage.put_policy(&tenant, &document.policy_id, &text)
        })
        .await
    }

    /// Removes a policy.
    pub(crate) async fn delete_policy(
        &self,
        request: &AdminRequest,
        name: PolicyName,
    ) -> Result<bool, Refused> {
        let record = AuditRecord {
            policy: Some(name.to_string()),
            ..self.record(request, AdminRole::Admin).await?
        };
        let tenant = request.tenant.clone();
        self.change(AuditEvent::PolicyDeleted, record, move |storage| {
            storage.delete_policy(&tenant, &name)
        })
        .await
    }

    /// Lists policies.
    pub(crate) async fn list_policies(
        &self,
        request: &AdminRequest,
    ) -> Result<Vec<PolicySummary>, Refused> {
        self.authorise(request, AdminRole::Reader).await?;
        Ok(self.embedded()?.list_policies(&request.tenant))
    }

    /// A policy with its text.
    pub(crate) async fn policy(
        &self,
        request: &AdminRequest,
        name: PolicyName,
    ) -> Result<Option<PolicyDocument>, Refused> {
        self.authorise(request, AdminRole::Reader).await?;
        let text = self.embedded()?.policy(&request.tenant, &name);
        Ok(text.map(|text| PolicyDocument::new(name, &text)))
    }

    /// Imports a document of reference values, of either form, as a set.
    pub(crate) async fn import_references(
        &self,
        request: &AdminRequest,
        name: ReferenceSetName,
        ignore_others: bool,
        document: &[u8],
    ) -> Result<ImportReport, Refused> {
        let record = AuditRecord {
            reference: Some(name.to_string()),
            sha256: Some(hex::encode(Sha256::digest(document))),
            ..self.record(request, AdminRole::Admin).await?
        };
        let import = read_references(document, name.as_str())
            .map_err(|reason| Refusal::ChangeRefused.because(reason))?;
        if !import.left_out.is_empty() && !ignore_others {
            return Err(Refusal::ChangeRefused.because(format!(
                "these have no counterpart here and would be left out: {}",
                import.left_out.join(", ")
            )));
        }
        let report = ImportReport {
            name: name.clone(),
            values: import.values.len(),
            left_out: import.left_out,
        };
        let tenant = request.tenant.clone();
        self.change(AuditEvent::ReferencesImported, record, move |storage| {
            storage.put_references(&tenant, &name, import.values)
        })
        .await?;
        Ok(report)
    }

    /// Removes a set of reference values.
    pub(crate) async fn delete_references(
        &self,
        request: &AdminRequest,
        name: ReferenceSetName,
    ) -> Result<bool, Refused> {
        let record = AuditRecord {
            reference: Some(name.to_string()),
            ..self.record(request, AdminRole::Admin).await?
        };
        let tenant = request.tenant.clone();
        self.change(AuditEvent::ReferencesDeleted, record, move |storage| {
            storage.delete_references(&tenant, &name)
        })
        .await
    }

    /// Lists reference values.
    pub(crate) async fn list_references(
        &self,
        request: &AdminRequest,
    ) -> Result<Vec<ReferenceSummary>, Refused> {
        self.authorise(request, AdminRole::Reader).await?;
        let sets = self.embedded()?.list_references(&request.tenant);
        let summaries = sets.into_iter().flat_map(|(name, values)| {
            values.into_iter().map(move |value| ReferenceSummary {
                name: name.clone(),
                launch_digest: hex::encode(value.launch_digest),
                host_data: value.host_data.map(hex::encode),
            })
        });
        Ok(summaries.collect())
    }

    /// The end of the audit log, to be compared with the file later.
    pub(crate) async fn audit_head(&self, request: &AdminRequest) -> Result<AuditHead, Refused> {
        self.authorise(request, AdminRole::Reader).await?;
        Ok(self.audit.head())
    }

    /// Seals everything with a new key.
    pub(crate) async fn rotate_key(&self, request: &AdminRequest) -> Result<String, Refused> {
        let claims = self.authorise(request, AdminRole::Admin).await?;
        if !claims.covers_all() {
            let refused = Refusal::NotPermitted.because("the storage is every tenant's");
            return Err(self.on_record(request, Some(&claims), refused).await);
        }
        let record = base_record(request, Some(&claims));
        self.change(AuditEvent::StorageKeyRotated, record, |storage| {
            storage.rotate_key()
        })
        .await
    }

    /// Who asks, if a token says so and its holder may do this.
    async fn authorise(
        &self,
        request: &AdminRequest,
        role: AdminRole,
    ) -> Result<AdminClaims, Refused> {
        let token = request.bearer.as_deref().map_or("", String::as_str);
        let claims = match self.keys.verify(token, now_s()) {
            Ok(claims) => claims,
            Err(reason) => {
                let refused = Refusal::NotAdministrator.because(reason);
                return Err(self.on_record(request, None, refused).await);
            }
        };
        let reason = if !claims.covers(&request.tenant) {
            "the token is not for this tenant"
        } else if role == AdminRole::Admin && claims.role != AdminRole::Admin {
            "the token is for reading only"
        } else {
            return Ok(claims);
        };
        let refused = Refusal::NotPermitted.because(reason);
        Err(self.on_record(request, Some(&claims), refused).await)
    }

    async fn record(
        &self,
        request: &AdminRequest,
        role: AdminRole,
    ) -> Result<AuditRecord, Refused> {
        let claims = self.authorise(request, role).await?;
        Ok(base_record(request, Some(&claims)))
    }

    async fn on_record(
        &self,
        request: &AdminRequest,
        claims: Option<&AdminClaims>,
        refused: Refused,
    ) -> Refused {
        let record = AuditRecord {
            code: Some(refused.refusal.code()),
            reason: Some(refused.reason.clone()),
            ..base_record(request, claims)
        };
        match self.audit.record(AuditEvent::AdminRefused, record).await {
            Ok(()) => refused,
            Err(error) => Refusal::Internal.because(chain_text(&error)),
        }
    }

    /// Records a change, makes it, and records it again if it failed.
    async fn change<T: Send + 'static>(
        &self,
        event: AuditEvent,
        record: AuditRecord,
        work: impl FnOnce(&EmbeddedStorage) -> Result<T, KbsServerError> + Send + 'static,
    ) -> Result<T, Refused> {
        self.embedded()?;
        let unwritten = |error: &KbsServerError| Refusal::Internal.because(chain_text(error));
        self.audit
            .record(event, record.clone())
            .await
            .map_err(|error| unwritten(&error))?;
        match self.run(work).await {
            Ok(done) => Ok(done),
            Err(error) => {
                let refused = refused(&error);
                let record = AuditRecord {
                    code: Some(refused.refusal.code()),
                    reason: Some(refused.reason.clone()),
                    ..record
                };
                self.audit
                    .record(AuditEvent::AdminRefused, record)
                    .await
                    .map_err(|error| unwritten(&error))?;
                Err(refused)
            }
        }
    }

    /// Works on the database off the threads that serve connections.
    async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&EmbeddedStorage) -> Result<T, KbsServerError> + Send + 'static,
    ) -> Result<T, KbsServerError> {
        let Some(storage) = self.storage.embedded().cloned() else {
            return Err(KbsServerError::StorageInFiles);
        };
        let stopped = |error: &dyn std::fmt::Display| {
            KbsServerError::Serve(std::io::Error::other(error.to_string()))
        };
        let work_permit = Arc::clone(&self.work).acquire_owned().await;
        let permit = work_permit.map_err(|error| stopped(&error))?;
        let task = tokio::task::spawn_blocking(move || {
            // Kept to the end of the work, even if nobody waits for it any more.
            let _permit = permit;
            work(&storage)
        });
        task.await.unwrap_or_else(|error| Err(stopped(&error)))
    }

    fn embedded(&self) -> Result<&Arc<EmbeddedStorage>, Refused> {
        self.storage
            .embedded()
            .ok_or_else(|| refused(&KbsServerError::StorageInFiles))
    }
}

fn base_record(request: &AdminRequest, claims: Option<&AdminClaims>) -> AuditRecord {
    let tenant = (!request.tenant.is_default()).then(|| request.tenant.to_string());
    AuditRecord {
        peer: Some(request.peer.clone()),
        tenant,
        actor: claims.map(|claims| claims.sub.clone()),
        ..AuditRecord::default()
    }
}

/// What an administrator is told about a change that cannot be made.
fn refused(error: &KbsServerError) -> Refused {
    let refusal = match error {
        KbsServerError::StorageInFiles => Refusal::ReadOnlyStorage,
        KbsServerError::ResourceTooLarge { .. } => Refusal::TooLarge,
        KbsServerError::PolicyText { .. }
        | KbsServerError::NoSuchPolicy { .. }
        | KbsServerError::PolicyInUse { .. }
        | KbsServerError::TooMany { .. } => Refusal::ChangeRefused,
        _ => Refusal::Internal,
    };
    refusal.because(chain_text(error))
}

/// Redoubt's own form has `values`; anything else must be Trustee's.
fn read_references(document: &[u8], name: &str) -> Result<RvpsImport, String> {
    #[derive(Deserialize)]
    struct Probe {
        values: Option<serde::de::IgnoredAny>,
    }
    let probe: Probe = serde_json::from_slice(document).map_err(|error| error.to_string())?;
    if probe.values.is_none() {
        return parse_rvps(document, name);
    }
    let values: Vec<SnpReferenceValue> = parse_reference_values(document, name)?;
    Ok(RvpsImport {
        values,
        left_out: Vec::new(),
    })
}

fn now_s() -> u64 {
    u64::try_from(OffsetDateTime::now_utc().unix_timestamp()).unwrap_or(0)
}
