//! Reports through configfs-tsm (Linux 6.7 and later, `Documentation/ABI/testing/configfs-tsm`).
//!
//! Reading `outblob` makes a new report whenever something was written since,
//! so a second writer in the same directory could silently change what is
//! signed. Each request therefore has a directory of its own, and the
//! generation must have moved by exactly our own writes.

use std::fs;
use std::io::{self, Read, Write};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use redoubt_evidence::{CertTable, MAX_TABLE_BYTES, SnpEvidence, SnpReport};

use crate::error::AttesterError;
use crate::kind::TeeKind;
use crate::{Attester, check_echo};

/// Where Linux has the report directory.
pub const CONFIGFS_REPORT_DIR: &str = "/sys/kernel/config/tsm/report";

/// The provider that the SNP guest driver registers.
const PROVIDER: &str = "sev_guest";

/// The generation after one write, which is all that a request does.
const GENERATION: u64 = 1;

/// The longest text attribute that is read, in bytes.
const MAX_TEXT_BYTES: usize = 4096;

/// The longest report attribute that is read, in bytes.
const MAX_REPORT_BYTES: usize = 16 * 1024;

/// Names request directories of this process apart.
static NEXT_REQUEST: AtomicU64 = AtomicU64::new(0);

/// Gets reports through configfs-tsm.
#[derive(Clone, Debug)]
pub struct ConfigfsAttester {
    base: PathBuf,
}

impl Default for ConfigfsAttester {
    fn default() -> Self {
        Self::at(CONFIGFS_REPORT_DIR)
    }
}

impl ConfigfsAttester {
    /// An attester whose report directory is `base`.
    pub fn at(base: impl Into<PathBuf>) -> Self {
        Self { base: base.into() }
    }

    /// Whether the kernel has the report directory.
    pub fn is_present(&self) -> bool {
        self.base.is_dir()
    }
}

/// Makes one report; blocks while the secure processor works.
fn request<T: ReportTree>(tree: &T, report_data: &[u8; 64]) -> Result<SnpEvidence, AttesterError> {
    let request = Request::create(tree)?;
    let provider = request.text("provider")?;
    if provider != PROVIDER {
        return Err(AttesterError::Provider { provider });
    }
    request.write("inblob", report_data)?;
    let report = request.read("outblob", MAX_REPORT_BYTES)?;
    let certs = request.read_optional("auxblob", MAX_TABLE_BYTES)?;
    let generation = request.text("generation")?;
    if generation.parse() != Ok(GENERATION) {
        return Err(AttesterError::Generation {
            expected: GENERATION,
            actual: generation,
        });
    }
    Ok(SnpEvidence {
        report: SnpReport::parse(&report)?,
        certs: CertTable::parse(&certs)?,
    })
}

#[async_trait]
impl Attester for ConfigfsAttester {
    fn tee(&self) -> TeeKind {
        TeeKind::Snp
    }

    async fn evidence(&self, report_data: &[u8; 64]) -> Result<SnpEvidence, AttesterError> {
        let (tree, data) = (
            Directory {
                base: self.base.clone(),
            },
            *report_data,
        );
        let evidence = tokio::task::spawn_blocking(move || request(&tree, &data))
            .await
            .map_err(|_joined| AttesterError::Interrupted)??;
        check_echo(evidence, report_data)
    }
}

/// Where requests are made: the kernel's tree, or an emulation of it.
trait ReportTree {
    /// The path of an attribute (or of the request itself, for an empty name),
    /// for messages.
    fn path(&self, request: &str, attribute: &str) -> PathBuf;

    /// Makes a request's directory, which must not exist.
    fn create(&self, request: &str) -> io::Result<()>;

    /// Reads an attribute of at most `limit` bytes; `None` if it is longer.
    fn read(&self, request: &str, attribute: &str, limit: usize) -> io::Result<Option<Vec<u8>>>;

    /// Writes an attribute with one call.
    fn write(&self, request: &str, attribute: &str, bytes: &[u8]) -> io::Result<()>;

