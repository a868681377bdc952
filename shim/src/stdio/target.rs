//! The addresses that containerd gives for streams.

use std::os::unix::fs::FileTypeExt;
use std::path::PathBuf;
use std::{fs, io};

use tokio::io::AsyncWriteExt;
use tokio::net::unix::pipe;

use super::input::StdinPipe;
use crate::error::{Result, ShimError};

/// Where a stream goes or comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// No one reads or writes.
    Nothing,
    /// A FIFO, or a file that exists already.
    Path(PathBuf),
    /// A file to append to.
    File(PathBuf),
}

/// The host's end of an output.
#[derive(Debug)]
pub enum OutputSink {
    /// Output is read from the guest and dropped.
    Nothing,
    /// A FIFO.
    Fifo(pipe::Sender),
    /// A file.
    File(tokio::fs::File),
}

impl Target {
    /// Reads an address: empty, an absolute path, or `fifo://` or `file://` with one.
    pub fn parse(what: &'static str, address: &str) -> Result<Self> {
        let refuse = |reason| ShimError::UnsupportedStdio {
            what,
            uri: address.to_owned(),
            reason,
        };
        if address.is_empty() {
            return Ok(Self::Nothing);
        }
        let (scheme, path) = address.split_once("://").unwrap_or(("", address));
        if scheme == "binary" {
            return Err(refuse(
                "log programs would see the workload's output on the host",
            ));
        }
        // containerd may add parameters to an address, which these schemes do not need.
        let path = if scheme.is_empty() {
            path
        } else {
            path.split('?').next().unwrap_or(path)
        };
        if !path.starts_with('/') {
            return Err(refuse("the path is not absolute"));
        }
        match scheme {
            "" | "fifo" => Ok(Self::Path(PathBuf::from(path))),
            "file" => Ok(Self::File(PathBuf::from(path))),
            _ => Err(refuse("unknown scheme")),
        }
    }

    /// Opens the target for output, without waiting for a reader.
    pub fn open_output(&self, what: &'static str) -> Result<OutputSink> {
        let failed = |path: &PathBuf, source| ShimError::OpenStdio {
            what,
            path: path.clone(),
            source,
        };
        match self {
            Self::Nothing => Ok(OutputSink::Nothing),
            Self::Path(path) => {
                let kind = fs::metadata(path)
                    .map_err(|error| failed(path, error))?
                    .file_type();
                if kind.is_fifo() {
                    // Open both ways, so that output survives a reader that comes back.
                    pipe::OpenOptions::new()
                        .read_write(true)
                        .open_sender(path)
                        .map(OutputSink::Fifo)
                        .map_err(|error| failed(path, error))
                } else {
                    append(path, false).map_err(|error| failed(path, error))
                }
            }
            Self::File(path) => append(path, true).map_err(|error| failed(path, error)),
        }
    }

    /// Opens the target for input, without waiting for a writer. The input of a terminal
    /// outlives its writers, so that a client can detach and another one attach.
    pub fn open_input(&self, terminal: bool) -> Result<Option<StdinPipe>> {
        let path = match self {
            Self::Nothing => return Ok(None),
            Self::Path(path) => path,
            Self::File(path) => {
                return Err(ShimError::UnsupportedStdio {
                    what: "stdin",
                    uri: format!("file://{}", path.display()),
                    reason: "input comes through a FIFO only",
                });
            }
        };
        let failed = |source| ShimError::OpenStdio {
            what: "stdin",
            path: path.clone(),
            source,
        };
        StdinPipe::open(path, terminal).map(Some).map_err(failed)
    }
}

fn append(path: &PathBuf, create: bool) -> io::Result<OutputSink> {
    let file = fs::OpenOptions::new()
        .append(true)
        .create(create)
        .open(path)?;
    Ok(OutputSink::File(tokio::fs::File::from_std(file)))
}

impl OutputSink {
    /// Writes everything, however long the reader takes.
    pub async fn write_all(&mut self, data: &[u8]) -> io::Result<()> {
        match self {
            Self::Nothing => Ok(()),
            Self::Fifo(fifo) => fifo.write_all(data).await,
            Self::File(file) => {
                file.write_all(data).await?;
                file.flush().await
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn fifos_and_files_are_understood() {
        assert_eq!(Target::parse("stdout", "").unwrap(), Target::Nothing);
        assert_eq!(
            Target::parse("stdout", "/run/x").unwrap(),
            Target::Path("/run/x".into())
        );
        assert_eq!(
            Target::parse("stdout", "fifo:///run/x").unwrap(),
            Target::Path("/run/x".into())
        );
        assert_eq!(
            Target::parse("stdout", "file:///var/log/x?maxsize=1").unwrap(),
            Target::File("/var/log/x".into())
        );
    }

    #[test]
    fn log_programs_and_odd_addresses_are_refused() {
        insta::assert_snapshot!(Target::parse("stdout", "binary:///bin/logger?id=x").unwrap_err().one_line(), @"[RDT-SHIM-043] stdout binary:///bin/logger?id=x is not supported: log programs would see the workload's output on the host (hint: use FIFOs, as ctr and CRI do, or file:///path)");
        for address in ["relative", "file://relative", "npipe:////./x", "://"] {
            assert!(Target::parse("stderr", address).is_err(), "{address}");
        }
    }

    #[test]
    fn a_missing_fifo_is_named() {
        let error = Target::parse("stdout", "/nonexistent/fifo")
            .unwrap()
            .open_output("stdout");
        insta::assert_snapshot!(error.unwrap_err().one_line(), @"[RDT-SHIM-044] cannot open stdout /nonexistent/fifo: No such file or directory (os error 2)");
    }

    proptest! {
        #[test]
        fn any_address_is_understood_or_refused(address in ".{0,60}") {
            let _ = Target::parse("stdin", &address);
        }
    }
}
