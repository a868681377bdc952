use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use redoubt_kbs_protocol::{MAX_RESOURCE_BYTES, ResourcePath};
use zeroize::Zeroizing;

use super::{ReferenceValues, Revision};
use crate::KbsServerError;
use crate::config::StorageSettings;
use crate::files::{read_bytes, read_text};
use crate::names::{PolicyName, Tenant};
use crate::policy::MAX_POLICY_BYTES;
use crate::reference::{SnpReferenceValue, parse_reference_values};
use crate::refusal::chain_text;
use crate::stamp::FileStamp;

/// Largest reference-value file, in bytes.
const MAX_FILE_BYTES: u64 = 4 * 1024 * 1024;

/// Most files in the directory of reference values.
const MAX_FILES: usize = 1000;

/// One tenant's resources, policy and reference values in files.
///
/// Resources are `<repository>/<type>/<tag>` below one directory. A
/// [`ResourcePath`] has three safe file names, so that no request can leave
/// the directory. Symbolic links in it are its owner's and are followed.
#[derive(Debug)]
pub(crate) struct FileStorage {
    resources: PathBuf,
    policy: PathBuf,
    reference_values: PathBuf,
    cache: Mutex<Cache>,
}

#[derive(Debug, Default)]
struct Cache {
    stamps: Vec<(PathBuf, FileStamp)>,
    values: Arc<ReferenceValues>,
}

impl FileStorage {
    /// Reads the directories. At the start every file must be usable.
    pub(crate) fn open(settings: &StorageSettings) -> Result<Self, KbsServerError> {
        std::fs::read_dir(&settings.resources).map_err(|source| KbsServerError::Read {
            path: settings.resources.clone(),
            source,
        })?;
        let stamps = list(&settings.reference_values)?;
        let mut values = Vec::new();
        for (path, _) in &stamps {
            values.extend(read_file(path)?);
        }
        let cache = Cache {
            stamps,
            values: Arc::new(ReferenceValues::new(values)),
        };
        Ok(Self {
            resources: settings.resources.clone(),
            policy: settings.policy.clone(),
            reference_values: settings.reference_values.clone(),
            cache: Mutex::new(cache),
        })
    }

