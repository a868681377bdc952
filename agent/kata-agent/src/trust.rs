//! What this guest may believe: initdata that its own report confirms.

use std::fs::{self, File};
use std::io::Read;
use std::path::PathBuf;
use std::sync::Arc;

use redoubt_agent_api::stage::Stage;
use redoubt_agent_policy::PolicyEngine;
use redoubt_attester::{Attester, attester_for};
use redoubt_initdata::{DISK_HEADER_LEN, Initdata, InitdataError};

use crate::console;
use crate::error::{AgentError, Result};
use crate::params::Parameters;
use crate::settings::Settings;

/// The entry of initdata that holds the policy.
const POLICY_ENTRY: &str = "policy.rego";
/// The most disks that are looked at.
const MAX_DISKS: usize = 32;

/// What the guest was launched with, checked.
#[derive(Debug)]
pub(crate) struct Trust {
    /// The source of evidence; `None` for a guest that is not confidential.
    pub(crate) attester: Option<Arc<dyn Attester>>,
    /// The policy that every call must pass.
    pub(crate) policy: PolicyEngine,
    /// What initdata says about broker and registries.
    pub(crate) settings: Settings,
    /// The document itself, for the broker.
    pub(crate) initdata: Option<String>,
}

impl Trust {
    /// Whether the host is outside of the guest's trust.
    pub(crate) fn is_confidential(&self) -> bool {
        self.attester.is_some()
    }

    /// Reads initdata, compares it with this guest's own report and loads its policy.
    pub(crate) async fn establish(parameters: &Parameters) -> Result<Self> {
        let initdata = find_initdata()?;
        let attester: Option<Arc<dyn Attester>> = parameters
            .attester
            .map(|kind| Arc::from(attester_for(kind)));
        if let Some(attester) = &attester {
            check_host_data(attester.as_ref(), initdata.as_ref()).await?;
        }
        let policy = load_policy(initdata.as_ref(), attester.is_some())?;
        let settings = match &initdata {
            Some(initdata) => Settings::from_initdata(initdata)?,
            None => Settings::default(),
        };
        let document = initdata
            .as_ref()
            .map(|initdata| initdata.toml_text().to_owned());
        Ok(Self {
            attester,
            policy,
            settings,
            initdata: document,
        })
    }
}

/// Fails unless the report's `HOST_DATA` is the digest of the document on the disk.
async fn check_host_data(attester: &dyn Attester, initdata: Option<&Initdata>) -> Result<()> {
    let expected = attester.host_data().await?;
    match initdata {
        Some(initdata) if initdata.host_data() == expected => {
            let detail = format!("HOST_DATA {} ({})", hex::encode(expected), attester.tee());
            console::stage(Stage::InitdataVerified, &detail);
            Ok(())
        }
        Some(initdata) => Err(AgentError::InitdataMismatch {
            found: hex::encode(initdata.host_data()),
            expected: hex::encode(expected),
        }),
        None if expected == [0; 32] => Ok(()),
        None => Err(AgentError::InitdataMissing {
            expected: hex::encode(expected),
        }),
    }
}

/// The policy of initdata; without one a confidential guest denies by default.
fn load_policy(initdata: Option<&Initdata>, confidential: bool) -> Result<PolicyEngine> {
    let rego = initdata.and_then(|initdata| initdata.entry(POLICY_ENTRY));
    Ok(match (rego, confidential) {
        (Some(rego), true) => PolicyEngine::new(rego)?,
        (Some(rego), false) => PolicyEngine::lenient(rego)?,
        (None, true) => redoubt_agent_policy::default_deny()?,
        (None, false) => redoubt_agent_policy::allow_all()?,
    })
}

/// The initdata of the one disk that carries its magic.
fn find_initdata() -> Result<Option<Initdata>> {
    let mut found = None;
    for disk in disks() {
        let Some(image) = read_initdata_disk(&disk)? else {
            continue;
        };
        if found.is_some() {
            return Err(AgentError::InitdataTwice);
        }
        found = Some(Initdata::from_disk_image(&image)?);
    }
    Ok(found)
}

/// Whole disks of virtio-blk and SCSI, in the order of their names.
fn disks() -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir("/sys/block") else {
        return Vec::new();
    };
    let mut names: Vec<String> = entries
        .filter_map(std::result::Result::ok)
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .filter(|name| name.starts_with("vd") || name.starts_with("sd"))
        .collect();
    names.sort();
    names.truncate(MAX_DISKS);
    names
        .into_iter()
        .map(|name| PathBuf::from("/dev").join(name))
        .collect()
}

/// The part of a disk that its header speaks of; `None` without the magic.
fn read_initdata_disk(disk: &PathBuf) -> Result<Option<Vec<u8>>> {
    let mut file = File::open(disk).map_err(AgentError::file("open", disk))?;
    let mut header = [0_u8; DISK_HEADER_LEN];
    if file.read_exact(&mut header).is_err() {
        // Smaller than a header: some other disk.
        return Ok(None);
    }
    let length = match redoubt_initdata::compressed_len(&header) {
        Err(InitdataError::DiskMagic) => return Ok(None),
        length => length?,
    };
    let mut image = header.to_vec();
    let limit = u64::try_from(length).unwrap_or(u64::MAX);
    file.take(limit)
        .read_to_end(&mut image)
        .map_err(AgentError::file("read", disk))?;
    Ok(Some(image))
}
