//! A database in which every value is sealed for its place.

use std::fmt;
use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{PoisonError, RwLock, RwLockReadGuard};

use redb::{ReadableDatabase as _, ReadableTable as _, TableDefinition};
use zeroize::Zeroizing;

use crate::KbsServerError;
use crate::files::{read_text, replace, require_private, write_new};
use crate::keyring::KeyRing;

/// Memory for pages of the file, in bytes.
const CACHE_BYTES: usize = 4 * 1024 * 1024;

/// Largest key file, in bytes.
const MAX_KEY_FILE_BYTES: u64 = 64 * 1024;

/// The record that shows whether the key file belongs to the database.
const FORMAT_KEY: &str = "format";
const FORMAT: &[u8] = b"redoubt-kbs 1";

/// The tables, and what their keys are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Table {
    /// What the file is.
    Meta,
    /// `<tenant>/<repository>/<type>/<tag>`: the resource.
    Resources,
    /// The same: what is known about it.
    Descriptions,
    /// `<tenant>/<name>`: Rego.
    Policies,
    /// `<tenant>/<name>`: a document of reference values.
    References,
}

impl Table {
    const ALL: [Self; 5] = [
        Self::Meta,
        Self::Resources,
        Self::Descriptions,
        Self::Policies,
        Self::References,
    ];

    const fn name(self) -> &'static str {
        match self {
            Self::Meta => "meta",
            Self::Resources => "resources",
            Self::Descriptions => "descriptions",
            Self::Policies => "policies",
            Self::References => "references",
        }
    }

    const fn definition(self) -> TableDefinition<'static, &'static str, &'static [u8]> {
        TableDefinition::new(self.name())
    }
}

/// A key and its value.
pub(super) type Entry = (String, Zeroizing<Vec<u8>>);

/// One part of a change that happens as a whole.
pub(super) enum Change<'a> {
    Put(Table, &'a str, &'a [u8]),
    Delete(Table, &'a str),
}

/// The open database. The file is locked: no other process opens it meanwhile.
pub(super) struct Database {
    path: PathBuf,
    key_path: PathBuf,
    redb: redb::Database,
    keys: RwLock<KeyRing>,
}

impl Database {
    /// Opens the database and its key file; both are made where neither exists.
    pub(super) fn open(path: &Path, key_path: &Path) -> Result<Self, KbsServerError> {
        let keys = open_keys(path, key_path)?;
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(path)
            .map_err(|source| KbsServerError::Write {
                path: path.to_owned(),
                source,
            })?;
        let redb = redb::Builder::new()
            .set_cache_size(CACHE_BYTES)
            .create_file(file)
            .map_err(|error| match error {
                redb::DatabaseError::DatabaseAlreadyOpen => KbsServerError::DatabaseInUse {
                    path: path.to_owned(),
                },
                other => failed(path, other),
            })?;
        let database = Self {
            path: path.to_owned(),
            key_path: key_path.to_owned(),
            redb,
            keys: RwLock::new(keys),
        };
        database.check_format()?;
        Ok(database)
    }

    fn check_format(&self) -> Result<(), KbsServerError> {
        self.make_tables()?;
        match self.get(Table::Meta, FORMAT_KEY)? {
            None => self.write(&[Change::Put(Table::Meta, FORMAT_KEY, FORMAT)]),
            Some(format) if format.as_slice() == FORMAT => Ok(()),
            Some(_) => Err(KbsServerError::DatabaseFormat {
                path: self.path.clone(),
            }),
        }
    }

    fn make_tables(&self) -> Result<(), KbsServerError> {
        let exists =
            |error: &redb::TableError| matches!(error, redb::TableError::TableDoesNotExist(_));
        let read = self.redb.begin_read().map_err(|e| self.failed(e))?;
        let mut missing = false;
        for table in Table::ALL {
            match read.open_table(table.definition()) {
                Ok(_) => {}
                Err(error) if exists(&error) => missing = true,
                Err(error) => return Err(self.failed(error)),
            }
        }
        if !missing {
            return Ok(());
        }
        let write = self.redb.begin_write().map_err(|e| self.failed(e))?;
        for table in Table::ALL {
            write
                .open_table(table.definition())
                .map_err(|e| self.failed(e))?;
        }
        write.commit().map_err(|e| self.failed(e))
    }

    /// Where the file is.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// A value; `None` if there is none.
    pub(super) fn get(
        &self,
        table: Table,
        key: &str,
    ) -> Result<Option<Zeroizing<Vec<u8>>>, KbsServerError> {
        let keys = self.keys();
        let read = self.redb.begin_read().map_err(|e| self.failed(e))?;
        let open = read
            .open_table(table.definition())
            .map_err(|e| self.failed(e))?;
        let Some(sealed) = open.get(key).map_err(|e| self.failed(e))? else {
            return Ok(None);
        };
        self.unseal(&keys, table, key, sealed.value()).map(Some)
    }

