use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use redoubt_kbs_protocol::{MAX_RESOURCE_BYTES, ResourcePath};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use super::database::{Change, Database, Table};
use super::{ReferenceValues, Revision};
use crate::KbsServerError;
use crate::names::{PolicyName, ReferenceSetName, Tenant};
use crate::policy::{MAX_POLICY_BYTES, PolicyProgram};
use crate::reference::{SnpReferenceValue, parse_reference_values, write_reference_values};

/// Most policies of all tenants together.
const MAX_POLICIES: usize = 1000;

/// Most reference values of all tenants together.
const MAX_REFERENCE_VALUES: usize = 100_000;

/// What is known about a resource without its bytes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResourceSummary {
    /// Its path.
    pub path: ResourcePath,
    /// Its size in bytes.
    pub size_bytes: usize,
    /// The policy that decides on its release.
    pub policy: PolicyName,
    /// When it was stored, in seconds since 1970.
    pub stored_s: u64,
}

/// What is known about a policy without its text.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PolicySummary {
    /// Its name.
    pub name: PolicyName,
    /// SHA-256 of its text, in hexadecimal.
    pub sha256: String,
}

/// Resources, policies and reference values in a database that this process
/// alone has open. Values are sealed; policies and reference values, which every
/// request needs, are kept in memory as well.
#[derive(Debug)]
pub struct EmbeddedStorage {
    database: Database,
    cache: RwLock<Cache>,
    /// Held while the database and the cache change together.
    writer: Mutex<()>,
}

type Sets = BTreeMap<ReferenceSetName, Vec<SnpReferenceValue>>;

#[derive(Debug, Default)]
struct Cache {
    policies: BTreeMap<(Tenant, PolicyName), (Arc<str>, u64)>,
    sets: HashMap<Tenant, Sets>,
    values: HashMap<Tenant, Arc<ReferenceValues>>,
    revision: u64,
}

impl EmbeddedStorage {
    /// Opens a database and its key file; both are made where neither exists.
    pub fn open(path: &Path, key_file: &Path) -> Result<Self, KbsServerError> {
        let database = Database::open(path, key_file)?;
        let unreadable = |record: String| KbsServerError::Unsealable {
            path: path.to_owned(),
            record,
            reason: "it is not what this version writes".to_owned(),
        };
        let mut cache = Cache::default();
        for (key, text) in database.list(Table::Policies, "", "", usize::MAX)? {
            let (tenant, name) = split(&key).ok_or_else(|| unreadable(key.clone()))?;
            let name = PolicyName::parse(name).ok_or_else(|| unreadable(key.clone()))?;
            let text = std::str::from_utf8(&text).map_err(|_| unreadable(key.clone()))?;
            cache.policies.insert((tenant, name), (text.into(), 0));
        }
        for (key, document) in database.list(Table::References, "", "", usize::MAX)? {
            let (tenant, name) = split(&key).ok_or_else(|| unreadable(key.clone()))?;
            let set = ReferenceSetName::parse(name).ok_or_else(|| unreadable(key.clone()))?;
            let values =
                parse_reference_values(&document, name).map_err(|_| unreadable(key.clone()))?;
            cache.sets.entry(tenant).or_default().insert(set, values);
        }
        let tenants: Vec<Tenant> = cache.sets.keys().cloned().collect();
        for tenant in tenants {
            cache.merge(&tenant);
        }
        Ok(Self {
            database,
            cache: RwLock::new(cache),
            writer: Mutex::new(()),
        })
    }

    /// A resource; `None` if there is none.
    pub fn resource(
        &self,
        tenant: &Tenant,
        path: &ResourcePath,
    ) -> Result<Option<Zeroizing<Vec<u8>>>, KbsServerError> {
        self.database
            .get(Table::Resources, &resource_key(tenant, path))
    }

