//! One packet each way on a `SOCK_SEQPACKET` socket pair: JSON with descriptors beside it.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;

use redoubt_errors::flatten;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// The largest packet, in bytes; requests hold a few paths, answers one line.
pub(crate) const MAX_PACKET_BYTES: usize = 16 * 1024;
/// The longest error line, in characters.
const MAX_MESSAGE_CHARS: usize = 1024;
/// Standard input, output and error.
const MAX_FDS: usize = 3;

/// What the helper shall do.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Request {
    /// libcontainer's folder for the states of containers.
    pub(crate) state_root: PathBuf,
    /// The container.
    pub(crate) id: String,
    pub(crate) operation: Operation,
}

/// One call to libcontainer.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(crate) enum Operation {
    /// Make the container; its first process waits for `Start`.
    Create { bundle: PathBuf, streams: Streams },
    /// Let the first process run the workload.
    Start {},
    /// Run another process, described by the file, in the container.
    Exec { process: PathBuf, streams: Streams },
}

/// Where the new process's standard streams come from.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(crate) enum Streams {
    /// From the three descriptors beside the request.
    Pipes {},
    /// From a new terminal of the container. Its master goes to the socket; the process waits for
    /// a byte from the descriptor beside the request.
    Terminal { socket: PathBuf },
}

/// The helper's answer.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(crate) enum Reply {
    /// It worked; `pid` is the new process.
    Done { pid: Option<i32> },
    /// It did not; one line says why.
    Failed { message: String },
}

impl Reply {
    pub(crate) fn failed(message: &str) -> Self {
        Self::Failed {
            message: one_line(message),
        }
    }
}

/// Shortens text to one bounded line.
pub(crate) fn one_line(text: &str) -> String {
    flatten(text).chars().take(MAX_MESSAGE_CHARS).collect()
}

/// A received packet.
#[derive(Debug)]
pub(crate) struct Packet {
    pub(crate) bytes: Vec<u8>,
    pub(crate) fds: Vec<OwnedFd>,
}

impl Packet {
    /// Reads the packet's JSON.
    pub(crate) fn parse<T: DeserializeOwned>(&self) -> Option<T> {
        serde_json::from_slice(&self.bytes).ok()
    }
}

/// Sends one packet.
pub(crate) fn send(socket: impl AsFd, message: &impl Serialize, fds: &[OwnedFd]) -> io::Result<()> {
    let bytes = serde_json::to_vec(message)?;
    if bytes.len() > MAX_PACKET_BYTES || fds.len() > MAX_FDS {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let borrowed: Vec<_> = fds.iter().map(AsFd::as_fd).collect();
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FDS))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !borrowed.is_empty() && !control.push(SendAncillaryMessage::ScmRights(&borrowed)) {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    sendmsg(
        socket,
        &[IoSlice::new(&bytes)],
        &mut control,
        SendFlags::NOSIGNAL,
    )?;
    Ok(())
}

/// Receives one packet; an empty one means that the other side is gone.
pub(crate) fn receive(socket: impl AsFd) -> io::Result<Packet> {
    let mut bytes = vec![0; MAX_PACKET_BYTES];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FDS))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let received = recvmsg(
        socket,
        &mut [IoSliceMut::new(&mut bytes)],
        &mut control,
        RecvFlags::CMSG_CLOEXEC,
    )?;
    let mut fds = Vec::new();
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(rights) = message {
            fds.extend(rights);
        }
    }
    if received
        .flags
        .intersects(ReturnFlags::TRUNC | ReturnFlags::CTRUNC)
    {
        return Err(io::ErrorKind::InvalidData.into());
    }
    bytes.truncate(received.bytes);
    Ok(Packet { bytes, fds })
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};

    fn pair() -> (OwnedFd, OwnedFd) {
        socketpair(
            AddressFamily::UNIX,
            SocketType::SEQPACKET,
            SocketFlags::CLOEXEC,
            None,
        )
        .unwrap()
    }

    #[test]
    fn a_request_travels_with_its_descriptors() {
        let (ours, theirs) = pair();
        let request = Request {
            state_root: "/run/x".into(),
            id: "c".into(),
            operation: Operation::Create {
                bundle: "/b".into(),
                streams: Streams::Pipes {},
            },
        };
        let fds: Vec<OwnedFd> = (0..3)
            .map(|_| std::fs::File::open("/dev/null").unwrap().into())
            .collect();
        send(&ours, &request, &fds).unwrap();
        let packet = receive(&theirs).unwrap();
        assert_eq!(packet.fds.len(), 3);
        assert_eq!(packet.parse::<Request>(), Some(request));
    }

    #[test]
    fn the_end_of_the_other_side_is_an_empty_packet() {
        let (ours, theirs) = pair();
        drop(ours);
        let packet = receive(&theirs).unwrap();
        assert!(packet.bytes.is_empty() && packet.fds.is_empty());
        assert_eq!(packet.parse::<Reply>(), None);
    }

    #[test]
    fn oversized_packets_are_refused_by_both_sides() {
        let (ours, theirs) = pair();
        let huge = "x".repeat(MAX_PACKET_BYTES);
        assert!(send(&ours, &huge, &[]).is_err());
        rustix::io::write(&ours, &vec![b'x'; MAX_PACKET_BYTES + 1]).unwrap();
        assert_eq!(
            receive(&theirs).unwrap_err().kind(),
            io::ErrorKind::InvalidData
        );
    }

    #[test]
    fn error_lines_are_short_and_without_control_characters() {
        let Reply::Failed { message } = Reply::failed(&"a\nb\u{1b}".repeat(4000)) else {
            panic!()
        };
        assert_eq!(message.chars().count(), MAX_MESSAGE_CHARS);
        assert!(!message.chars().any(char::is_control));
    }
}
