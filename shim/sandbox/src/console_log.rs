//! The guest's console in the shim's log, for operators who ask for it.

use redoubt_agent_api::stage::MAX_LINE_BYTES;

/// Most lines of one guest: it must not fill the host's disk.
const MAX_LINES: u32 = 4096;

/// Cuts a console into lines fit for a log: bounded in length and number.
#[derive(Debug, Default)]
pub(crate) struct ConsoleLog {
    line: Vec<u8>,
    written: u32,
}

impl ConsoleLog {
    /// Takes the next bytes and hands each line that ended in them to `write`.
    pub(crate) fn feed(&mut self, bytes: &[u8], mut write: impl FnMut(&str)) {
        for &byte in bytes {
            if byte != b'\n' {
                if self.line.len() < MAX_LINE_BYTES {
                    self.line.push(byte);
                }
                continue;
            }
            let line = std::mem::take(&mut self.line);
            let text = crate::console::without_escapes(&String::from_utf8_lossy(&line));
            let text = redoubt_errors::flatten(text.trim());
            if text.is_empty() || self.written > MAX_LINES {
                continue;
            }
            self.written = self.written.saturating_add(1);
            if self.written > MAX_LINES {
                write("(the rest of the console is left out)");
            } else {
                write(&text);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines_of(console: &[u8]) -> Vec<String> {
        let mut lines = Vec::new();
        let mut log = ConsoleLog::default();
        for part in console.chunks(7) {
            log.feed(part, |line| lines.push(line.to_owned()));
        }
        lines
    }

    #[test]
    fn lines_come_whole_and_without_control_sequences() {
        let lines =
            lines_of(b"\x1b[2J\x1b[01;01HBdsDxe: starting\r\n\n[    0.0] Linux\r\nunfinished");
        assert_eq!(lines, ["BdsDxe: starting", "[    0.0] Linux"]);
    }

    #[test]
    fn a_guest_that_talks_without_end_is_cut_off() {
        let mut console = vec![b'x'; 3 * MAX_LINE_BYTES];
        console.push(b'\n');
        console.extend(b"y\n".repeat(2 * MAX_LINES as usize));
        let lines = lines_of(&console);
        assert_eq!(lines[0].len(), MAX_LINE_BYTES);
        assert_eq!(lines.len(), MAX_LINES as usize + 1);
        assert!(lines.last().is_some_and(|line| line.starts_with('(')));
    }
}
