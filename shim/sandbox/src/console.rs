//! The guest's serial console: a bounded memory of it, and what its lines mean.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use redoubt_agent_api::stage::{FatalLine, MAX_LINE_BYTES, Stage, StageLine};
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::sync::watch;

use crate::console_log::ConsoleLog;
use crate::trail::Trail;

/// How much of the console is kept, in bytes.
const KEPT_BYTES: usize = 64 * 1024;

/// How much of the console an error message quotes.
const QUOTED_LINES: usize = 6;
const QUOTED_CHARS: usize = 320;

/// How much of the kernel's own words a panic keeps, in characters.
const PANIC_CHARS: usize = 160;

/// What one line of the console says about the boot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ConsoleEvent {
    /// The kernel runs: the firmware accepted it, the initrd and the command line.
    KernelRunning,
    /// The firmware looked for something to boot and found nothing.
    NothingToBoot,
    /// The firmware met a processor exception.
    FirmwareCrashed,
    /// The kernel's EFI stub gave up, as it does when memory is short.
    KernelLoadFailed,
    /// The kernel ran short of memory.
    OutOfMemory,
    /// The kernel panicked; the text is its reason.
    KernelPanic(String),
    /// The agent reached a stage.
    Stage(StageLine),
    /// The agent gave up.
    Fatal(FatalLine),
}

/// Cuts a console's bytes into lines and recognises those that matter.
///
/// The bytes come from the guest: lines are bounded, and what they say decides
/// about words in error messages and about the trail, never about trust.
#[derive(Debug, Default)]
pub struct ConsoleScanner {
    line: Vec<u8>,
    kernel_runs: bool,
}

impl ConsoleScanner {
    /// A scanner at the start of a console.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes the next bytes; returns what the lines that ended in them say, in order.
    pub fn feed(&mut self, bytes: &[u8]) -> Vec<ConsoleEvent> {
        let mut events = Vec::new();
        for &byte in bytes {
            if byte == b'\n' {
                let line = std::mem::take(&mut self.line);
                self.read_line(&line, &mut events);
            } else if self.line.len() <= MAX_LINE_BYTES {
                // The line's rest is dropped; one byte over the bound marks it as too long.
                self.line.push(byte);
            }
        }
        events
    }

    fn read_line(&mut self, line: &[u8], events: &mut Vec<ConsoleEvent>) {
        let event = read_line(line);
        let shows_kernel = contains(line, "EFI stub:")
            || contains(line, "] Linux version ")
            || matches!(
                event,
                Some(
                    ConsoleEvent::Stage(_) | ConsoleEvent::Fatal(_) | ConsoleEvent::KernelPanic(_)
                )
            );
        if shows_kernel && !self.kernel_runs {
            self.kernel_runs = true;
            events.push(ConsoleEvent::KernelRunning);
        }
        events.extend(event);
    }
}

fn read_line(line: &[u8]) -> Option<ConsoleEvent> {
    /// Lines of the EFI stub that end a boot for want of memory.
    const LOAD_FAILED: [&str; 3] = [
        "EFI stub: ERROR: Failed to decompress kernel",
        "EFI stub: ERROR: Failed to alloc",
        "EFI stub: ERROR: efi_stub_entry() failed",
    ];
    /// Lines of a kernel that has too little memory to reach or keep its first process.
    const OUT_OF_MEMORY: [&str; 4] = [
        "] Out of memory: ",
        "invoked oom-killer",
        "deadlocked on memory",
        "Initramfs unpacking failed: write error",
    ];
    const PANIC: &str = "Kernel panic - not syncing: ";

    if let Some(stage) = StageLine::parse(line).filter(|read| told_by_guest(read.stage)) {
        return Some(ConsoleEvent::Stage(stage));
    }
    if let Some(fatal) = FatalLine::parse(line) {
        return Some(ConsoleEvent::Fatal(fatal));
    }
    if LOAD_FAILED.iter().any(|text| contains(line, text)) {
        return Some(ConsoleEvent::KernelLoadFailed);
    }
    if OUT_OF_MEMORY.iter().any(|text| contains(line, text)) && !contains(line, PANIC) {
        return Some(ConsoleEvent::OutOfMemory);
    }
    if contains(line, PANIC) {
        let text = String::from_utf8_lossy(line);
        let reason = text
            .split_once(PANIC)
            .map(|(_, reason)| reason.trim())
            .unwrap_or_default();
        let reason: String = reason.chars().take(PANIC_CHARS).collect();
        return Some(ConsoleEvent::KernelPanic(redoubt_errors::flatten(&reason)));
    }
    if contains(line, "BdsDxe: No bootable option") {
        return Some(ConsoleEvent::NothingToBoot);
    }
    if contains(line, "!!!! X64 Exception Type") {
        return Some(ConsoleEvent::FirmwareCrashed);
    }
    None
}