    /// Values whose keys begin with `prefix` and come after `after`, in order,
    /// `limit` at most.
    pub(super) fn list(
        &self,
        table: Table,
        prefix: &str,
        after: &str,
        limit: usize,
    ) -> Result<Vec<Entry>, KbsServerError> {
        let keys = self.keys();
        let read = self.redb.begin_read().map_err(|e| self.failed(e))?;
        let open = read
            .open_table(table.definition())
            .map_err(|e| self.failed(e))?;
        let start = prefix.max(after);
        let mut found = Vec::new();
        for entry in open.range(start..).map_err(|e| self.failed(e))? {
            let (key, sealed) = entry.map_err(|e| self.failed(e))?;
            let key = key.value();
            if !key.starts_with(prefix) || found.len() >= limit {
                break;
            }
            if key > after {
                let value = self.unseal(&keys, table, key, sealed.value())?;
                found.push((key.to_owned(), value));
            }
        }
        Ok(found)
    }

    /// Makes a change. When this returns, all of it is on the disk; before, none
    /// of it can be seen.
    pub(super) fn write(&self, changes: &[Change<'_>]) -> Result<(), KbsServerError> {
        let keys = self.keys();
        let write = self.redb.begin_write().map_err(|e| self.failed(e))?;
        for change in changes {
            match change {
                Change::Put(table, key, value) => {
                    let sealed = keys
                        .seal(table.name(), key, value)
                        .map_err(|_| KbsServerError::NoRandomness)?;
                    let mut open = write
                        .open_table(table.definition())
                        .map_err(|e| self.failed(e))?;
                    open.insert(*key, sealed.as_slice())
                        .map_err(|e| self.failed(e))?;
                }
                Change::Delete(table, key) => {
                    let mut open = write
                        .open_table(table.definition())
                        .map_err(|e| self.failed(e))?;
                    open.remove(*key).map_err(|e| self.failed(e))?;
                }
            }
        }
        write.commit().map_err(|e| self.failed(e))
    }

    /// Seals everything with a new key and forgets the old ones. Whenever this
    /// is interrupted, the key file has every key that the database needs.
    pub(super) fn rotate(&self) -> Result<String, KbsServerError> {
        let mut keys = self.keys.write().unwrap_or_else(PoisonError::into_inner);
        keys.add_new().map_err(|_| KbsServerError::NoRandomness)?;
        replace(&self.key_path, keys.to_text().as_bytes(), 0o600)?;
        self.seal_again(&keys)?;
        keys.keep_first();
        replace(&self.key_path, keys.to_text().as_bytes(), 0o600)?;
        Ok(keys.active_id())
    }

    fn seal_again(&self, keys: &KeyRing) -> Result<(), KbsServerError> {
        let write = self.redb.begin_write().map_err(|e| self.failed(e))?;
        for table in Table::ALL {
            let mut open = write
                .open_table(table.definition())
                .map_err(|e| self.failed(e))?;
            let mut names = Vec::new();
            for entry in open.iter().map_err(|e| self.failed(e))? {
                let (key, _) = entry.map_err(|e| self.failed(e))?;
                names.push(key.value().to_owned());
            }
            for name in names {
                let value = match open.get(name.as_str()).map_err(|e| self.failed(e))? {
                    Some(sealed) => self.unseal(keys, table, &name, sealed.value())?,
                    None => continue,
                };
                let sealed = keys
                    .seal(table.name(), &name, &value)
                    .map_err(|_| KbsServerError::NoRandomness)?;
                open.insert(name.as_str(), sealed.as_slice())
                    .map_err(|e| self.failed(e))?;
            }
        }
        write.commit().map_err(|e| self.failed(e))
    }

    fn unseal(
        &self,
        keys: &KeyRing,
        table: Table,
        key: &str,
        sealed: &[u8],
    ) -> Result<Zeroizing<Vec<u8>>, KbsServerError> {
        keys.open(table.name(), key, sealed)
            .map_err(|reason| KbsServerError::Unsealable {
                path: self.path.clone(),
                record: format!("{} {key}", table.name()),
                reason: reason.to_string(),
            })
    }

    fn keys(&self) -> RwLockReadGuard<'_, KeyRing> {
        self.keys.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn failed(&self, error: impl Into<redb::Error>) -> KbsServerError {
        failed(&self.path, error)
    }
}

impl fmt::Debug for Database {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Database")
            .field("path", &self.path)
            .field("keys", &self.keys)
            .finish_non_exhaustive()
    }
}

fn failed(path: &Path, error: impl Into<redb::Error>) -> KbsServerError {
    KbsServerError::Database {
        path: path.to_owned(),
        source: Box::new(error.into()),
    }
}

