//! The least of DER (X.690): elements with a one-byte tag and a definite
//! length, walked over without recursion.

/// What is left of a constructed element's content.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Element<'a>(&'a [u8]);

impl<'a> Element<'a> {
    pub(crate) const fn new(content: &'a [u8]) -> Self {
        Self(content)
    }

    /// The content of the one element that the bytes consist of.
    pub(crate) fn only(bytes: &'a [u8], tag: u8) -> Option<Self> {
        let mut outer = Self(bytes);
        let content = outer.next(tag)?;
        outer.is_empty().then_some(Self(content))
    }

    pub(crate) const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The next element's content if it has this tag; otherwise nothing moves.
    pub(crate) fn next(&mut self, tag: u8) -> Option<&'a [u8]> {
        let mut ahead = *self;
        let (found, content) = ahead.any()?;
        if found != tag {
            return None;
        }
        *self = ahead;
        Some(content)
    }

    /// The next element's tag and content.
    pub(crate) fn any(&mut self) -> Option<(u8, &'a [u8])> {
        let (&tag, rest) = self.0.split_first()?;
        let (&first, rest) = rest.split_first()?;
        let (length, rest) = match first {
            0..=0x7f => (usize::from(first), rest),
            0x81..=0x83 => {
                let (digits, rest) = rest.split_at_checked(usize::from(first - 0x80))?;
                let length = digits
                    .iter()
                    .fold(0, |sum, &digit| sum << 8 | usize::from(digit));
                // DER has one spelling of a length, the shortest.
                if digits[0] == 0 || length < 0x80 {
                    return None;
                }
                (length, rest)
            }
            _ => return None,
        };
        let (content, rest) = rest.split_at_checked(length)?;
        self.0 = rest;
        Some((tag, content))
    }
}

/// Writes an element whose content is these pieces.
pub(crate) fn write(tag: u8, pieces: &[&[u8]]) -> Vec<u8> {
    let content = pieces.concat();
    let mut element = vec![tag];
    let length = content.len().to_be_bytes();
    let digits: Vec<u8> = length
        .iter()
        .copied()
        .skip_while(|&byte| byte == 0)
        .collect();
    match (digits.as_slice(), u8::try_from(digits.len())) {
        ([], _) => element.push(0),
        ([short @ 0..=0x7f], _) => element.push(*short),
        (_, count) => {
            // A length has at most eight digits.
            element.push(0x80 | count.unwrap_or(8));
            element.extend_from_slice(&digits);
        }
    }
    element.extend_from_slice(&content);
    element
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        for length in [0, 1, 127, 128, 255, 256, 65_535, 65_536] {
            let content = vec![7; length];
            let der = write(0x04, &[&content]);
            let mut read = Element::new(&der);
            assert_eq!(read.next(0x30), None);
            assert_eq!(read.next(0x04), Some(content.as_slice()));
            assert!(read.is_empty());
        }
    }

    #[test]
    fn other_spellings_of_a_length_are_refused() {
        for der in [
            &[0x04, 0x81, 0x01, 0xff][..],
            &[0x04, 0x82, 0x00, 0x80],
            &[0x04, 0x80],
            &[0x04, 0x84, 0, 0, 0, 1, 0],
            &[0x04, 0x02, 0x00],
            &[0x04],
        ] {
            assert!(Element::new(der).any().is_none(), "{der:?}");
        }
    }
}
