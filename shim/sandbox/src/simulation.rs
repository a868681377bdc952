//! The software PSP of a simulated SEV-SNP launch.

use std::path::Path;
use std::sync::Arc;

use redoubt_evidence::GuestPolicy;
use redoubt_evidence::psp::VSOCK_PORT;
use redoubt_id_block::{IdAuth, IdBlock, IdBlockError, PublicKey};
use redoubt_launch_plan::{IdBlockPlan, SimulatedLaunch};
use redoubt_snp_simulator::{IdBlockFacts, LaunchFacts, SimulatedIdentity, SoftwarePsp};
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
    facts.id_block = launch
        .id_block
        .as_ref()
        .map(|signed| id_block_facts(signed, launch))
        .transpose()
        .map_err(SandboxError::IdBlock)?;
    Ok(facts)
}

/// Reads what a report repeats of an ID block. As the secure processor does, refuses a block for
/// another digest or policy and signatures that do not hold.
fn id_block_facts(
    signed: &IdBlockPlan,
    launch: &SimulatedLaunch,
) -> Result<IdBlockFacts, IdBlockError> {
    let block = IdBlock::from_base64(&signed.block)?;
    let auth = IdAuth::from_base64(&signed.auth)?;
    block.check_launch(launch.launch_digest, launch.policy)?;
    auth.verify(&block)?;
    let author = auth.author_key().filter(|_| signed.author_key);
    Ok(IdBlockFacts {
        id_key_digest: auth.id_key().digest(),
        author_key_digest: author.map(PublicKey::digest),
        family_id: block.family_id,
        image_id: block.image_id,
        guest_svn: block.guest_svn,
    })
}

#[cfg(test)]
mod tests {
    use redoubt_id_block::SigningKey;
    use redoubt_launch_digest::LaunchDigest;
    use redoubt_snp_simulator::RsaBits;

    use super::*;

    fn launch(dir: &Path, id_block: Option<IdBlockPlan>) -> SimulatedLaunch {
        let json = serde_json::json!({ "gpa": 0x81_0c00, "size": 1024 });
        SimulatedLaunch {
            identity_dir: dir.to_owned(),
            hash_area: serde_json::from_value(json).unwrap(),
            hash_table: Vec::new(),
            launch_digest: LaunchDigest([0xab; 48]),
            host_data: [7; 32],
            policy: 0x3_0000,
            id_block,
        }
    }

    fn key(name: &str) -> SigningKey {
        let path = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("../../measured-boot/id-block/testdata")
            .join(name);
        SigningKey::from_pem(&std::fs::read_to_string(path).unwrap()).unwrap()
    }

    fn signed(digest: u8, author_key: bool) -> IdBlockPlan {
        let block = IdBlock {
            launch_digest: LaunchDigest([digest; 48]),
            family_id: [1; 16],
            image_id: [2; 16],
            guest_svn: 5,
            policy: 0x3_0000,
        };
        let author = key("rs-test_auth_key.pem");
        let author = author_key.then_some(&author);
        let auth = IdAuth::sign(&block, &key("rs-test_id_key.pem"), author).unwrap();
        IdBlockPlan {
            block: block.to_base64(),
            auth: auth.to_base64(),
            author_key,
        }
    }

    #[test]
    fn an_id_block_reaches_the_report() {
        for author_key in [false, true] {
            let facts = facts(&launch(Path::new("/"), Some(signed(0xab, author_key)))).unwrap();
            let read = facts.id_block.unwrap();
            assert_eq!(
                (read.family_id, read.image_id, read.guest_svn),
                ([1; 16], [2; 16], 5)
            );
            let digest_of = |name| key(name).public().unwrap().digest();
            assert_eq!(read.id_key_digest, digest_of("rs-test_id_key.pem"));
            assert_eq!(
                read.author_key_digest,
                author_key.then(|| digest_of("rs-test_auth_key.pem"))
            );
        }
    }

    #[test]
    fn foreign_and_damaged_id_blocks_are_refused() {
        let good = signed(0xab, false);
        let with = |block: &str, auth: &str| IdBlockPlan {
            block: block.to_owned(),
            auth: auth.to_owned(),
            author_key: false,
        };
        for plan in [
            signed(0xac, false),
            with("!", &good.auth),
            with(&good.block[..64], &good.auth),
            with(&good.block, ""),
            with(&good.block, &signed(0xac, false).auth),
        ] {
            let refused = facts(&launch(Path::new("/"), Some(plan)));
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
