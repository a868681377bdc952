//! Where resources, policies and reference values are kept.

mod database;
mod embedded;
mod files;
mod values;

use std::sync::Arc;

use redoubt_kbs_protocol::ResourcePath;
use zeroize::Zeroizing;

pub use embedded::{EmbeddedStorage, PolicySummary, ResourceSummary};
pub(crate) use files::FileStorage;
pub(crate) use values::ReferenceValues;

use crate::KbsServerError;
use crate::config::{StorageKind, StorageSettings};
use crate::names::{PolicyName, Tenant};
use crate::stamp::FileStamp;

/// What tells one state of a policy from another without reading it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Revision {
    /// Of a file.
    File(FileStamp),
    /// Of a policy in the database.
    Stored(u64),
    /// The built-in default policy.
    BuiltIn,
}

/// Resources, policies and reference values, as a broker reads them.
#[derive(Debug)]
pub(crate) enum Storage {
    /// Files below directories: the operator's own tools write them.
    Files(FileStorage),
    /// A database that this process alone has open.
    Embedded(Arc<EmbeddedStorage>),
}

impl Storage {
    pub(crate) fn open(settings: &StorageSettings) -> Result<Self, KbsServerError> {
        Ok(match settings.kind {
            StorageKind::Files => Self::Files(FileStorage::open(settings)?),
            StorageKind::Embedded => Self::Embedded(Arc::new(EmbeddedStorage::open(
                &settings.database,
                &settings.key_file,
            )?)),
        })
    }

    /// The name of the policy that decides on a resource, whether it exists or not.
    pub(crate) fn policy_of(
        &self,
        tenant: &Tenant,
        path: &ResourcePath,
    ) -> Result<PolicyName, KbsServerError> {
        match self {
            Self::Files(_) => Ok(PolicyName::default()),
            Self::Embedded(storage) => storage.policy_of(tenant, path),
        }
    }

    /// A resource; `None` if there is none.
    pub(crate) fn resource(
        &self,
        tenant: &Tenant,
        path: &ResourcePath,
    ) -> Result<Option<Zeroizing<Vec<u8>>>, KbsServerError> {
        match self {
            Self::Files(storage) => storage.resource(tenant, path),
            Self::Embedded(storage) => storage.resource(tenant, path),
        }
    }

    /// The state of a policy; `None` if there is none of this name.
    pub(crate) fn policy_revision(
        &self,
        tenant: &Tenant,
        name: &PolicyName,
    ) -> Result<Option<Revision>, KbsServerError> {
        match self {
            Self::Files(storage) => storage.policy_revision(tenant, name),
            Self::Embedded(storage) => Ok(storage.policy_revision(tenant, name)),
        }
    }

    /// A policy's text; `None` if there is none of this name.
    pub(crate) fn policy(
        &self,
        tenant: &Tenant,
        name: &PolicyName,
    ) -> Result<Option<String>, KbsServerError> {
        match self {
            Self::Files(storage) => storage.policy(tenant, name),
            Self::Embedded(storage) => Ok(storage.policy(tenant, name)),
        }
    }

    /// A tenant's reference values.
    pub(crate) fn references(
        &self,
        tenant: &Tenant,
    ) -> Result<Arc<ReferenceValues>, KbsServerError> {
        match self {
            Self::Files(storage) => storage.references(tenant),
            Self::Embedded(storage) => Ok(storage.references(tenant)),
        }
    }

    /// The database, where there is one.
    pub(crate) fn embedded(&self) -> Option<&Arc<EmbeddedStorage>> {
        match self {
            Self::Files(_) => None,
            Self::Embedded(storage) => Some(storage),
        }
    }
}