fn open_keys(path: &Path, key_path: &Path) -> Result<KeyRing, KbsServerError> {
    if key_path.exists() {
        require_private(key_path)?;
        let text = read_text(key_path, MAX_KEY_FILE_BYTES)?;
        return KeyRing::parse(&text).map_err(|reason| KbsServerError::StorageKeys {
            path: key_path.to_owned(),
            reason,
        });
    }
    if path.exists() {
        return Err(KbsServerError::StorageKeys {
            path: key_path.to_owned(),
            reason: format!("it is missing, and {} is sealed with it", path.display()),
        });
    }
    let keys = KeyRing::generate().map_err(|_| KbsServerError::NoRandomness)?;
    write_new(key_path, keys.to_text().as_bytes(), 0o600)?;
    Ok(keys)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(dir: &tempfile::TempDir) -> Result<Database, KbsServerError> {
        Database::open(&dir.path().join("db"), &dir.path().join("key"))
    }

    fn put(database: &Database, key: &str, value: &[u8]) {
        let change = [Change::Put(Table::Resources, key, value)];
        database.write(&change).unwrap();
    }

    #[test]
    fn values_stay_and_are_not_readable_in_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let database = open(&dir).unwrap();
        put(&database, "t/a/b/c", b"a very recognisable secret");
        drop(database);
        let file = std::fs::read(dir.path().join("db")).unwrap();
        assert!(!file.windows(12).any(|part| part == b"recognisable"));
        let database = open(&dir).unwrap();
        let value = database.get(Table::Resources, "t/a/b/c").unwrap().unwrap();
        assert_eq!(value.as_slice(), b"a very recognisable secret");
        assert!(database.get(Table::Policies, "t/a/b/c").unwrap().is_none());
    }

    #[test]
    fn list_keeps_to_its_prefix_and_goes_on_after_a_key() {
        let dir = tempfile::tempdir().unwrap();
        let database = open(&dir).unwrap();
        for key in ["a/1", "b/1", "b/2", "b/3", "c/1"] {
            put(&database, key, key.as_bytes());
        }
        let list = |prefix, after, limit| -> Vec<String> {
            let found = database
                .list(Table::Resources, prefix, after, limit)
                .unwrap();
            found.into_iter().map(|(key, _)| key).collect()
        };
        assert_eq!(list("b/", "", 10), ["b/1", "b/2", "b/3"]);
        assert_eq!(list("b/", "b/1", 1), ["b/2"]);
        assert_eq!(list("b/", "b/3", 10), [""; 0]);
        assert_eq!(list("", "", 10).len(), 5);
    }

    #[test]
    fn rotation_leaves_one_new_key_and_every_value() {
        let dir = tempfile::tempdir().unwrap();
        let database = open(&dir).unwrap();
        put(&database, "k", b"v");
        let before = std::fs::read_to_string(dir.path().join("key")).unwrap();
        let id = database.rotate().unwrap();
        let after = std::fs::read_to_string(dir.path().join("key")).unwrap();
        assert_eq!(after.lines().count(), 1);
        assert!(after.starts_with(&id) && before != after);
        drop(database);
        let database = open(&dir).unwrap();
        let value = database.get(Table::Resources, "k").unwrap().unwrap();
        assert_eq!(value.as_slice(), b"v");
        drop(database);
        std::fs::write(dir.path().join("key"), before).unwrap();
        assert!(matches!(open(&dir), Err(KbsServerError::Unsealable { .. })));
    }

    #[test]
    fn interrupted_rotation_is_finished_by_the_next() {
        let dir = tempfile::tempdir().unwrap();
        let database = open(&dir).unwrap();
        put(&database, "k", b"v");
        {
            // As it stands on the disk between the two writes of the key file.
            let mut keys = database.keys.write().unwrap();
            keys.add_new().unwrap();
            replace(&database.key_path, keys.to_text().as_bytes(), 0o600).unwrap();
        }
        drop(database);
        let database = open(&dir).unwrap();
        let value = database.get(Table::Resources, "k").unwrap().unwrap();
        assert_eq!(value.as_slice(), b"v");
        database.rotate().unwrap();
        let text = std::fs::read_to_string(dir.path().join("key")).unwrap();
        assert_eq!(text.lines().count(), 1);
    }

    #[test]
    fn database_has_one_user_and_needs_its_key() {
        let dir = tempfile::tempdir().unwrap();
        let database = open(&dir).unwrap();
        assert!(matches!(
            open(&dir),
            Err(KbsServerError::DatabaseInUse { .. })
        ));
        drop(database);
        std::fs::remove_file(dir.path().join("key")).unwrap();
        let refused = open(&dir).unwrap_err();
        assert!(
            matches!(refused, KbsServerError::StorageKeys { .. }),
            "{refused:?}"
        );
        assert!(!dir.path().join("key").exists());
        std::fs::write(dir.path().join("db"), b"not a database").unwrap();
        std::fs::write(
            dir.path().join("key"),
            KeyRing::generate().unwrap().to_text().as_bytes(),
        )
        .unwrap();
        std::fs::set_permissions(
            dir.path().join("key"),
            std::os::unix::fs::PermissionsExt::from_mode(0o600),
        )
        .unwrap();
        assert!(matches!(open(&dir), Err(KbsServerError::Database { .. })));
    }
}