/// The stages that the guest may announce; the others are the host's own.
fn told_by_guest(stage: Stage) -> bool {
    matches!(
        stage,
        Stage::AgentUp
            | Stage::InitdataVerified
            | Stage::EvidenceAccepted
            | Stage::KeyReleased
            | Stage::LayersVerified
    )
}

fn contains(line: &[u8], text: &str) -> bool {
    line.windows(text.len())
        .any(|window| window == text.as_bytes())
}

/// Everything that the console has said about the boot so far.
#[expect(
    clippy::struct_excessive_bools,
    reason = "independent facts, each seen or not"
)]
#[derive(Clone, Debug, Default)]
pub(crate) struct BootSigns {
    /// Something was printed.
    pub(crate) printed: bool,
    /// The kernel runs.
    pub(crate) kernel_runs: bool,
    /// The firmware found nothing to boot.
    pub(crate) nothing_to_boot: bool,
    /// The firmware met a processor exception.
    pub(crate) firmware_crashed: bool,
    /// The EFI stub could not load the kernel.
    pub(crate) kernel_load_failed: bool,
    /// The kernel complained about memory.
    pub(crate) out_of_memory: bool,
    /// The kernel's panic.
    pub(crate) panic: Option<String>,
    /// The agent's last words.
    pub(crate) fatal: Option<FatalLine>,
    /// The console is at its end.
    pub(crate) closed: bool,
}

impl BootSigns {
    fn apply(&mut self, event: &ConsoleEvent) {
        match event {
            ConsoleEvent::KernelRunning => self.kernel_runs = true,
            ConsoleEvent::NothingToBoot => self.nothing_to_boot = true,
            ConsoleEvent::FirmwareCrashed => self.firmware_crashed = true,
            ConsoleEvent::KernelLoadFailed => self.kernel_load_failed = true,
            ConsoleEvent::OutOfMemory => self.out_of_memory = true,
            ConsoleEvent::KernelPanic(reason) => {
                self.out_of_memory |= reason.contains("deadlocked on memory");
                self.panic.get_or_insert_with(|| reason.clone());
            }
            ConsoleEvent::Fatal(fatal) => {
                self.fatal.get_or_insert_with(|| fatal.clone());
            }
            ConsoleEvent::Stage(_) => {}
        }
    }
}

/// The console's last bytes and what it has said.
#[derive(Clone, Debug)]
pub(crate) struct Console {
    kept: Arc<Mutex<VecDeque<u8>>>,
    signs: Arc<watch::Sender<BootSigns>>,
    trail: Trail,
}

impl Console {
    /// Reads a console until its end on a task of its own.
    pub(crate) fn read(stream: impl AsyncRead + Unpin + Send + 'static, trail: Trail) -> Self {
        let kept = Arc::new(Mutex::new(VecDeque::new()));
        let console = Self {
            kept,
            signs: Arc::new(watch::Sender::default()),
            trail,
        };
        tokio::spawn(console.clone().follow(stream));
        console
    }

    /// What the console has said, and each change of it.
    pub(crate) fn signs(&self) -> watch::Receiver<BootSigns> {
        self.signs.subscribe()
    }

    /// Notes that the kernel runs; the virtual CPU may show it before the console does.
    pub(crate) fn kernel_runs(&self) {
        let first = self
            .signs
            .send_if_modified(|signs| !std::mem::replace(&mut signs.kernel_runs, true));
        if first {
            self.trail
                .record(Stage::KernelVerified, "the firmware started the kernel");
        }
    }

