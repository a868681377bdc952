//! Reports through configfs-tsm (Linux 6.7 and later, `Documentation/ABI/testing/configfs-tsm`).
//!
//! Reading `outblob` makes a new report whenever something was written since,
//! so a second writer in the same directory could silently change what is
//! signed. Each request therefore has a directory of its own, and the
//! generation must have moved by exactly our own writes.

use std::fs;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
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

    /// Makes one report; blocks while the secure processor works.
    fn request(&self, report_data: &[u8; 64]) -> Result<SnpEvidence, AttesterError> {
        let request = Request::create(&self.base)?;
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
}

#[async_trait]
impl Attester for ConfigfsAttester {
    fn tee(&self) -> TeeKind {
        TeeKind::Snp
    }

    async fn evidence(&self, report_data: &[u8; 64]) -> Result<SnpEvidence, AttesterError> {
        let (attester, data) = (self.clone(), *report_data);
        let evidence = tokio::task::spawn_blocking(move || attester.request(&data))
            .await
            .map_err(|_joined| AttesterError::Interrupted)??;
        check_echo(evidence, report_data)
    }
}

/// A request's own directory; removed when it is dropped.
struct Request {
    directory: PathBuf,
}

impl Request {
    fn create(base: &Path) -> Result<Self, AttesterError> {
        let number = NEXT_REQUEST.fetch_add(1, Ordering::Relaxed);
        let directory = base.join(format!("redoubt-{}-{number}", std::process::id()));
        // An existing directory is somebody else's: `create_dir` refuses it.
        fs::create_dir(&directory).map_err(configfs_error(&directory, "created"))?;
        Ok(Self { directory })
    }

    fn write(&self, name: &str, bytes: &[u8]) -> Result<(), AttesterError> {
        let path = self.directory.join(name);
        let write = || {
            fs::OpenOptions::new()
                .write(true)
                .open(&path)?
                .write_all(bytes)
        };
        write().map_err(configfs_error(&path, "written"))
    }

    fn read(&self, name: &str, limit: usize) -> Result<Vec<u8>, AttesterError> {
        let path = self.directory.join(name);
        let bytes = read_bounded(&path, limit).map_err(configfs_error(&path, "read"))?;
        bytes.ok_or(AttesterError::AttributeTooLong { path, limit })
    }

    /// Reads an attribute that may be missing or have no data.
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

impl Drop for Request {
    fn drop(&mut self) {
        // configfs removes the attributes with their directory.
        if let Err(error) = fs::remove_dir(&self.directory) {
            tracing::warn!(path = %self.directory.display(), %error, "request directory remains");
        }
    }
}

fn configfs_error<'a>(
    path: &'a Path,
    action: &'static str,
) -> impl FnOnce(io::Error) -> AttesterError + 'a {
    move |source| AttesterError::Configfs {
        path: path.to_owned(),
        action,
        source,
    }
}

/// Reads at most `limit` bytes; `None` if there are more.
fn read_bounded(path: &Path, limit: usize) -> io::Result<Option<Vec<u8>>> {
    let file = fs::File::open(path)?;
    let mut bytes = Vec::new();
    let one_more = u64::try_from(limit).unwrap_or(u64::MAX).saturating_add(1);
    file.take(one_more).read_to_end(&mut bytes)?;
    Ok((bytes.len() <= limit).then_some(bytes))
}
