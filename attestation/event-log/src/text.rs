//! Text from logs, made safe for people's screens.

/// Most characters of a text that are shown.
const MAX_CHARS: usize = 1024;

/// The text up to the first NUL; what is not printable becomes a space.
pub(crate) fn until_nul(bytes: &[u8]) -> String {
    let end = bytes.iter().position(|byte| *byte == 0);
    printable(&String::from_utf8_lossy(
        bytes.get(..end.unwrap_or(bytes.len())).unwrap_or_default(),
    ))
}

/// UTF-16 text up to the first NUL.
pub(crate) fn utf16_until_nul(bytes: &[u8]) -> String {
    let units: Vec<u16> = bytes
        .as_chunks::<2>()
        .0
        .iter()
        .map(|pair| u16::from_le_bytes(*pair))
        .take_while(|unit| *unit != 0)
        .collect();
    printable(&String::from_utf16_lossy(&units))
}

/// Cuts long text, and replaces characters that move a terminal's cursor.
pub(crate) fn printable(text: &str) -> String {
    let mut printable: String = text
        .chars()
        .take(MAX_CHARS)
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect();
    if text.chars().nth(MAX_CHARS).is_some() {
        printable.push('…');
    }
    printable
}