    /// The last bytes, at most 64 KiB.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        self.kept
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .iter()
            .copied()
            .collect()
    }

    /// The last lines, fit for one line of an error message.
    pub(crate) fn quote(&self) -> String {
        quote(&self.bytes())
    }

    async fn follow(self, mut stream: impl AsyncRead + Unpin) {
        let mut scanner = ConsoleScanner::new();
        let mut log = ConsoleLog::default();
        let mut buffer = vec![0_u8; 4096];
        loop {
            let count = match stream.read(&mut buffer).await {
                Ok(0) | Err(_) => break,
                Ok(count) => count,
            };
            let bytes = buffer.get(..count).unwrap_or_default();
            self.keep(bytes);
            log.feed(bytes, |line| self.trail.console(line));
            let events = scanner.feed(bytes);
            for event in &events {
                match event {
                    ConsoleEvent::KernelRunning => self.kernel_runs(),
                    ConsoleEvent::Stage(line) => self.trail.record(line.stage, &line.detail),
                    _ => {}
                }
            }
            self.signs.send_if_modified(|signs| {
                let changed = !signs.printed || !events.is_empty();
                signs.printed = true;
                for event in &events {
                    signs.apply(event);
                }
                changed
            });
        }
        self.signs.send_modify(|signs| signs.closed = true);
    }

    fn keep(&self, bytes: &[u8]) {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.extend(bytes);
        let excess = kept.len().saturating_sub(KEPT_BYTES);
        kept.drain(..excess);
    }
}

/// The last lines of a console without terminal control, joined and bounded.
fn quote(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let plain = without_escapes(&text);
    let lines: Vec<&str> = plain
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty() && !is_dump(line))
        .collect();
    let last = lines
        .get(lines.len().saturating_sub(QUOTED_LINES)..)
        .unwrap_or_default();
    if last.is_empty() {
        return "(nothing)".to_owned();
    }
    let joined = redoubt_errors::flatten(&last.join(" | "));
    let excess = joined.chars().count().saturating_sub(QUOTED_CHARS);
    joined.chars().skip(excess).collect()
}

/// True for the lines of register dumps and stack traces, which say nothing to a user.
fn is_dump(line: &str) -> bool {
    let is_number = |word: &str| word.len() >= 16 && word.bytes().all(|b| b.is_ascii_hexdigit());
    let numbers = line
        .split([' ', ','])
        .filter(|word| is_number(word))
        .count();
    let is_frame = line
        .split_once("+0x")
        .is_some_and(|(_, rest)| rest.contains("/0x"));
    numbers >= 2 || is_frame || line.ends_with("TASK>") || line.contains("] Kernel Offset: ")
}