    /// The policy that decides on a resource; the default one where there is no
    /// resource, so that a guest cannot tell what exists.
    pub(crate) fn policy_of(
        &self,
        tenant: &Tenant,
        path: &ResourcePath,
    ) -> Result<PolicyName, KbsServerError> {
        let key = resource_key(tenant, path);
        let Some(text) = self.database.get(Table::Descriptions, &key)? else {
            return Ok(PolicyName::default());
        };
        Ok(self.summary(&key, &text)?.policy)
    }

    /// Stores a resource or replaces it.
    pub fn put_resource(
        &self,
        tenant: &Tenant,
        path: &ResourcePath,
        bytes: &[u8],
        policy: &PolicyName,
        now_s: u64,
    ) -> Result<(), KbsServerError> {
        if bytes.len() > MAX_RESOURCE_BYTES {
            return Err(KbsServerError::ResourceTooLarge {
                size_bytes: bytes.len(),
                limit_bytes: MAX_RESOURCE_BYTES,
            });
        }
        let _writer = self.writer();
        if *policy != PolicyName::default() && self.policy_revision(tenant, policy).is_none() {
            return Err(KbsServerError::NoSuchPolicy {
                name: policy.clone(),
            });
        }
        let summary = ResourceSummary {
            path: path.clone(),
            size_bytes: bytes.len(),
            policy: policy.clone(),
            stored_s: now_s,
        };
        let key = resource_key(tenant, path);
        let description = serde_json::to_vec(&summary).unwrap_or_default();
        self.database.write(&[
            Change::Put(Table::Resources, &key, bytes),
            Change::Put(Table::Descriptions, &key, &description),
        ])
    }

    /// Removes a resource; whether there was one.
    pub fn delete_resource(
        &self,
        tenant: &Tenant,
        path: &ResourcePath,
    ) -> Result<bool, KbsServerError> {
        let _writer = self.writer();
        let key = resource_key(tenant, path);
        let existed = self.database.get(Table::Descriptions, &key)?.is_some();
        self.database.write(&[
            Change::Delete(Table::Resources, &key),
            Change::Delete(Table::Descriptions, &key),
        ])?;
        Ok(existed)
    }

    /// A tenant's resources in order, after one and `limit` at most.
    pub fn list_resources(
        &self,
        tenant: &Tenant,
        after: Option<&ResourcePath>,
        limit: usize,
    ) -> Result<Vec<ResourceSummary>, KbsServerError> {
        let prefix = format!("{tenant}/");
        let after = after.map_or_else(String::new, |path| resource_key(tenant, path));
        self.database
            .list(Table::Descriptions, &prefix, &after, limit)?
            .iter()
            .map(|(key, text)| self.summary(key, text))
            .collect()
    }

    fn summary(&self, key: &str, text: &[u8]) -> Result<ResourceSummary, KbsServerError> {
        serde_json::from_slice(text).map_err(|_| KbsServerError::Unsealable {
            path: self.database.path().to_owned(),
            record: key.to_owned(),
            reason: "it is not what this version writes".to_owned(),
        })
    }

    pub(crate) fn policy_revision(&self, tenant: &Tenant, name: &PolicyName) -> Option<Revision> {
        let key = (tenant.clone(), name.clone());
        match self.read().policies.get(&key) {
            Some((_, revision)) => Some(Revision::Stored(*revision)),
            None if *name == PolicyName::default() => Some(Revision::BuiltIn),
            None => None,
        }
    }

    /// A policy's text; the built-in one where nobody has set the default policy.
    pub fn policy(&self, tenant: &Tenant, name: &PolicyName) -> Option<String> {
        let key = (tenant.clone(), name.clone());
        match self.read().policies.get(&key) {
            Some((text, _)) => Some(text.to_string()),
            None if *name == PolicyName::default() => Some(crate::DEFAULT_POLICY.to_owned()),
            None => None,
        }
    }

