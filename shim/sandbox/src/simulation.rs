//! The software PSP of a simulated SEV-SNP launch.

use std::path::Path;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use redoubt_evidence::GuestPolicy;
use redoubt_evidence::psp::VSOCK_PORT;
use redoubt_launch_plan::SimulatedLaunch;
use redoubt_snp_simulator::{IdBlockFacts, LaunchFacts, SimulatedIdentity, SoftwarePsp};
use sha2::{Digest, Sha384};
use tokio::net::UnixListener;
use tokio::task::JoinHandle;

use crate::error::SandboxError;
use crate::vsock::HYBRID_SOCKET;

/// Serves attestation reports to this sandbox's guest and to nobody else, until aborted.
///
/// The vsock daemon connects the guest's requests for the PSP's port to a socket beside its own;
/// nobody but root can open the folder.
pub(crate) fn serve(launch: &SimulatedLaunch, dir: &Path) -> Result<JoinHandle<()>, SandboxError> {
    let identity =
        SimulatedIdentity::load(&launch.identity_dir).map_err(SandboxError::Simulation)?;
    let facts = facts(launch)?;
    let psp = SoftwarePsp::new(identity, &facts).map_err(SandboxError::Simulation)?;
    let path = dir.join(format!("{HYBRID_SOCKET}_{VSOCK_PORT}"));
    let listener = UnixListener::bind(&path).map_err(|source| SandboxError::State {
        action: "listen on",
        path,
        source,
    })?;
    Ok(tokio::spawn(redoubt_snp_simulator::serve(
        Arc::new(psp),
        listener,
    )))
}

/// What the secure processor would know from this launch.
fn facts(launch: &SimulatedLaunch) -> Result<LaunchFacts, SandboxError> {
    let policy = GuestPolicy(launch.policy);
    let mut facts = LaunchFacts::new(launch.launch_digest.0, launch.host_data, policy);
    if let Some((block, auth)) = &launch.id_block {
        let block = decode(block, ID_BLOCK_BYTES)?;
        let auth = decode(auth, ID_AUTH_BYTES)?;
        facts.id_block = Some(id_block_facts(&block, &auth, launch)?);
    }
    Ok(facts)
}

/// Length of an id block (AMD 56860, `ID Block Structure`).
const ID_BLOCK_BYTES: usize = 0x60;
/// Length of its authentication (AMD 56860, `ID Authentication Information Structure`).
const ID_AUTH_BYTES: usize = 0x1000;

fn decode(text: &str, length: usize) -> Result<Vec<u8>, SandboxError> {
    let bytes = STANDARD
        .decode(text)
        .map_err(|_| SandboxError::IdBlock("it is not base64"))?;
    if bytes.len() == length {
        Ok(bytes)
    } else {
        Err(SandboxError::IdBlock("its length is wrong"))
    }
}

/// Reads what a report repeats of an id block. As the secure processor does, refuses a block for
/// another digest or policy; it does not check the block's signature.
fn id_block_facts(
    block: &[u8],
    auth: &[u8],
    launch: &SimulatedLaunch,
) -> Result<IdBlockFacts, SandboxError> {
    const SHORT: SandboxError = SandboxError::IdBlock("its length is wrong");
    if block.get(..0x30) != Some(launch.launch_digest.0.as_slice()) {
        return Err(SandboxError::IdBlock("it is for another launch digest"));
    }
    if block.get(0x58..0x60) != Some(launch.policy.to_le_bytes().as_slice()) {
        return Err(SandboxError::IdBlock("it is for another guest policy"));
    }
    let id_key = auth.get(0x240..0x644).ok_or(SHORT)?;
    Ok(IdBlockFacts {
        id_key_digest: Sha384::digest(id_key).into(),
        author_key_digest: None,
        family_id: array(block, 0x30).ok_or(SHORT)?,
        image_id: array(block, 0x40).ok_or(SHORT)?,
        guest_svn: u32::from_le_bytes(array(block, 0x54).ok_or(SHORT)?),
    })
}

fn array<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..)?.first_chunk().copied()
}

#[cfg(test)]
mod tests {
    use redoubt_snp_simulator::RsaBits;

    use super::*;

    fn launch(dir: &Path, id_block: Option<(String, String)>) -> SimulatedLaunch {
        let digest = "ab".repeat(48);
        let json = serde_json::json!({ "gpa": 0x81_0c00, "size": 1024 });
        SimulatedLaunch {
            identity_dir: dir.to_owned(),
            hash_area: serde_json::from_value(json).unwrap(),
            hash_table: Vec::new(),
            launch_digest: serde_json::from_value(digest.into()).unwrap(),
            host_data: [7; 32],
            policy: 0x3_0000,
            id_block,
        }
    }

    fn block(digest: u8) -> (String, String) {
        let mut block = vec![digest; 0x30];
        block.extend([1; 16]);
        block.extend([2; 16]);
        block.extend(1_u32.to_le_bytes());
        block.extend(5_u32.to_le_bytes());
        block.extend(0x3_0000_u64.to_le_bytes());
        (STANDARD.encode(block), STANDARD.encode([3; ID_AUTH_BYTES]))
    }

    #[test]
    fn an_id_block_reaches_the_report() {
        let facts = facts(&launch(Path::new("/"), Some(block(0xab)))).unwrap();
        let read = facts.id_block.unwrap();
        assert_eq!(
            (read.family_id, read.image_id, read.guest_svn),
            ([1; 16], [2; 16], 5)
        );
        assert_eq!(
            read.id_key_digest.as_slice(),
            Sha384::digest([3; 0x404]).as_slice()
        );
    }

    #[test]
    fn foreign_and_damaged_id_blocks_are_refused() {
        let (good_block, good_auth) = block(0xab);
        for (block, auth) in [
            block(0xac),
            ("!".to_owned(), good_auth.clone()),
            (good_block[..64].to_owned(), good_auth),
            (good_block, String::new()),
        ] {
            let refused = facts(&launch(Path::new("/"), Some((block, auth))));
            assert!(matches!(refused, Err(SandboxError::IdBlock(_))));
        }
    }

    #[tokio::test]
    async fn a_missing_identity_says_how_to_make_one() {
        let dir = tempfile::tempdir().unwrap();
        let error = serve(&launch(&dir.path().join("none"), None), dir.path()).unwrap_err();
        let text = redoubt_errors::OneLine(&error).to_string();
        assert!(
            text.starts_with("[RDT-VMM-011]") && text.contains("redoubt simulator init"),
            "{text}"
        );
    }

    #[tokio::test]
    async fn the_socket_is_where_the_vsock_daemon_looks_for_it() {
        let dir = tempfile::tempdir().unwrap();
        let identity = dir.path().join("psp");
        SimulatedIdentity::generate_with(RsaBits::Rsa2048)
            .unwrap()
            .store(&identity)
            .unwrap();
        let server = serve(&launch(&identity, None), dir.path()).unwrap();
        assert!(dir.path().join("vsock.sock_1030").exists());
        server.abort();
    }
}
