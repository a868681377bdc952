use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use serde::Deserialize;
use serde_json::Value;

use crate::KbsServerError;
use crate::files::read_bytes;
use crate::stamp::FileStamp;

/// Largest reference-value file, in bytes.
const MAX_FILE_BYTES: u64 = 4 * 1024 * 1024;

/// Most files in the directory.
const MAX_FILES: usize = 1000;

/// A launch that is known to be good.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnpReferenceValue {
    /// The launch digest.
    pub launch_digest: [u8; 48],
    /// The `HOST_DATA` that must come with it, where one is asked for.
    pub host_data: Option<[u8; 32]>,
    /// Where the value stands: file and position.
    pub source: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    version: u32,
    values: Vec<Entry>,
}

/// Unknown members are refused: one may be a condition that would be ignored.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    tee: String,
    launch_digest: String,
    host_data: Option<String>,
    /// What the value was computed from; for people.
    #[serde(default, rename = "inputs")]
    _inputs: Value,
}

/// Reads a file of reference values; `name` is used in sources and errors.
/// Values of other TEEs than SEV-SNP are skipped.
pub fn parse_reference_values(bytes: &[u8], name: &str) -> Result<Vec<SnpReferenceValue>, String> {
    let file: File = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
    if file.version != 1 {
        return Err(format!("version {} is not supported, only 1", file.version));
    }
    let mut values = Vec::new();
    for (index, entry) in file.values.iter().enumerate() {
        if entry.tee != "snp" {
            continue;
        }
        let wrong = |member: &str, size: usize| {
            format!("values[{index}].{member} is not {size} bytes in hexadecimal")
        };
        let mut launch_digest = [0; 48];
        hex::decode_to_slice(&entry.launch_digest, &mut launch_digest)
            .map_err(|_| wrong("launch_digest", 48))?;
        let host_data = match &entry.host_data {
            None => None,
            Some(text) => {
                let mut bytes = [0; 32];
                hex::decode_to_slice(text, &mut bytes).map_err(|_| wrong("host_data", 32))?;
                Some(bytes)
            }
        };
        let source = format!("{name}#{index}");
        values.push(SnpReferenceValue {
            launch_digest,
            host_data,
            source,
        });
    }
    Ok(values)
}

/// A directory of reference-value files, read again when something changed.
#[derive(Debug)]
pub(crate) struct ReferenceStore {
    dir: PathBuf,
    cache: Mutex<Cache>,
}

#[derive(Debug, Default)]
struct Cache {
    stamps: Vec<(PathBuf, FileStamp)>,
    values: Arc<Vec<SnpReferenceValue>>,
}

impl ReferenceStore {
    /// Reads the directory. At the start every file must be usable.
    pub(crate) fn open(dir: PathBuf) -> Result<Self, KbsServerError> {
        let stamps = list(&dir)?;
        let mut values = Vec::new();
        for (path, _) in &stamps {
            values.extend(read_file(path)?);
        }
        let cache = Cache {
            stamps,
            values: Arc::new(values),
        };
        Ok(Self {
            dir,
            cache: Mutex::new(cache),
        })
    }

    /// The values as the files say now. While the server runs, a file that
    /// cannot be used counts as empty, so that one broken file takes away its
    /// own values only.
    pub(crate) fn values(&self) -> Result<Arc<Vec<SnpReferenceValue>>, KbsServerError> {
        let stamps = list(&self.dir)?;
        let mut cache = self.cache.lock().unwrap_or_else(PoisonError::into_inner);
        if cache.stamps != stamps {
            let mut values = Vec::new();
            for (path, _) in &stamps {
                match read_file(path) {
                    Ok(more) => values.extend(more),
                    Err(error) => tracing::error!(
                        error = crate::refusal::chain_text(&error),
                        "reference values are left out"
                    ),
                }
            }
            tracing::info!(count = values.len(), "read reference values");
            *cache = Cache {
                stamps,
                values: Arc::new(values),
            };
        }
        Ok(Arc::clone(&cache.values))
    }
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

    fn file(digest: &str, host_data: &str) -> String {
        format!(
            r#"{{"version":1,"values":[{{"tee":"snp","launch_digest":"{digest}","host_data":{host_data},"inputs":{{"vcpus":1}}}}]}}"#
        )
    }

    #[test]
    fn values_are_read_in_either_case() {
        let text = file(&"Ab".repeat(48), &format!("\"{}\"", "01".repeat(32)));
        let values = parse_reference_values(text.as_bytes(), "f.json").unwrap();
        assert_eq!(
            values,
            [SnpReferenceValue {
                launch_digest: [0xab; 48],
                host_data: Some([1; 32]),
                source: "f.json#0".to_owned(),
            }]
        );
        let text = file(&"ab".repeat(48), "null");
        assert_eq!(
            parse_reference_values(text.as_bytes(), "f").unwrap()[0].host_data,
            None
        );
    }

    #[test]
    fn other_tees_are_skipped_and_malformed_values_refused() {
        let tdx = r#"{"version":1,"values":[{"tee":"tdx","launch_digest":"00"}]}"#;
        assert!(
            parse_reference_values(tdx.as_bytes(), "f")
                .unwrap()
                .is_empty()
        );
        for text in [
            "",
            "[]",
            r#"{"version":2,"values":[]}"#,
            r#"{"values":[]}"#,
            r#"{"version":1,"values":[{"tee":"snp","launch_digest":"00"}]}"#,
            r#"{"version":1,"values":[{"tee":"snp"}]}"#,
            &file(&"ab".repeat(48), "\"00\""),
            &file(&"zz".repeat(48), "null"),
            &file(&"ab".repeat(48), "null").replace("inputs", "minimum_tcb"),
        ] {
            assert!(
                parse_reference_values(text.as_bytes(), "f").is_err(),
                "{text}"
            );
        }
    }

    #[test]
    fn changed_directory_is_read_again_and_broken_file_counts_as_empty() {
        let dir = tempfile::tempdir().unwrap();
        let store = ReferenceStore::open(dir.path().to_owned()).unwrap();
        assert!(store.values().unwrap().is_empty());
        std::fs::write(dir.path().join("a.json"), file(&"aa".repeat(48), "null")).unwrap();
        std::fs::write(dir.path().join("b.json"), file(&"bb".repeat(48), "null")).unwrap();
        std::fs::write(dir.path().join(".c.json"), "not yet").unwrap();
        assert_eq!(store.values().unwrap().len(), 2);
        std::fs::write(dir.path().join("a.json"), "{").unwrap();
        let left = store.values().unwrap();
        assert_eq!(left.len(), 1);
        assert_eq!(left[0].launch_digest, [0xbb; 48]);
        std::fs::remove_file(dir.path().join("b.json")).unwrap();
        assert!(store.values().unwrap().is_empty());
        let refused = ReferenceStore::open(dir.path().to_owned()).unwrap_err();
        assert!(matches!(refused, KbsServerError::ReferenceValues { .. }));
    }
}