    /// Sets a policy, which must be usable.
    pub fn put_policy(
        &self,
        tenant: &Tenant,
        name: &PolicyName,
        text: &str,
    ) -> Result<(), KbsServerError> {
        if text.len() > MAX_POLICY_BYTES {
            return Err(KbsServerError::PolicyText {
                name: name.clone(),
                reason: format!("it has more than {MAX_POLICY_BYTES} bytes"),
            });
        }
        PolicyProgram::compile(name.as_str(), text).map_err(|reason| {
            KbsServerError::PolicyText {
                name: name.clone(),
                reason,
            }
        })?;
        let _writer = self.writer();
        let key = (tenant.clone(), name.clone());
        {
            let cache = self.read();
            if cache.policies.len() >= MAX_POLICIES && !cache.policies.contains_key(&key) {
                return Err(KbsServerError::TooMany {
                    what: "policies",
                    limit: MAX_POLICIES,
                });
            }
        }
        let record = format!("{tenant}/{name}");
        self.database
            .write(&[Change::Put(Table::Policies, &record, text.as_bytes())])?;
        let mut cache = self.change();
        cache.revision += 1;
        let revision = cache.revision;
        cache.policies.insert(key, (text.into(), revision));
        Ok(())
    }

    /// Removes a policy; whether there was one. One that a resource names stays.
    pub fn delete_policy(
        &self,
        tenant: &Tenant,
        name: &PolicyName,
    ) -> Result<bool, KbsServerError> {
        let _writer = self.writer();
        if *name != PolicyName::default()
            && let Some(user) = self
                .list_resources(tenant, None, usize::MAX)?
                .into_iter()
                .find(|resource| resource.policy == *name)
        {
            return Err(KbsServerError::PolicyInUse {
                name: name.clone(),
                path: user.path,
            });
        }
        let record = format!("{tenant}/{name}");
        self.database
            .write(&[Change::Delete(Table::Policies, &record)])?;
        let key = (tenant.clone(), name.clone());
        Ok(self.change().policies.remove(&key).is_some())
    }

    /// A tenant's policies by name.
    pub fn list_policies(&self, tenant: &Tenant) -> Vec<PolicySummary> {
        self.read()
            .policies
            .iter()
            .filter(|((owner, _), _)| owner == tenant)
            .map(|((_, name), (text, _))| PolicySummary {
                name: name.clone(),
                sha256: hex::encode(Sha256::digest(text.as_bytes())),
            })
            .collect()
    }

    pub(crate) fn references(&self, tenant: &Tenant) -> Arc<ReferenceValues> {
        self.read().values.get(tenant).cloned().unwrap_or_default()
    }

    /// Stores a set of reference values or replaces it.
    pub fn put_references(
        &self,
        tenant: &Tenant,
        name: &ReferenceSetName,
        values: Vec<SnpReferenceValue>,
    ) -> Result<(), KbsServerError> {
        let _writer = self.writer();
        let others = self.read().value_count_without(tenant, name);
        if others.saturating_add(values.len()) > MAX_REFERENCE_VALUES {
            return Err(KbsServerError::TooMany {
                what: "reference values",
                limit: MAX_REFERENCE_VALUES,
            });
        }
        let record = format!("{tenant}/{name}");
        let document = write_reference_values(&values);
        self.database
            .write(&[Change::Put(Table::References, &record, &document)])?;
        let mut cache = self.change();
        let sets = cache.sets.entry(tenant.clone()).or_default();
        sets.insert(name.clone(), values);
        cache.merge(tenant);
        Ok(())
    }

    /// Removes a set of reference values; whether there was one.
    pub fn delete_references(
        &self,
        tenant: &Tenant,
        name: &ReferenceSetName,
    ) -> Result<bool, KbsServerError> {
        let _writer = self.writer();
        let record = format!("{tenant}/{name}");
        self.database
            .write(&[Change::Delete(Table::References, &record)])?;
        let mut cache = self.change();
        let sets = cache.sets.entry(tenant.clone()).or_default();
        let existed = sets.remove(name).is_some();
        cache.merge(tenant);
        Ok(existed)
    }

