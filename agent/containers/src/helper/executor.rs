//! The last step inside the container: find the program and run it.

use std::fs::Metadata;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::rc::Rc;

use libcontainer::oci_spec::runtime::Spec;
use libcontainer::workload::{Executor, ExecutorError, ExecutorValidationError};

use crate::sys::default_signals;

/// Where programs are looked for if the process has no `PATH`.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// A shell's exit status for a program that is not there.
const NOT_FOUND: i32 = 127;
/// A shell's exit status for a program that cannot be run.
const NOT_RUNNABLE: i32 = 126;

/// Runs the workload. Unlike libcontainer's own executor it needs no `PATH`, restores the signal
/// dispositions that the Rust runtime changed, and never repeats arguments in errors.
#[derive(Clone, Debug)]
pub(super) struct Workload {
    starter: Starter,
    /// Delivers a byte when the terminal is ready.
    terminal_ready: Option<Rc<OwnedFd>>,
}

/// Who lets the process run, and so may still hear of its failure.
#[derive(Clone, Copy, Debug)]
pub(super) enum Starter {
    /// The agent, later: nobody listens to a container's first process any more.
    Agent,
    /// The helper, which waits for the error of an added process.
    Helper,
}

impl Executor for Workload {
    fn validate(&self, spec: &Spec) -> Result<(), ExecutorValidationError> {
        find_program(spec).map(|_| ()).map_err(|problem| {
            ExecutorValidationError::ArgValidationError(problem.message().to_owned())
        })?;
        self.wait_for_terminal()
    }

    fn exec(&self, spec: &Spec) -> Result<(), ExecutorError> {
        let (program, args) = match find_program(spec) {
            Ok(found) => found,
            Err(problem) => return self.fail(problem.message(), NOT_FOUND),
        };
        let (name, rest) = args.split_first().ok_or(ExecutorError::InvalidArg)?;
        default_signals();
        let error = Command::new(program).arg0(name).args(rest).exec();
        let status = if error.kind() == io::ErrorKind::NotFound {
            NOT_FOUND
        } else {
            NOT_RUNNABLE
        };
        self.fail(&format!("cannot run the program: {error}"), status)
    }
}

impl Workload {
    pub(super) fn new(starter: Starter, terminal_ready: Option<OwnedFd>) -> Self {
        Self {
            starter,
            terminal_ready: terminal_ready.map(Rc::new),
        }
    }

    fn wait_for_terminal(&self) -> Result<(), ExecutorValidationError> {
        let Some(ready) = &self.terminal_ready else {
            return Ok(());
        };
        match rustix::io::retry_on_intr(|| rustix::io::read(ready, &mut [0_u8])) {
            Ok(1) => Ok(()),
            _ => Err(ExecutorValidationError::ArgValidationError(
                "the process's terminal could not be prepared".to_owned(),
            )),
        }
    }

    fn fail(&self, message: &str, status: i32) -> Result<(), ExecutorError> {
        match self.starter {
            Starter::Helper => Err(ExecutorError::Other(message.to_owned())),
            Starter::Agent => {
                // The workload's own error stream is the only one left to tell it.
                let line = format!("redoubt: {message}\n");
                let _ = rustix::io::write(io::stderr(), line.as_bytes());
                std::process::exit(status);
            }
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Problem {
    NoArgs,
    NotFound,
    NotExecutable,
}

impl Problem {
    fn message(self) -> &'static str {
        match self {
            Self::NoArgs => "the process has no program",
            Self::NotFound => "the process's program was not found in the container",
            Self::NotExecutable => "the process's program is not an executable file",
        }
    }
}

fn find_program(spec: &Spec) -> Result<(PathBuf, &[String]), Problem> {
    let process = spec.process().as_ref().ok_or(Problem::NoArgs)?;
    let args = process.args().as_deref().unwrap_or_default();
    let name = args
        .first()
        .filter(|name| !name.is_empty())
        .ok_or(Problem::NoArgs)?;
    let path = process
        .env()
        .iter()
        .flatten()
        .filter_map(|entry| entry.strip_prefix("PATH="))
        .next_back()
        .unwrap_or(DEFAULT_PATH);
    Ok((search(name, path)?, args))
}

/// Looks a program up as `execvp` does.
fn search(name: &str, path: &str) -> Result<PathBuf, Problem> {
    if name.contains('/') {
        return match check(Path::new(name)) {
            Ok(()) => Ok(name.into()),
            Err(problem) => Err(problem),
        };
    }
    let mut problem = Problem::NotFound;
    for folder in path.split(':') {
        let folder = if folder.is_empty() { "." } else { folder };
        let candidate = Path::new(folder).join(name);
        match check(&candidate) {
            Ok(()) => return Ok(candidate),
            Err(Problem::NotFound) => {}
            Err(other) => problem = other,
        }
    }
    Err(problem)
}

fn check(program: &Path) -> Result<(), Problem> {
    let is_program = |file: &Metadata| file.is_file() && file.permissions().mode() & 0o111 != 0;
    match program.metadata() {
        Ok(file) if is_program(&file) => Ok(()),
        Ok(_) => Err(Problem::NotExecutable),
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            Err(Problem::NotExecutable)
        }
        Err(_) => Err(Problem::NotFound),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_are_found_as_a_shell_finds_them() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        std::fs::write(at("plain"), "x").unwrap();
        std::fs::write(at("tool"), "x").unwrap();
        std::fs::set_permissions(at("tool"), PermissionsExt::from_mode(0o755)).unwrap();
        let path = format!("/nonexistent:{}", folder.path().display());

        assert_eq!(search("tool", &path), Ok(at("tool")));
        assert_eq!(search(at("tool").to_str().unwrap(), ""), Ok(at("tool")));
        assert_eq!(search("plain", &path), Err(Problem::NotExecutable));
        assert_eq!(search("absent", &path), Err(Problem::NotFound));
        assert_eq!(
            search(folder.path().to_str().unwrap(), ""),
            Err(Problem::NotExecutable)
        );
    }

    #[test]
    fn a_process_without_arguments_is_refused_without_panicking() {
        let mut spec = Spec::default();
        let mut process = spec.process().clone().unwrap();
        process.set_args(Some(Vec::new()));
        spec.set_process(Some(process));
        assert_eq!(find_program(&spec).unwrap_err(), Problem::NoArgs);
    }
}
