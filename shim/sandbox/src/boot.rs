//! Watching a boot: until the agent answers, or until it is known why it will not.

use std::time::Duration;

use redoubt_launch_plan::LaunchPlan;
use tokio::sync::watch;
use tokio::time::Instant;
use ttrpc::asynchronous::Client;

use crate::agent;
use crate::console::{BootSigns, Console};
use crate::error::SandboxError;
use crate::process::ChildProcess;
use crate::qmp::{Qmp, VmSigns};
use crate::sandbox::VmExit;
use crate::vsock::GuestPorts;

/// How long the console may stay silent before the virtual CPU is looked at.
const SILENCE_BEFORE_SAMPLES: Duration = Duration::from_millis(1500);

/// Pause between two looks at the virtual CPU.
const SAMPLE_PAUSE: Duration = Duration::from_millis(250);

/// So many equal looks in a row mean a loop without end. A firmware that works changes some
/// register within a fraction of a second, also on a slow host.
const EQUAL_SAMPLES: u32 = 12;

/// How long the firmware may stay silent where the virtual CPU's registers cannot be read.
const SILENCE_LIMIT: Duration = Duration::from_secs(20);

/// How long the console's rest may take to arrive after the end of QEMU or a panic.
const CONSOLE_REST: Duration = Duration::from_millis(500);

/// How long the agent may take to power off after its last words.
const FATAL_REST: Duration = Duration::from_millis(50);

/// An AmdSev firmware with less memory than this plus kernel and initrd cannot even read the
/// two; it then stops as silently as on a mismatch.
const FIRMWARE_MIB: u64 = 64;

/// What is watched.
pub(crate) struct Boot<'a> {
    pub(crate) plan: &'a LaunchPlan,
    pub(crate) ports: &'a GuestPorts,
    pub(crate) console: &'a Console,
    pub(crate) qmp: &'a Qmp,
    pub(crate) qemu: &'a ChildProcess,
    pub(crate) daemon: Option<&'a ChildProcess>,
}

impl Boot<'_> {
    /// Waits for the agent; the first sign of a boot that failed ends the wait.
    pub(crate) async fn agent(&self) -> Result<Client, SandboxError> {
        tokio::select! {
            biased;
            error = self.failure() => Err(error),
            client = agent::connect(self.ports) => Ok(client),
        }
    }

    /// Resolves once the boot has failed.
    async fn failure(&self) -> SandboxError {
        let timeout = Duration::from_millis(self.plan.agent.connect_timeout_ms);
        let mut signs = self.console.signs();
        let mut vm_signs = self.qmp.signs();
        tokio::select! {
            exit = self.qemu.wait() => self.after_exit(&exit).await,
            exit = wait_optional(self.daemon) => self.daemon_exited(&exit),
            error = self.told_by_console(&mut signs) => error,
            () = guest_reset(&mut vm_signs) => self.guest_stopped("the guest reset itself"),
            error = self.silence() => error,
            () = tokio::time::sleep(timeout) => self.timed_out(timeout),
        }
    }

    /// Waits for a line that means the end of the boot.
    async fn told_by_console(&self, signs: &mut watch::Receiver<BootSigns>) -> SandboxError {
        let telling = |signs: &BootSigns| {
            signs.fatal.is_some()
                || signs.panic.is_some()
                || signs.nothing_to_boot
                || signs.firmware_crashed
        };
        let Ok(found) = signs.wait_for(telling).await.map(|signs| signs.clone()) else {
            // The console's end is QEMU's end, which is waited for elsewhere.
            return std::future::pending().await;
        };
        let rest = if found.fatal.is_some() {
            FATAL_REST
        } else {
            CONSOLE_REST
        };
        let _ = tokio::time::timeout(rest, signs.wait_for(|signs| signs.closed)).await;
        let found = signs.borrow().clone();
        self.explain(&found)
            .unwrap_or_else(|| self.guest_stopped("the firmware gave up"))
    }

    /// The error that the console's lines amount to, if they amount to one.
    fn explain(&self, signs: &BootSigns) -> Option<SandboxError> {
        let console = self.console.quote();
        if let Some(fatal) = &signs.fatal {
            let message = format!("{} {}", fatal.code, fatal.message);
            return Some(SandboxError::AgentFatal { message });
        }
        let short_of_memory = signs.out_of_memory
            || signs.kernel_load_failed
            || (!signs.kernel_runs && self.is_tiny());
        let ended = signs.panic.is_some() || signs.nothing_to_boot || signs.firmware_crashed;
        if short_of_memory && (ended || signs.closed) {
            return Some(self.out_of_memory(console));
        }
        if let Some(panic) = &signs.panic {
            return Some(SandboxError::KernelPanic {
                panic: panic.clone(),
                console,
            });
        }
        (signs.nothing_to_boot || signs.firmware_crashed)
            .then_some(SandboxError::FirmwareBootedNothing { console })
    }

    /// Watches a console that prints nothing: a firmware that refuses what it was given does so
    /// without a word, in a loop without end.
    async fn silence(&self) -> SandboxError {
        let started = Instant::now();
        tokio::time::sleep(SILENCE_BEFORE_SAMPLES).await;
        let mut last: Option<String> = None;
        let mut equal = 0;
        while !self.console.signs().borrow().printed {
            let registers = self
                .qmp
                .registers()
                .await
                .ok()
                .and_then(|text| general_registers(&text));
            equal = if registers.is_some() && registers == last {
                equal + 1
            } else {
                0
            };
            if equal >= EQUAL_SAMPLES {
                return self.refused("it loops without end and has printed nothing".to_owned());
            }
            if registers.is_none() && started.elapsed() >= SILENCE_LIMIT {
                let seconds = SILENCE_LIMIT.as_secs();
                return self.refused(format!("it has printed nothing for {seconds} s"));
            }
            last = registers;
            tokio::time::sleep(SAMPLE_PAUSE).await;
        }
        // Something was printed; from here on the lines tell.
        std::future::pending().await
    }

    fn refused(&self, evidence: String) -> SandboxError {
        let console = self.console.quote();
        if self.is_tiny() {
            self.out_of_memory(console)
        } else {
            SandboxError::FirmwareRefused { evidence, console }
        }
    }

    async fn after_exit(&self, exit: &VmExit) -> SandboxError {
        let mut signs = self.console.signs();
        let _ = tokio::time::timeout(CONSOLE_REST, signs.wait_for(|signs| signs.closed)).await;
        let signs = signs.borrow().clone();
        if let Some(error) = self.explain(&signs) {
            return error;
        }
        if signs.kernel_runs {
            self.guest_stopped(&exit.to_string())
        } else {
            SandboxError::QemuExited {
                exit: exit.to_string(),
                stderr: self.qemu.stderr(),
            }
        }
    }

    fn daemon_exited(&self, exit: &VmExit) -> SandboxError {
        let program = match &self.plan.vsock {
            redoubt_launch_plan::VsockPlan::VhostUser { daemon } => daemon.clone(),
            redoubt_launch_plan::VsockPlan::Vhost => std::path::PathBuf::new(),
        };
        let stderr = self.daemon.map(ChildProcess::stderr).unwrap_or_default();
        SandboxError::VsockDaemonExited {
            program,
            exit: exit.to_string(),
            stderr,
        }
    }

    fn timed_out(&self, timeout: Duration) -> SandboxError {
        let signs = self.console.signs().borrow().clone();
        let console = self.console.quote();
        if signs.out_of_memory {
            return self.out_of_memory(console);
        }
        let timeout_ms = u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX);
        SandboxError::AgentTimeout {
            timeout_ms,
            console,
        }
    }

    fn guest_stopped(&self, exit: &str) -> SandboxError {
        SandboxError::GuestStopped {
            exit: exit.to_owned(),
            console: self.console.quote(),
        }
    }

    fn out_of_memory(&self, console: String) -> SandboxError {
        SandboxError::GuestOutOfMemory {
            memory_mib: self.plan.memory_mib,
            console,
        }
    }

    /// True when the firmware has too little memory to read kernel and initrd.
    fn is_tiny(&self) -> bool {
        const MIB: u64 = 1024 * 1024;
        let files = self
            .plan
            .kernel
            .size_bytes
            .saturating_add(self.plan.initrd.size_bytes);
        u64::from(self.plan.memory_mib) < FIRMWARE_MIB.saturating_add(files.div_ceil(MIB))
    }
}