    /// A tenant's sets of reference values by name.
    pub fn list_references(
        &self,
        tenant: &Tenant,
    ) -> BTreeMap<ReferenceSetName, Vec<SnpReferenceValue>> {
        self.read().sets.get(tenant).cloned().unwrap_or_default()
    }

    /// Seals everything with a new key; returns its identifier.
    pub fn rotate_key(&self) -> Result<String, KbsServerError> {
        let _writer = self.writer();
        self.database.rotate()
    }

    fn writer(&self) -> MutexGuard<'_, ()> {
        self.writer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn read(&self) -> RwLockReadGuard<'_, Cache> {
        self.cache.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self) -> RwLockWriteGuard<'_, Cache> {
        self.cache.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Cache {
    /// Joins a tenant's sets.
    fn merge(&mut self, tenant: &Tenant) {
        let sets = self.sets.get(tenant).into_iter().flatten();
        let values = sets.flat_map(|(name, values)| {
            values.iter().enumerate().map(move |(index, value)| {
                let source = format!("{name}#{index}");
                SnpReferenceValue {
                    source,
                    ..value.clone()
                }
            })
        });
        let merged = Arc::new(ReferenceValues::new(values.collect()));
        self.values.insert(tenant.clone(), merged);
    }

    fn value_count_without(&self, tenant: &Tenant, name: &ReferenceSetName) -> usize {
        let all: usize = self.values.values().map(|values| values.len()).sum();
        let own = self.sets.get(tenant).and_then(|sets| sets.get(name));
        all.saturating_sub(own.map_or(0, Vec::len))
    }
}

fn resource_key(tenant: &Tenant, path: &ResourcePath) -> String {
    format!("{tenant}/{path}")
}

