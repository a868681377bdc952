//! Watching a boot: until the agent answers, or until it is known why it will not.

use std::time::Duration;

use redoubt_launch_plan::{LaunchPlan, Protection, VsockPlan};
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
            error = self.stopped(self.qmp.signs()) => error,
            error = self.firmware_stuck() => error,
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

    /// Watches the first virtual CPU until the kernel runs.
    ///
    /// A firmware that refuses what it was given does so without a word, in a loop without end;
    /// and a kernel that was told to be quiet shows only here that it runs.
    async fn firmware_stuck(&self) -> SandboxError {
        let started = Instant::now();
        let readable = !matches!(
            self.plan.protection,
            Protection::Snp { .. } | Protection::Tdx { .. }
        );
        let mut last: Option<Registers> = None;
        let mut equal = 0;
        loop {
            tokio::time::sleep(SAMPLE_PAUSE).await;
            let signs = self.console.signs().borrow().clone();
            if signs.kernel_runs {
                // From here on the console tells, and the end of the wait.
                return std::future::pending().await;
            }
            if !readable {
                if !signs.printed && started.elapsed() >= SILENCE_LIMIT {
                    let seconds = SILENCE_LIMIT.as_secs();
                    return self.refused(format!("it has printed nothing for {seconds} s"));
                }
                continue;
            }
            let registers = self.qmp.registers().await.ok();
            let registers = registers.and_then(|text| Registers::parse(&text));
            if registers.as_ref().is_some_and(Registers::in_kernel) {
                self.console.kernel_runs();
                continue;
            }
            equal = if registers.is_some() && registers == last {
                equal + 1
            } else {
                0
            };
            last = registers;
            if equal >= EQUAL_SAMPLES {
                return if signs.printed {
                    SandboxError::FirmwareBootedNothing {
                        console: self.console.quote(),
                    }
                } else {
                    self.refused("it loops without end and has printed nothing".to_owned())
                };
            }
        }
    }

    /// Waits for QEMU to stop the virtual CPUs of its own accord, as it does when it cannot go on.
    async fn stopped(&self, mut signs: watch::Receiver<VmSigns>) -> SandboxError {
        if signs.wait_for(|signs| signs.stops > 0).await.is_err() {
            return std::future::pending().await;
        }
        match self.qmp.status().await {
            // A shutdown or a reset: the end of QEMU follows.
            Ok(status) if status == "shutdown" || status == "running" => {
                std::future::pending().await
            }
            Ok(status) => SandboxError::CannotRun {
                status,
                stderr: self.qemu.first_error(),
            },
            Err(_) => std::future::pending().await,
        }
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
            VsockPlan::VhostUser { daemon } => daemon.clone(),
            VsockPlan::Vhost => std::path::PathBuf::new(),
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

/// A moment of a virtual CPU, from QEMU's `info registers`.
#[derive(Debug, PartialEq, Eq)]
struct Registers {
    instruction_pointer: u64,
    /// All general registers and the flags, as text.
    general: String,
}

impl Registers {
    fn parse(text: &str) -> Option<Self> {
        let general: Vec<&str> = text
            .lines()
            .map(str::trim)
            .filter(|line| line.starts_with('R') && line.contains('='))
            .collect();
        let general = general.join(" ");
        let (_, after) = general.split_once("RIP=")?;
        let instruction_pointer = u64::from_str_radix(after.split(' ').next()?, 16).ok()?;
        Some(Self {
            instruction_pointer,
            general,
        })
    }

    /// Linux runs in the upper half of the address space, the firmware never does.
    fn in_kernel(&self) -> bool {
        self.instruction_pointer >> 63 == 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const REGISTERS: &str = "\nCPU#0\nRAX=0000000000000000 RBX=0000000000000001 RCX=00 RDX=00\n\
        RSI=00 RDI=00 RBP=00 RSP=000000001fe78ab0\nR8 =00 R9 =00 R10=00 R11=00\n\
        RIP=000000001ec6c148 RFL=00000246 [---Z-P-] CPL=0 II=0 A20=1 SMM=0 HLT=0\n\
        ES =0030 0000000000000000 ffffffff 00cf9300 DPL=0 DS   [-WA]\nXMM00=00";

    #[test]
    fn registers_tell_two_moments_apart() {
        let first = Registers::parse(REGISTERS).unwrap();
        assert_eq!(first.instruction_pointer, 0x1ec6_c148);
        assert!(!first.general.contains("XMM") && !first.in_kernel());
        let later = REGISTERS.replace("RBX=0000000000000001", "RBX=0000000000000002");
        assert_ne!(Registers::parse(&later), Some(first));
    }

    #[test]
    fn a_kernel_is_known_by_its_addresses() {
        let kernel = REGISTERS.replace("RIP=000000001ec6c148", "RIP=ffffffffb869864c");
        assert!(Registers::parse(&kernel).unwrap().in_kernel());
    }

    #[test]
    fn text_without_registers_is_no_evidence() {
        for text in [
            "",
            "CPU#0\n",
            "RAX=0000 RBX=0000",
            "RIP= RFL=1",
            "RIP=xyz RFL=1",
        ] {
            assert_eq!(Registers::parse(text), None, "{text:?}");
        }
    }
}
