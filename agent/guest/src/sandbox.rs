//! What belongs to the pod as a whole: shared memory, name servers, host name.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use nix::mount::{MsFlags, mount};
use redoubt_agent_api::agent::{CreateSandboxRequest, Storage};

use crate::error::{AgentError, Result};

/// The folder that the sandbox shares with its containers.
const SANDBOX_DIR: &str = "/run/kata-containers/sandbox";
const RESOLV_CONF: &str = "/run/kata-containers/sandbox/resolv.conf";
const MAX_STORAGES: usize = 64;
const MAX_DNS_LINES: usize = 64;
const MAX_DNS_LINE_BYTES: usize = 512;
const MAX_HOSTNAME_BYTES: usize = 64;

/// A sandbox that exists.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sandbox {
    /// The file with the name servers, when there are any.
    pub(crate) resolv_conf: Option<String>,
}

impl Sandbox {
    /// Sets up what the request names.
    pub(crate) fn create(request: &CreateSandboxRequest) -> Result<Self> {
        if !request.kernel_modules.is_empty() {
            return Err(AgentError::request("the guest loads no modules by request"));
        }
        if !request.guest_hook_path.is_empty() {
            return Err(AgentError::request("the guest runs no hooks by request"));
        }
        fs::create_dir_all(SANDBOX_DIR).map_err(AgentError::file("create", SANDBOX_DIR))?;
        if request.storages.len() > MAX_STORAGES {
            return Err(AgentError::request("too many storages"));
        }
        for storage in &request.storages {
            add_storage(storage)?;
        }
        if !request.hostname.is_empty() {
            set_hostname(&request.hostname)?;
        }
        Ok(Self {
            resolv_conf: write_resolv_conf(&request.dns)?,
        })
    }
}

/// Makes a storage of the sandbox: memory below the sandbox's folder.
pub(crate) fn add_storage(storage: &Storage) -> Result<()> {
    let refuse = |reason| {
        Err(AgentError::Storage {
            driver: storage.driver.chars().take(32).collect(),
            mount_point: storage.mount_point.chars().take(128).collect(),
            reason,
        })
    };
    let point = Path::new(&storage.mount_point);
    if !point.starts_with(SANDBOX_DIR) || storage.mount_point.split('/').any(|part| part == "..") {
        return refuse("it is outside of the sandbox's folder");
    }
    fs::create_dir_all(point).map_err(AgentError::file("create", point))?;
    match storage.driver.as_str() {
        "local" => {
            let mode = storage
                .options
                .iter()
                .find_map(|option| option.strip_prefix("mode="));
            let mode = mode
                .and_then(|mode| u32::from_str_radix(mode, 8).ok())
                .unwrap_or(0o777);
            fs::set_permissions(point, fs::Permissions::from_mode(mode & 0o7777))
                .map_err(AgentError::file("change", point))
        }
        "ephemeral" if storage.fstype == "tmpfs" => mount_tmpfs(point, &storage.options),
        "ephemeral" => refuse("only tmpfs is memory of this guest"),
        _ => refuse("this guest has no such driver"),
    }
}

fn mount_tmpfs(point: &Path, options: &[String]) -> Result<()> {
    let mut flags = MsFlags::empty();
    let mut data = Vec::new();
    for option in options {
        match option.as_str() {
            "noexec" => flags |= MsFlags::MS_NOEXEC,
            "nosuid" => flags |= MsFlags::MS_NOSUID,
            "nodev" => flags |= MsFlags::MS_NODEV,
            "ro" => flags |= MsFlags::MS_RDONLY,
            "rw" => {}
            other if is_tmpfs_option(other) => data.push(other),
            _ => return Err(AgentError::request("a tmpfs storage has an unknown option")),
        }
    }
    mount(
        Some("shm"),
        point,
        Some("tmpfs"),
        flags,
        Some(data.join(",").as_str()),
    )
    .map_err(|errno| AgentError::file("mount", point)(errno.into()))
}

fn is_tmpfs_option(option: &str) -> bool {
    option.split_once('=').is_some_and(|(name, value)| {
        ["mode", "size"].contains(&name)
            && !value.is_empty()
            && value
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || byte == b'%')
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
fn write_resolv_conf(lines: &[String]) -> Result<Option<String>> {
    if lines.is_empty() {
        return Ok(None);
    }
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
    for path in [RESOLV_CONF, "/etc/resolv.conf"] {
        fs::write(path, &text).map_err(AgentError::file("write", path))?;
    }
    Ok(Some(RESOLV_CONF.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn storages_outside_of_the_sandboxs_folder_are_refused() {
        for point in [
            "/etc",
            "/run/kata-containers/sandbox/../../x",
            "relative",
            "",
        ] {
            let storage = Storage {
                driver: "ephemeral".to_owned(),
                fstype: "tmpfs".to_owned(),
                mount_point: point.to_owned(),
                ..Storage::default()
            };
            assert!(
                matches!(add_storage(&storage), Err(AgentError::Storage { .. })),
                "{point}"
            );
        }
    }

    #[test]
    fn options_of_a_tmpfs_are_from_a_list() {
        assert!(is_tmpfs_option("size=67108864"));
        assert!(is_tmpfs_option("mode=1777"));
        for option in ["huge=always", "size=", "size=1,uid=0", "exec"] {
            assert!(!is_tmpfs_option(option), "{option}");
        }
    }
}
