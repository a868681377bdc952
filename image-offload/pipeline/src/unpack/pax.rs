//! PAX extended headers (POSIX.1-2017, pax, "pax Header Block").

use crate::errors::EntryProblem;

/// The records of one extended header that change the entry after it.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct PaxRecords {
    pub(crate) path: Option<Vec<u8>>,
    pub(crate) linkpath: Option<Vec<u8>>,
    pub(crate) size: Option<u64>,
    pub(crate) uid: Option<u64>,
    pub(crate) gid: Option<u64>,
    pub(crate) mtime: Option<Timestamp>,
    /// Extended attributes (`SCHILY.xattr.`), in order of appearance.
    pub(crate) xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    pub(crate) sparse: PaxSparse,
}

/// The records of GNU tar's sparse formats 0.0, 0.1 and 1.0.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct PaxSparse {
    pub(crate) major: Option<u64>,
    pub(crate) minor: Option<u64>,
    pub(crate) name: Option<Vec<u8>>,
    pub(crate) real_size: Option<u64>,
    /// Offsets and lengths, alternating.
    pub(crate) map: Vec<u64>,
}

/// A point in time; nanoseconds count upwards also before 1970.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Timestamp {
    pub(crate) seconds: i64,
    pub(crate) nanoseconds: u32,
}

const XATTR: &[u8] = b"SCHILY.xattr.";
/// Numbers in a sparse map: two per segment.
pub(crate) const MAX_SPARSE_NUMBERS: usize = 1 << 17;

impl PaxRecords {
    /// Reads the data of an extended header: `LENGTH KEY=VALUE\n`, repeated.
    pub(crate) fn parse(mut data: &[u8]) -> Result<Self, EntryProblem> {
        let mut records = Self::default();
        while !data.is_empty() {
            let space = data
                .iter()
                .take(20)
                .position(|&byte| byte == b' ')
                .ok_or(EntryProblem::Metadata)?;
            let length = number(&data[..space]).ok_or(EntryProblem::Metadata)?;
            let length = usize::try_from(length).map_err(|_| EntryProblem::Metadata)?;
            if length <= space + 1 || length > data.len() || data[length - 1] != b'\n' {
                return Err(EntryProblem::Metadata);
            }
            let record = &data[space + 1..length - 1];
            let equals = record
                .iter()
                .position(|&byte| byte == b'=')
                .ok_or(EntryProblem::Metadata)?;
            records.set(&record[..equals], &record[equals + 1..])?;
            data = &data[length..];
        }
        Ok(records)
    }

    fn set(&mut self, key: &[u8], value: &[u8]) -> Result<(), EntryProblem> {
        // An empty value takes an earlier one back.
        let text = || (!value.is_empty()).then(|| value.to_vec());
        let count = || match value {
            b"" => Ok(None),
            _ => number(value).map(Some).ok_or(EntryProblem::Metadata),
        };
        match key {
            b"path" => self.path = text(),
            b"linkpath" => self.linkpath = text(),
            b"size" => self.size = count()?,
            b"uid" => self.uid = count()?,
            b"gid" => self.gid = count()?,
            b"mtime" if value.is_empty() => self.mtime = None,
            b"mtime" => {
                self.mtime = Some(Timestamp::parse(value).ok_or(EntryProblem::Metadata)?);
            }
            _ if key.starts_with(XATTR) => {
                let name = &key[XATTR.len()..];
                self.xattrs.retain(|(known, _)| known != name);
                self.xattrs.push((name.to_vec(), value.to_vec()));
            }
            _ => self.sparse.set(key, value).ok_or(EntryProblem::Sparse)?,
        }
        Ok(())
    }
}

impl PaxSparse {
    fn set(&mut self, key: &[u8], value: &[u8]) -> Option<()> {
        match key {
            b"GNU.sparse.major" => self.major = Some(number(value)?),
            b"GNU.sparse.minor" => self.minor = Some(number(value)?),
            b"GNU.sparse.name" => self.name = Some(value.to_vec()),
            b"GNU.sparse.size" | b"GNU.sparse.realsize" => self.real_size = Some(number(value)?),
            b"GNU.sparse.map" => {
                self.map.clear();
                for part in value
                    .split(|&byte| byte == b',')
                    .take(MAX_SPARSE_NUMBERS + 1)
                {
                    self.map.push(number(part)?);
                }
            }
            // Format 0.0 repeats these two in turn.
            b"GNU.sparse.offset" if self.map.len().is_multiple_of(2) => {
                self.map.push(number(value)?);
            }
            b"GNU.sparse.numbytes" if !self.map.len().is_multiple_of(2) => {
                self.map.push(number(value)?);
            }
            b"GNU.sparse.offset" | b"GNU.sparse.numbytes" => return None,
            _ => {}
        }
        (self.map.len() <= MAX_SPARSE_NUMBERS).then_some(())
    }

    /// Whether the map stands at the beginning of the entry's data.
    pub(crate) fn map_in_data(&self) -> bool {
        self.major == Some(1) && self.minor == Some(0)
    }