/// Text without ECMA-48 control sequences (`ESC [ … final byte`).
pub(crate) fn without_escapes(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        if c != '\u{1b}' {
            plain.push(c);
        } else if chars.next_if_eq(&'[').is_some() {
            // Parameter and intermediate bytes, then one final byte.
            while chars
                .next_if(|c| ('\u{20}'..='\u{3f}').contains(c))
                .is_some()
            {}
            chars.next_if(|c| ('\u{40}'..='\u{7e}').contains(c));
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use proptest::prelude::*;

    use super::*;

    /// What the firmware prints before anything else.
    const CLEAR: &str = "\u{1b}[2J\u{1b}[001;001H\u{1b}[=3h\u{1b}[8;056;240t";

    fn scan(text: &str) -> Vec<ConsoleEvent> {
        ConsoleScanner::new().feed(text.as_bytes())
    }

    #[test]
    fn a_good_boot_shows_the_kernel_once_and_then_the_agent() {
        let text = format!(
            "{CLEAR}EFI stub: Loaded initrd from LINUX_EFI_INITRD_MEDIA_GUID device path\r\n\
             [    0.000000] Linux version 6.12.0\r\n\
             redoubt-stage: {{\"stage\":\"agent-up\",\"detail\":\"x\"}}\r\n"
        );
        assert_eq!(
            scan(&text),
            vec![
                ConsoleEvent::KernelRunning,
                ConsoleEvent::Stage(StageLine::new(Stage::AgentUp, "x"))
            ]
        );
    }

    #[test]
    fn an_agent_on_a_quiet_kernel_shows_the_kernel_too() {
        let events = scan("redoubt-stage: {\"stage\":\"agent-up\",\"detail\":\"\"}\n");
        assert_eq!(events.first(), Some(&ConsoleEvent::KernelRunning));
    }

    #[test]
    fn a_guest_cannot_announce_the_host_s_own_stages() {
        for stage in [
            "launch-planned",
            "qemu-started",
            "kernel-verified",
            "exited",
        ] {
            let line = format!("redoubt-stage: {{\"stage\":\"{stage}\",\"detail\":\"\"}}\n");
            assert_eq!(scan(&line), Vec::new(), "{stage}");
        }
    }

    #[test]
    fn a_firmware_without_bootable_kernel_is_seen() {
        let text = format!(
            "{CLEAR}BdsDxe: failed to load Boot0002 \"Grub Bootloader\": Not Found\r\n\
             BdsDxe: No bootable option was found.\r\n"
        );
        assert_eq!(scan(&text), vec![ConsoleEvent::NothingToBoot]);
    }

    #[test]
    fn a_kernel_that_does_not_fit_in_memory_is_seen() {
        let text = "EFI stub: ERROR: Failed to decompress kernel\r\n";
        assert_eq!(
            scan(text),
            vec![ConsoleEvent::KernelRunning, ConsoleEvent::KernelLoadFailed]
        );
        let mut signs = BootSigns::default();
        let panic = "[    1.0] Kernel panic - not syncing: System is deadlocked on memory\n";
        for event in scan(panic) {
            signs.apply(&event);
        }
        assert!(signs.out_of_memory && signs.kernel_runs);
        assert_eq!(
            signs.panic.as_deref(),
            Some("System is deadlocked on memory")
        );
    }

    #[test]
    fn overlong_lines_neither_grow_nor_count() {
        let mut scanner = ConsoleScanner::new();
        let long = vec![b'x'; 10 * MAX_LINE_BYTES];
        assert!(scanner.feed(&long).is_empty());
        assert!(scanner.line.len() <= MAX_LINE_BYTES + 1);
        assert!(
            scanner
                .feed(b"redoubt-stage: {\"stage\":\"agent-up\",\"detail\":\"\"}\n")
                .is_empty()
        );
        assert!(
            !scanner
                .feed(b"redoubt-stage: {\"stage\":\"agent-up\",\"detail\":\"\"}\n")
                .is_empty()
        );
    }

    #[test]
    fn quotes_are_plain_and_short() {
        let text = format!("{CLEAR}one\r\ntwo\u{7}\r\n\r\n\u{1b}]0;title\r\n");
        assert_eq!(quote(text.as_bytes()), "one | two  | ]0;title");
        assert_eq!(quote(CLEAR.as_bytes()), "(nothing)");
        assert_eq!(quote(&vec![b'a'; 5000]).len(), QUOTED_CHARS);
    }

    #[test]
    fn quotes_of_a_panic_leave_out_its_dump() {
        let text = "[    2.1] Kernel panic - not syncing: no init\n\
            [    2.2] Call Trace:\n[    2.2]  <TASK>\n[    2.2]  panic+0x10/0x20\n\
            [    2.3] RBP: 0000000000000000 R08: 0000000000000001\n\
            [    2.4] Kernel Offset: 0x2200000 from 0xffffffff81000000\n[    2.5] Rebooting in 1 seconds..\n";
        assert_eq!(
            quote(text.as_bytes()),
            "[    2.1] Kernel panic - not syncing: no init | [    2.2] Call Trace: | \
             [    2.5] Rebooting in 1 seconds.."
        );
    }

    proptest! {
        #[test]
        fn any_bytes_in_any_pieces_give_the_same_events(
            bytes in proptest::collection::vec(any::<u8>(), 0..4096),
            cut in 0_usize..4096,
        ) {
            let cut = cut.min(bytes.len());
            let mut whole = ConsoleScanner::new();
            let mut pieces = ConsoleScanner::new();
            let expected = whole.feed(&bytes);
            let mut found = pieces.feed(&bytes[..cut]);
            found.extend(pieces.feed(&bytes[cut..]));
            prop_assert_eq!(found, expected);
            prop_assert!(!quote(&bytes).chars().any(char::is_control));
        }
    }

    #[tokio::test]
    async fn a_console_is_kept_bounded_and_followed_to_its_end() {
        let (mut guest, host) = tokio::io::duplex(1024);
        let trail = Trail::open("t", None, Instant::now()).unwrap();
        let console = Console::read(host, trail);
        let mut signs = console.signs();
        let writer = tokio::spawn(async move {
            use tokio::io::AsyncWriteExt;
            for _ in 0..200 {
                guest.write_all(&[b'z'; 1024]).await.unwrap();
            }
            guest
                .write_all(b"\nredoubt-fatal: {\"code\":\"RDT-AGT-001\",\"message\":\"no\"}\n")
                .await
                .unwrap();
        });
        let closed = signs.wait_for(|signs| signs.closed);
        let signs = tokio::time::timeout(Duration::from_secs(5), closed)
            .await
            .unwrap()
            .unwrap()
            .clone();
        writer.await.unwrap();
        assert_eq!(signs.fatal, Some(FatalLine::new("RDT-AGT-001", "no")));
        assert_eq!(console.bytes().len(), KEPT_BYTES);
    }
}