    /// Removes a request's directory.
    fn remove(&self, request: &str) -> io::Result<()>;
}

/// A directory of a file system.
struct Directory {
    base: PathBuf,
}

impl ReportTree for Directory {
    fn path(&self, request: &str, attribute: &str) -> PathBuf {
        self.base.join(request).join(attribute)
    }

    fn create(&self, request: &str) -> io::Result<()> {
        // An existing directory is somebody else's: `create_dir` refuses it.
        fs::create_dir(self.base.join(request))
    }

    fn read(&self, request: &str, attribute: &str, limit: usize) -> io::Result<Option<Vec<u8>>> {
        let file = fs::File::open(self.path(request, attribute))?;
        let mut bytes = Vec::new();
        let one_more = u64::try_from(limit).unwrap_or(u64::MAX).saturating_add(1);
        file.take(one_more).read_to_end(&mut bytes)?;
        Ok((bytes.len() <= limit).then_some(bytes))
    }

    fn write(&self, request: &str, attribute: &str, bytes: &[u8]) -> io::Result<()> {
        // Attributes exist already, and each write call is one request to the kernel.
        let mut file = fs::OpenOptions::new()
            .write(true)
            .open(self.path(request, attribute))?;
        match file.write(bytes)? {
            written if written == bytes.len() => Ok(()),
            _ => Err(io::ErrorKind::WriteZero.into()),
        }
    }

    fn remove(&self, request: &str) -> io::Result<()> {
        fs::remove_dir(self.base.join(request))
    }
}

/// A request's own directory; removed when it is dropped.
struct Request<'a, T: ReportTree> {
    tree: &'a T,
    name: String,
}

impl<'a, T: ReportTree> Request<'a, T> {
    fn create(tree: &'a T) -> Result<Self, AttesterError> {
        let number = NEXT_REQUEST.fetch_add(1, Ordering::Relaxed);
        let name = format!("redoubt-{}-{number}", std::process::id());
        match tree.create(&name) {
            Ok(()) => Ok(Self { tree, name }),
            Err(source) => {
                let path = tree.path(&name, "");
                Err(AttesterError::Configfs {
                    path,
                    action: "created",
                    source,
                })
            }
        }
    }

    fn error(&self, name: &str, action: &'static str, source: io::Error) -> AttesterError {
        AttesterError::Configfs {
            path: self.tree.path(&self.name, name),
            action,
            source,
        }
    }

    fn write(&self, name: &str, bytes: &[u8]) -> Result<(), AttesterError> {
        let written = self.tree.write(&self.name, name, bytes);
        written.map_err(|source| self.error(name, "written", source))
    }

    fn read(&self, name: &str, limit: usize) -> Result<Vec<u8>, AttesterError> {
        let bytes = self.tree.read(&self.name, name, limit);
        bytes
            .map_err(|source| self.error(name, "read", source))?
            .ok_or_else(|| AttesterError::AttributeTooLong {
                path: self.tree.path(&self.name, name),
                limit,
            })
    }

    /// Reads an attribute that may be missing.
    fn read_optional(&self, name: &str, limit: usize) -> Result<Vec<u8>, AttesterError> {
        match self.read(name, limit) {
            Err(AttesterError::Configfs { source, .. })
                if source.kind() == io::ErrorKind::NotFound =>
            {
                Ok(Vec::new())
            }
            other => other,
        }
    }

    fn text(&self, name: &str) -> Result<String, AttesterError> {
        let bytes = self.read(name, MAX_TEXT_BYTES)?;
        Ok(String::from_utf8_lossy(&bytes).trim_end().to_owned())
    }
}

impl<T: ReportTree> Drop for Request<'_, T> {
    fn drop(&mut self) {
        // configfs removes the attributes with their directory.
        if let Err(error) = self.tree.remove(&self.name) {
            tracing::warn!(request = %self.name, %error, "a report request's directory remains");
        }
    }
}

#[cfg(test)]
mod tests;