    pub(crate) fn is_sparse(&self) -> bool {
        self.map_in_data() || !self.map.is_empty()
    }
}

/// Plain decimal digits.
pub(crate) fn number(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() || digits.len() > 20 {
        return None;
    }
    digits.iter().try_fold(0_u64, |value, digit| {
        let digit = digit.is_ascii_digit().then(|| u64::from(digit - b'0'))?;
        value.checked_mul(10)?.checked_add(digit)
    })
}

impl Timestamp {
    /// Reads seconds with an optional sign and fraction.
    fn parse(text: &[u8]) -> Option<Self> {
        let (negative, text) = match text.strip_prefix(b"-") {
            Some(rest) => (true, rest),
            None => (false, text),
        };
        let point = text
            .iter()
            .position(|&byte| byte == b'.')
            .unwrap_or(text.len());
        let seconds = i64::try_from(number(&text[..point])?).ok()?;
        let fraction = text.get(point + 1..).unwrap_or_default();
        if !fraction.iter().all(u8::is_ascii_digit) {
            return None;
        }
        let mut nanoseconds = 0;
        for place in 0..9 {
            let digit = fraction
                .get(place)
                .map_or(0, |digit| u32::from(digit - b'0'));
            nanoseconds = nanoseconds * 10 + digit;
        }
        Some(match (negative, nanoseconds) {
            (false, _) => Self {
                seconds,
                nanoseconds,
            },
            (true, 0) => Self {
                seconds: -seconds,
                nanoseconds: 0,
            },
            (true, _) => Self {
                seconds: -seconds - 1,
                nanoseconds: 1_000_000_000 - nanoseconds,
            },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn record(key: &str, value: &[u8]) -> Vec<u8> {
        let body = key.len() + value.len() + 3;
        let mut length = body + 1;
        while length != body + length.to_string().len() {
            length = body + length.to_string().len();
        }
        [format!("{length} {key}=").as_bytes(), value, b"\n"].concat()
    }

    #[test]
    fn records_are_read_with_binary_values() {
        let data = [
            record("path", b"some/where"),
            record("mtime", b"1700000000.25"),
            record("uid", b"4000000"),
            record("SCHILY.xattr.security.capability", b"\x01\0\n=\xff"),
            record("comment", b"ignored"),
        ]
        .concat();
        let records = PaxRecords::parse(&data).unwrap();
        assert_eq!(records.path.as_deref(), Some(&b"some/where"[..]));
        assert_eq!(
            records.mtime,
            Some(Timestamp {
                seconds: 1_700_000_000,
                nanoseconds: 250_000_000
            })
        );
        assert_eq!(records.uid, Some(4_000_000));
        let capability = (b"security.capability".to_vec(), b"\x01\0\n=\xff".to_vec());
        assert_eq!(records.xattrs, [capability]);
    }

    #[test]
    fn times_before_1970_count_their_fraction_upwards() {
        assert_eq!(
            Timestamp::parse(b"-1.25"),
            Some(Timestamp {
                seconds: -2,
                nanoseconds: 750_000_000
            })
        );
        assert_eq!(
            Timestamp::parse(b"-3"),
            Some(Timestamp {
                seconds: -3,
                nanoseconds: 0
            })
        );
        for text in [
            &b""[..],
            b".",
            b"1.x",
            b"--1",
            b"1e5",
            b"99999999999999999999",
        ] {
            assert_eq!(Timestamp::parse(text), None);
        }
    }

    #[test]
    fn malformed_records_are_refused() {
        for data in [
            &b"x"[..],
            b"5 a=b",
            b"3 =\n",
            b"99 a=b\n",
            b"0 a=b\n",
            b"6 ab\n\n",
            b"11 size=-1\n",
            b"99999999999999999999999 a=b\n",
        ] {
            assert!(PaxRecords::parse(data).is_err(), "{data:?}");
        }
    }

    #[test]
    fn the_old_sparse_formats_give_the_same_map() {
        let zero = [
            record("GNU.sparse.size", b"100"),
            record("GNU.sparse.offset", b"10"),
            record("GNU.sparse.numbytes", b"20"),
        ]
        .concat();
        let one = [
            record("GNU.sparse.size", b"100"),
            record("GNU.sparse.map", b"10,20"),
        ]
        .concat();
        let (zero, one) = (
            PaxRecords::parse(&zero).unwrap(),
            PaxRecords::parse(&one).unwrap(),
        );
        assert_eq!(zero.sparse.map, [10, 20]);
        assert_eq!(zero, one);
        assert!(PaxRecords::parse(&record("GNU.sparse.numbytes", b"1")).is_err());
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_parser_panic(data in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = PaxRecords::parse(&data);
        }

        #[test]
        fn a_written_record_is_read_back(value in proptest::collection::vec(any::<u8>(), 1..2000)) {
            let read = PaxRecords::parse(&record("path", &value)).unwrap();
            prop_assert_eq!(read.path, Some(value));
        }
    }
}
