//! A site: the keys of a simulated world, and what its broker holds.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::Path;

use redoubt_evidence::TcbVersion;
use redoubt_initdata::Initdata;

use crate::error::HarnessError;
use crate::snp::forge::{ROOT_FILE, pem};
use crate::snp::{GENOA_TCB, SnpForge};
use crate::tdx::QuotingEnclave;

/// The largest file that is read, in bytes.
const MAX_FILE_BYTES: u64 = 64 * 1024;

/// The guest's initdata.
pub(crate) const INITDATA: &str =
    "version = \"0.1.0\"\nalgorithm = \"sha256\"\n\n[data]\n\"aa.toml\" = \"harness\"\n";

/// The resource that the cases ask for, and its content.
pub(crate) const RESOURCE_PATH: &str = "default/harness/1";
pub(crate) const RESOURCE: &[u8] = b"what the cases of the harness ask for";

/// A resource that nobody put there.
pub(crate) const MISSING_PATH: &str = "default/harness/none";

/// A simulated world: roots that sign anything, and the one guest whose launch
/// is known to its broker.
#[derive(Debug)]
pub struct Site {
    /// The keys of SEV-SNP.
    pub snp: SnpForge,
    /// The platform of TDX; anew in each process.
    pub tdx: QuotingEnclave,
    /// The launch digest that the broker has as a reference value.
    pub launch_digest: [u8; 48],
    /// The digest of its guest's initdata, as the report carries it.
    pub host_data: [u8; 32],
}

/// The least TCB that a broker must be told to accept for the cases about it.
pub(crate) fn minimum_tcb() -> TcbVersion {
    TcbVersion {
        snp: GENOA_TCB.snp - 1,
        ..TcbVersion::default()
    }
}

/// The launch of the known guest. It need not be secret, nor differ from that of
/// other sites: a broker believes it under the root of its own site only.
const LAUNCH_DIGEST: [u8; 48] = [0x5D; 48];

impl Site {
    /// A new one, in memory.
    pub fn generate() -> Result<Self, HarnessError> {
        Self::with(SnpForge::generate()?)
    }

    /// Makes a new one in a directory: keys, and the files that a broker is to
    /// be given.
    pub fn create(dir: &Path) -> Result<Self, HarnessError> {
        let mut builder = DirBuilder::new();
        builder.recursive(true).mode(0o700);
        builder.create(dir).map_err(file_error(dir, "made"))?;
        let root = dir.join(ROOT_FILE);
        if root.exists() {
            return Err(HarnessError::Exists {
                path: dir.to_owned(),
            });
        }
        let site = Self::with(SnpForge::create(dir)?)?;
        let public = |name: &str, bytes: &[u8]| write(&dir.join(name), bytes, 0o644);
        public("initdata.toml", INITDATA.as_bytes())?;
        public("resource", RESOURCE)?;
        public("reference-values.json", site.reference_values().as_bytes())?;
        // Written last: a directory with it is complete.
        public(ROOT_FILE, pem(site.snp.root_certificate()).as_bytes())?;
        Ok(site)
    }

    /// Reads one that [`Site::create`] made.
    pub fn load(dir: &Path) -> Result<Self, HarnessError> {
        Self::with(SnpForge::load(dir)?)
    }

    fn with(snp: SnpForge) -> Result<Self, HarnessError> {
        let initdata = Initdata::parse_toml(INITDATA.as_bytes());
        let initdata = initdata.map_err(|_| HarnessError::Vector {
            what: "the site's initdata",
        })?;
        Ok(Self {
            snp,
            tdx: QuotingEnclave::generate()?,
            launch_digest: LAUNCH_DIGEST,
            host_data: initdata.host_data(),
        })
    }

    /// The document of reference values for the broker.
    pub fn reference_values(&self) -> String {
        let value = serde_json::json!({
            "version": 1,
            "values": [{
                "tee": "snp",
                "launch_digest": hex::encode(self.launch_digest),
                "host_data": hex::encode(self.host_data),
            }],
        });
        format!("{value:#}\n")
    }
}

fn file_error<'a>(
    path: &'a Path,
    action: &'static str,
) -> impl FnOnce(std::io::Error) -> HarnessError + 'a {
    move |source| HarnessError::File {
        path: path.to_owned(),
        action,
        source,
    }
}

pub(crate) fn read(path: &Path) -> Result<Vec<u8>, HarnessError> {
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|file| file.take(MAX_FILE_BYTES).read_to_end(&mut bytes))
        .map_err(file_error(path, "read"))?;
    Ok(bytes)
}

pub(crate) fn write_private(path: &Path, bytes: &[u8]) -> Result<(), HarnessError> {
    write(path, bytes, 0o600)
}

fn write(path: &Path, bytes: &[u8], mode: u32) -> Result<(), HarnessError> {
    let beside = path.with_extension("new");
    let written = || {
        if beside.exists() {
            fs::remove_file(&beside)?;
        }
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(mode)
            .open(&beside)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&beside, path)
    };
    written().map_err(file_error(path, "written"))
}