fn split(key: &str) -> Option<(Tenant, &str)> {
    let (tenant, name) = key.split_once('/')?;
    Some((Tenant::parse(tenant)?, name))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(dir: &tempfile::TempDir) -> EmbeddedStorage {
        EmbeddedStorage::open(&dir.path().join("db"), &dir.path().join("key")).unwrap()
    }

    fn tenant(name: &str) -> Tenant {
        Tenant::parse(name).unwrap()
    }

    fn path(text: &str) -> ResourcePath {
        ResourcePath::parse(text).unwrap()
    }

    fn policy(name: &str) -> PolicyName {
        PolicyName::parse(name).unwrap()
    }

    fn value(byte: u8) -> SnpReferenceValue {
        SnpReferenceValue {
            launch_digest: [byte; 48],
            host_data: Some([byte; 32]),
            source: String::new(),
        }
    }

    const DENY: &str = "package policy\nallow := false\n";

    #[test]
    fn everything_is_there_again_after_a_restart() {
        let dir = tempfile::tempdir().unwrap();
        let storage = open(&dir);
        let set = ReferenceSetName::parse("release-1").unwrap();
        storage
            .put_policy(&tenant("t"), &policy("p"), DENY)
            .unwrap();
        storage
            .put_resource(&tenant("t"), &path("a/b/c"), b"x", &policy("p"), 7)
            .unwrap();
        storage
            .put_references(&tenant("t"), &set, vec![value(1)])
            .unwrap();
        drop(storage);
        let storage = open(&dir);
        let bytes = storage.resource(&tenant("t"), &path("a/b/c")).unwrap();
        assert_eq!(bytes.unwrap().as_slice(), b"x");
        assert_eq!(
            storage.list_resources(&tenant("t"), None, 10).unwrap(),
            [ResourceSummary {
                path: path("a/b/c"),
                size_bytes: 1,
                policy: policy("p"),
                stored_s: 7
            }]
        );
        assert_eq!(storage.policy(&tenant("t"), &policy("p")).unwrap(), DENY);
        let references = storage.references(&tenant("t"));
        assert_eq!(references.all()[0].source, "release-1#0");
        assert_eq!(references.all()[0].host_data, Some([1; 32]));
    }

    #[test]
    fn tenants_share_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let storage = open(&dir);
        let (one, two) = (tenant("one"), tenant("two"));
        let set = ReferenceSetName::parse("s").unwrap();
        storage
            .put_resource(&one, &path("a/b/c"), b"x", &PolicyName::default(), 0)
            .unwrap();
        storage.put_policy(&one, &policy("p"), DENY).unwrap();
        storage.put_references(&one, &set, vec![value(1)]).unwrap();
        assert!(storage.resource(&two, &path("a/b/c")).unwrap().is_none());
        assert!(storage.list_resources(&two, None, 10).unwrap().is_empty());
        assert!(storage.list_policies(&two).is_empty());
        assert!(storage.policy(&two, &policy("p")).is_none());
        assert_eq!(storage.references(&two).len(), 0);
        assert!(!storage.delete_resource(&two, &path("a/b/c")).unwrap());
        assert!(!storage.delete_references(&two, &set).unwrap());
        assert!(storage.delete_resource(&one, &path("a/b/c")).unwrap());
        assert!(storage.delete_references(&one, &set).unwrap());
        assert_eq!(storage.references(&one).len(), 0);
    }

    #[test]
    fn policy_is_checked_when_it_is_set_and_kept_while_it_is_used() {
        let dir = tempfile::tempdir().unwrap();
        let storage = open(&dir);
        let t = Tenant::default();
        let refused = storage.put_policy(&t, &policy("p"), "package policy\nallow if {");
        assert!(matches!(refused, Err(KbsServerError::PolicyText { .. })));
        let refused = storage.put_resource(&t, &path("a/b/c"), b"", &policy("p"), 0);
        assert!(matches!(refused, Err(KbsServerError::NoSuchPolicy { .. })));
        storage.put_policy(&t, &policy("p"), DENY).unwrap();
        let first = storage.policy_revision(&t, &policy("p"));
        storage.put_policy(&t, &policy("p"), DENY).unwrap();
        assert_ne!(storage.policy_revision(&t, &policy("p")), first);
        storage
            .put_resource(&t, &path("a/b/c"), b"", &policy("p"), 0)
            .unwrap();
        let refused = storage.delete_policy(&t, &policy("p"));
        assert!(matches!(refused, Err(KbsServerError::PolicyInUse { .. })));
        storage.delete_resource(&t, &path("a/b/c")).unwrap();
        assert!(storage.delete_policy(&t, &policy("p")).unwrap());
        assert!(!storage.delete_policy(&t, &policy("p")).unwrap());
    }

    #[test]
    fn default_policy_is_built_in_until_it_is_set() {
        let dir = tempfile::tempdir().unwrap();
        let storage = open(&dir);
        let (t, name) = (Tenant::default(), PolicyName::default());
        assert_eq!(storage.policy_revision(&t, &name), Some(Revision::BuiltIn));
        assert_eq!(storage.policy(&t, &name).unwrap(), crate::DEFAULT_POLICY);
        storage.put_policy(&t, &name, DENY).unwrap();
        assert_eq!(storage.policy(&t, &name).unwrap(), DENY);
    }

    #[test]
    fn key_rotation_keeps_what_is_stored() {
        let dir = tempfile::tempdir().unwrap();
        let storage = open(&dir);
        let t = Tenant::default();
        let name = PolicyName::default();
        storage
            .put_resource(&t, &path("a/b/c"), b"x", &name, 0)
            .unwrap();
        storage.rotate_key().unwrap();
        let bytes = storage.resource(&t, &path("a/b/c")).unwrap().unwrap();
        assert_eq!(bytes.as_slice(), b"x");
    }
}
