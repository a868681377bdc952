//! From a request to the rule that judges it and the input of that rule.

use protobuf::Message;
use redoubt_agent_api::agent::CopyFileRequest;
use serde::Serialize;
use serde_json::{Value, json};

use crate::PolicyError;

/// The file type bits of a mode (POSIX `S_IFMT` and its values).
const TYPE_MASK: u32 = 0o170_000;
const DIRECTORY: u32 = 0o040_000;
const REGULAR: u32 = 0o100_000;
const SYMLINK: u32 = 0o120_000;

/// A request as its policy rule sees it.
pub trait PolicyRequest {
    /// The name of the rule: the message's name.
    fn entry_point(&self) -> &'static str;

    /// The rule's `input`.
    fn policy_input(&self) -> Result<Value, PolicyError>;
}

impl<M: Message + Serialize + 'static> PolicyRequest for M {
    fn entry_point(&self) -> &'static str {
        M::NAME
    }

    fn policy_input(&self) -> Result<Value, PolicyError> {
        match (self as &dyn std::any::Any).downcast_ref::<CopyFileRequest>() {
            Some(copy) => Ok(copy_file_input(copy)),
            None => serde_json::to_value(self).map_err(PolicyError::Input),
        }
    }
}

/// A copied file is judged by where it goes and what it is, not by its bytes;
/// a symbolic link also by its target.
fn copy_file_input(request: &CopyFileRequest) -> Value {
    let file_type = match request.file_mode & TYPE_MASK {
        REGULAR => "Regular",
        DIRECTORY => "Directory",
        SYMLINK => "Symlink",
        _ => "Unknown",
    };
    let symlink_target = match file_type {
        "Symlink" => String::from_utf8_lossy(&request.data).into_owned(),
        _ => String::new(),
    };
    json!({
        "path": request.path,
        "file_type": file_type,
        "symlink_target": symlink_target,
        "file_size": request.file_size,
        "file_mode": request.file_mode,
        "dir_mode": request.dir_mode,
        "uid": request.uid,
        "gid": request.gid,
        "offset": request.offset,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use redoubt_agent_api::agent::{GuestDetailsRequest, WriteStreamRequest};

    #[test]
    fn the_entry_point_is_the_messages_name() {
        assert_eq!(
            GuestDetailsRequest::new().entry_point(),
            "GuestDetailsRequest"
        );
        let write = WriteStreamRequest {
            data: vec![1, 2],
            ..WriteStreamRequest::new()
        };
        assert_eq!(write.policy_input().unwrap()["data"], json!([1, 2]));
    }

    #[test]
    fn a_copied_file_shows_its_kind_and_not_its_bytes() {
        let mut copy = CopyFileRequest {
            path: "/run/kata-containers/shared/containers/x".to_owned(),
            file_mode: 0o100_644,
            data: b"secret".to_vec(),
            ..CopyFileRequest::new()
        };
        let input = copy.policy_input().unwrap();
        assert_eq!(input["file_type"], "Regular");
        assert_eq!(input["symlink_target"], "");
        assert!(!input.to_string().contains("secret"));

        copy.file_mode = 0o120_777;
        let input = copy.policy_input().unwrap();
        assert_eq!(input["file_type"], "Symlink");
        assert_eq!(input["symlink_target"], "secret");

        copy.file_mode = 0o020_000;
        assert_eq!(copy.policy_input().unwrap()["file_type"], "Unknown");
    }
}