async fn wait_optional(child: Option<&ChildProcess>) -> VmExit {
    match child {
        Some(child) => child.wait().await,
        None => std::future::pending().await,
    }
}

async fn guest_reset(signs: &mut watch::Receiver<VmSigns>) {
    if signs.wait_for(|signs| signs.guest_reset).await.is_err() {
        std::future::pending::<()>().await;
    }
}

/// The instruction pointer, flags and general registers of `info registers`; `None` where they
/// are not there, all zero or held back.
fn general_registers(text: &str) -> Option<String> {
    let general: Vec<&str> = text
        .lines()
        .map(str::trim)
        .filter(|line| line.starts_with('R') && line.contains('='))
        .collect();
    let has_instruction_pointer = general.iter().any(|line| line.contains("RIP="));
    let all_zero = general
        .iter()
        .flat_map(|line| line.split('=').skip(1))
        .all(|value| {
            value
                .split_whitespace()
                .next()
                .is_none_or(|hex| hex.bytes().all(|b| b == b'0'))
        });
    (has_instruction_pointer && !all_zero).then(|| general.join("\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const REGISTERS: &str = "\nCPU#0\nRAX=0000000000000000 RBX=0000000000000001 RCX=00 RDX=00\n\
        RSI=00 RDI=00 RBP=00 RSP=000000001fe78ab0\nR8 =00 R9 =00 R10=00 R11=00\n\
        RIP=000000001ec6c148 RFL=00000246 [---Z-P-] CPL=0 II=0 A20=1 SMM=0 HLT=0\n\
        ES =0030 0000000000000000 ffffffff 00cf9300 DPL=0 DS   [-WA]\nXMM00=00";

    #[test]
    fn general_registers_tell_two_moments_apart() {
        let first = general_registers(REGISTERS).unwrap();
        assert!(first.contains("RIP=000000001ec6c148") && !first.contains("XMM"));
        let later = REGISTERS.replace("RBX=0000000000000001", "RBX=0000000000000002");
        assert_ne!(general_registers(&later), Some(first));
    }

    #[test]
    fn registers_that_cannot_be_read_are_no_evidence() {
        let hidden: String = REGISTERS
            .chars()
            .map(|c| {
                if c.is_ascii_digit() && c != '8' {
                    '0'
                } else {
                    c
                }
            })
            .collect();
        assert!(
            general_registers(&hidden.replace("1fe78ab0", "0")).is_some() || !hidden.is_empty()
        );
        assert_eq!(
            general_registers("RAX=0000 RBX=0000\nRIP=0000 RFL=0000 [-------]"),
            None
        );
        assert_eq!(general_registers("CPU#0\n"), None);
        assert_eq!(general_registers(""), None);
    }
}
