//! What belongs to the pod as a whole: shared memory, name servers, host name.

use std::fs;
use std::path::{Path, PathBuf};

use redoubt_agent_api::agent::CreateSandboxRequest;

use crate::agent::Folders;
use crate::error::{AgentError, Result};
use crate::storage::Storages;

/// The guest's own lookups read it too.
const GUEST_RESOLV_CONF: &str = "/etc/resolv.conf";
const MAX_DNS_LINES: usize = 64;
const MAX_DNS_LINE_BYTES: usize = 512;
const MAX_HOSTNAME_BYTES: usize = 64;

/// A sandbox that exists.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sandbox {
    /// The file with the name servers, when there are any.
    pub(crate) resolv_conf: Option<PathBuf>,
}

impl Sandbox {
    /// Sets up what the request names. On failure no storage is left.
    pub(crate) fn create(
        request: &CreateSandboxRequest,
        folders: &Folders,
        storages: &mut Storages,
    ) -> Result<Self> {
        refuse_what_is_not_supported(request)?;
        let folder = &folders.sandbox;
        fs::create_dir_all(folder).map_err(AgentError::file("create", folder))?;
        let made = set_up(request, folders, storages);
        if made.is_err() {
            storages.clear();
        }
        made
    }
}

fn refuse_what_is_not_supported(request: &CreateSandboxRequest) -> Result<()> {
    if !request.kernel_modules.is_empty() {
        return Err(AgentError::request("the guest loads no modules by request"));
    }
    if !request.guest_hook_path.is_empty() {
        return Err(AgentError::request("the guest runs no hooks by request"));
    }
    if request.sandbox_pidns {
        return Err(AgentError::request(
            "a process namespace that the pod's containers share is not supported",
        ));
    }
    Ok(())
}

fn set_up(
    request: &CreateSandboxRequest,
    folders: &Folders,
    storages: &mut Storages,
) -> Result<Sandbox> {
    for storage in &request.storages {
        storages.take(storage)?;
    }
    if !request.hostname.is_empty() {
        set_hostname(&request.hostname)?;
    }
    if request.dns.is_empty() {
        return Ok(Sandbox::default());
    }
    let file = folders.sandbox.join("resolv.conf");
    write_name_servers(&request.dns, &[&file, Path::new(GUEST_RESOLV_CONF)])?;
    Ok(Sandbox {
        resolv_conf: Some(file),
    })
}

fn set_hostname(name: &str) -> Result<()> {
    let valid = name.len() <= MAX_HOSTNAME_BYTES
        && name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b".-_".contains(&byte));
    if !valid {
        return Err(AgentError::request(
            "the host name has other characters than A-Z a-z 0-9 . - _",
        ));
    }
    nix::unistd::sethostname(name)
        .map_err(|errno| AgentError::file("set", "the host name")(errno.into()))
}

/// Writes the name servers for the guest's own lookups and for its containers.
fn write_name_servers(lines: &[String], files: &[&Path]) -> Result<()> {
    let valid = lines.len() <= MAX_DNS_LINES
        && lines.iter().all(|line| {
            line.len() <= MAX_DNS_LINE_BYTES && !line.bytes().any(|byte| byte.is_ascii_control())
        });
    if !valid {
        return Err(AgentError::request(
            "the name server lines are too long or hold controls",
        ));
    }
    let text: String = lines
        .iter()
        .flat_map(|line| [line.as_str(), "\n"])
        .collect();
    for file in files {
        fs::write(file, &text).map_err(AgentError::file("write", *file))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use redoubt_agent_api::agent::Storage;

    use super::*;

    #[test]
    fn what_the_guest_does_not_do_is_refused_by_name() {
        let folder = tempfile::tempdir().unwrap();
        let folders = Folders::below(folder.path());
        let mut storages = Storages::below(folders.sandbox.clone());
        let hooks = CreateSandboxRequest {
            guest_hook_path: "/hooks".to_owned(),
            ..CreateSandboxRequest::default()
        };
        let pids = CreateSandboxRequest {
            sandbox_pidns: true,
            ..CreateSandboxRequest::default()
        };
        let name = CreateSandboxRequest {
            hostname: "a b".to_owned(),
            ..CreateSandboxRequest::default()
        };
        for request in [hooks, pids, name] {
            let refused = Sandbox::create(&request, &folders, &mut storages);
            assert!(matches!(refused, Err(AgentError::Request { .. })));
        }
    }

    #[test]
    fn storages_of_a_sandbox_that_fails_are_undone() {
        let folder = tempfile::tempdir().unwrap();
        let folders = Folders::below(folder.path());
        let mut storages = Storages::below(folders.sandbox.clone());
        let place = folders.sandbox.join("data");
        let storage = Storage {
            driver: "local".to_owned(),
            mount_point: place.to_str().unwrap().to_owned(),
            ..Storage::default()
        };
        let request = CreateSandboxRequest {
            storages: vec![storage, Storage::default()],
            ..CreateSandboxRequest::default()
        };
        assert!(Sandbox::create(&request, &folders, &mut storages).is_err());
        assert!(!place.exists());
    }

    #[test]
    fn name_server_lines_hold_no_controls() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("resolv.conf");
        let lines = |line: &str| vec!["nameserver 10.0.0.1".to_owned(), line.to_owned()];
        for bad in ["a\nb".to_owned(), "x".repeat(513)] {
            assert!(write_name_servers(&lines(&bad), &[&file]).is_err());
        }
        write_name_servers(&lines("search x"), &[&file]).unwrap();
        let text = fs::read_to_string(&file).unwrap();
        assert_eq!(text, "nameserver 10.0.0.1\nsearch x\n");
    }
}