    pub(crate) fn resource(
        &self,
        tenant: &Tenant,
        path: &ResourcePath,
    ) -> Result<Option<Zeroizing<Vec<u8>>>, KbsServerError> {
        if !tenant.is_default() {
            return Ok(None);
        }
        let parts = path.parts();
        let file = parts
            .iter()
            .fold(self.resources.clone(), |dir, part| dir.join(part));
        match read_bytes(&file, MAX_RESOURCE_BYTES as u64) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(KbsServerError::Read { source, .. })
                if matches!(
                    source.kind(),
                    io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
                ) =>
            {
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    pub(crate) fn policy_revision(
        &self,
        tenant: &Tenant,
        name: &PolicyName,
    ) -> Result<Option<Revision>, KbsServerError> {
        if !has_policy(tenant, name) {
            return Ok(None);
        }
        let metadata = std::fs::metadata(&self.policy).map_err(|source| KbsServerError::Read {
            path: self.policy.clone(),
            source,
        })?;
        Ok(Some(Revision::File(FileStamp::of(&metadata))))
    }

    pub(crate) fn policy(
        &self,
        tenant: &Tenant,
        name: &PolicyName,
    ) -> Result<Option<String>, KbsServerError> {
        if !has_policy(tenant, name) {
            return Ok(None);
        }
        let text = read_text(&self.policy, MAX_POLICY_BYTES as u64)?;
        Ok(Some(text.to_string()))
    }

    /// The values as the files say now. While the server runs, a file that
    /// cannot be used counts as empty, so that one broken file takes away its
    /// own values only.
    pub(crate) fn references(
        &self,
        tenant: &Tenant,
    ) -> Result<Arc<ReferenceValues>, KbsServerError> {
        if !tenant.is_default() {
            return Ok(Arc::default());
        }
        let stamps = list(&self.reference_values)?;
        let mut cache = self.cache.lock().unwrap_or_else(PoisonError::into_inner);
        if cache.stamps != stamps {
            let mut values = Vec::new();
            for (path, _) in &stamps {
                match read_file(path) {
                    Ok(more) => values.extend(more),
                    Err(error) => {
                        let error = chain_text(&error);
                        tracing::error!(error, "reference values are left out");
                    }
                }
            }
            tracing::info!(count = values.len(), "read reference values");
            *cache = Cache {
                stamps,
                values: Arc::new(ReferenceValues::new(values)),
            };
        }
        Ok(Arc::clone(&cache.values))
    }
}

/// There is one tenant with one policy.
fn has_policy(tenant: &Tenant, name: &PolicyName) -> bool {
    tenant.is_default() && *name == PolicyName::default()
}

fn read_file(path: &Path) -> Result<Vec<SnpReferenceValue>, KbsServerError> {
    let bytes = read_bytes(path, MAX_FILE_BYTES)?;
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    parse_reference_values(&bytes, &name).map_err(|reason| KbsServerError::ReferenceValues {
        path: path.to_owned(),
        reason,
    })
}

/// The directory's `*.json` files by name. Hidden files are somebody's work in progress.
fn list(dir: &Path) -> Result<Vec<(PathBuf, FileStamp)>, KbsServerError> {
    let failed = |source| KbsServerError::Read {
        path: dir.to_owned(),
        source,
    };
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        let name = path
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        let is_json = path
            .extension()
            .is_some_and(|extension| extension == "json");
        if !is_json || name.starts_with('.') {
            continue;
        }
        if let Ok(metadata) = std::fs::metadata(&path) {
            found.push((path, FileStamp::of(&metadata)));
        }
        if found.len() > MAX_FILES {
            return Err(KbsServerError::ReferenceValues {
                path: dir.to_owned(),
                reason: format!("there are more than {MAX_FILES} files"),
            });
        }
    }
    found.sort_by(|a, b| a.0.cmp(&b.0));
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reference::tests::file;

    fn storage() -> (tempfile::TempDir, FileStorage) {
        let dir = tempfile::tempdir().unwrap();
        let settings = StorageSettings {
            resources: dir.path().join("resources"),
            reference_values: dir.path().join("values"),
            policy: dir.path().join("policy.rego"),
            ..StorageSettings::default()
        };
        std::fs::create_dir(&settings.resources).unwrap();
        std::fs::create_dir(&settings.reference_values).unwrap();
        let storage = FileStorage::open(&settings).unwrap();
        (dir, storage)
    }

    #[test]
    fn only_regular_files_of_bounded_size_are_resources() {
        let (dir, storage) = storage();
        let tenant = Tenant::default();
        let at = |path: &str| storage.resource(&tenant, &ResourcePath::parse(path).unwrap());
        let resources = dir.path().join("resources");
        std::fs::create_dir_all(resources.join("a/b/dir")).unwrap();
        std::fs::write(resources.join("a/b/key"), b"\0secret").unwrap();
        std::fs::write(resources.join("a/b/empty"), b"").unwrap();
        let large = vec![0; MAX_RESOURCE_BYTES + 1];
        std::fs::write(resources.join("a/b/large"), large).unwrap();
        assert_eq!(at("a/b/key").unwrap().unwrap().as_slice(), b"\0secret");
        assert_eq!(at("a/b/empty").unwrap().unwrap().as_slice(), b"");
        assert!(at("a/b/none").unwrap().is_none());
        assert!(at("a/none/key").unwrap().is_none());
        assert!(at("a/b/dir").is_err());
        assert!(at("a/b/large").is_err());
        let other = Tenant::parse("other").unwrap();
        let path = ResourcePath::parse("a/b/key").unwrap();
        assert!(storage.resource(&other, &path).unwrap().is_none());
    }

    #[test]
    fn changed_directory_is_read_again_and_broken_file_counts_as_empty() {
        let (dir, storage) = storage();
        let values = dir.path().join("values");
        let tenant = Tenant::default();
        let read = || storage.references(&tenant).unwrap();
        assert_eq!(read().len(), 0);
        std::fs::write(values.join("a.json"), file(&"aa".repeat(48), "null")).unwrap();
        std::fs::write(values.join("b.json"), file(&"bb".repeat(48), "null")).unwrap();
        std::fs::write(values.join(".c.json"), "not yet").unwrap();
        assert_eq!(read().len(), 2);
        std::fs::write(values.join("a.json"), "{").unwrap();
        assert_eq!(read().all()[0].launch_digest, [0xbb; 48]);
        std::fs::remove_file(values.join("b.json")).unwrap();
        assert_eq!(read().len(), 0);
        let settings = StorageSettings {
            resources: dir.path().join("resources"),
            reference_values: values,
            ..StorageSettings::default()
        };
        let refused = FileStorage::open(&settings).unwrap_err();
        assert!(matches!(refused, KbsServerError::ReferenceValues { .. }));
    }
}
