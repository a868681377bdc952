//! Values of command-line options that need parsing of their own.

use std::fmt;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::str::FromStr;

/// `NAME=VALUE`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Pair {
    pub(crate) name: String,
    pub(crate) value: String,
}

impl FromStr for Pair {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once('=') {
            Some((name, value)) if !name.is_empty() => Ok(Self {
                name: name.to_owned(),
                value: value.to_owned(),
            }),
            _ => Err("expected NAME=VALUE".to_owned()),
        }
    }
}

/// `NAME=FILE`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct NamedFile {
    pub(crate) name: String,
    pub(crate) path: PathBuf,
}

impl FromStr for NamedFile {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let pair: Pair = text.parse().map_err(|_| "expected NAME=FILE".to_owned())?;
        if pair.value.is_empty() {
            return Err("expected NAME=FILE".to_owned());
        }
        Ok(Self {
            name: pair.name,
            path: pair.value.into(),
        })
    }
}

/// A number of vCPUs, or the numbers from one to another: `4`, `1..8`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct VcpuRange {
    first: u32,
    last: u32,
}

impl VcpuRange {
    pub(crate) fn counts(self) -> RangeInclusive<u32> {
        self.first..=self.last
    }
}

impl FromStr for VcpuRange {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (first, last) = text.split_once("..").unwrap_or((text, text));
        let number = |text: &str| {
            text.trim_start_matches('=')
                .parse::<u32>()
                .ok()
                .ok_or("expected a number, or a range 1..8")
        };
        let range = Self {
            first: number(first)?,
            last: number(last)?,
        };
        if range.first > range.last {
            return Err("the range is empty".to_owned());
        }
        Ok(range)
    }
}

/// All shapes of a range: `vcpus=1..64`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RangeOf {
    Vcpus(VcpuRange),
}

impl FromStr for RangeOf {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once('=') {
            Some(("vcpus", range)) => Ok(Self::Vcpus(range.parse()?)),
            _ => Err("expected vcpus=FROM..TO".to_owned()),
        }
    }
}

/// CPU family, model and stepping: `25,1,1`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct CpuNumbers {
    pub(crate) family: u32,
    pub(crate) model: u32,
    pub(crate) stepping: u32,
}

impl FromStr for CpuNumbers {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let numbers: Vec<u32> = text
            .split(',')
            .map_while(|part| part.parse().ok())
            .collect();
        match (numbers.as_slice(), text.matches(',').count()) {
            ([family, model, stepping], 2) => Ok(Self {
                family: *family,
                model: *model,
                stepping: *stepping,
            }),
            _ => Err("expected three numbers such as 25,1,1".to_owned()),
        }
    }
}

/// Bytes of a fixed length in hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Hex<const LEN: usize>(pub(crate) [u8; LEN]);

impl<const LEN: usize> Default for Hex<LEN> {
    fn default() -> Self {
        Self([0; LEN])
    }
}

impl<const LEN: usize> fmt::Display for Hex<LEN> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl<const LEN: usize> FromStr for Hex<LEN> {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut bytes = [0; LEN];
        hex::decode_to_slice(text, &mut bytes)
            .map_err(|_| format!("expected {} hexadecimal digits", 2 * LEN))?;
        Ok(Self(bytes))
    }
}

/// A number in decimal or, after `0x`, hexadecimal digits.
pub(crate) fn number(text: &str) -> Result<u64, String> {
    let parsed = match text.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16),
        None => text.parse(),
    };
    parsed.map_err(|_| "expected a number such as 1 or 0x21".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_hold_their_ends() {
        let counts = |text: &str| {
            text.parse::<VcpuRange>()
                .map(|range| range.counts().collect::<Vec<_>>())
        };
        assert_eq!(counts("4"), Ok(vec![4]));
        assert_eq!(counts("2..4"), Ok(vec![2, 3, 4]));
        assert_eq!(counts("1..=2"), Ok(vec![1, 2]));
        for text in ["", "3..2", "a..b", "-1", "4294967296"] {
            assert!(counts(text).is_err(), "{text}");
        }
        let shapes = "1..64".parse().map(RangeOf::Vcpus);
        assert_eq!("vcpus=1..64".parse(), shapes);
        for text in ["1..64", "memory=1..2", "vcpus=", "vcpus=2..1"] {
            assert!(text.parse::<RangeOf>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_cpu_is_three_numbers() {
        let cpu = CpuNumbers {
            family: 25,
            model: 1,
            stepping: 1,
        };
        assert_eq!("25,1,1".parse(), Ok(cpu));
        for text in ["", "25,1", "25,1,1,0", "25,x,1", "25,1,1,x"] {
            assert!(text.parse::<CpuNumbers>().is_err(), "{text}");
        }
    }

    #[test]
    fn bytes_have_all_their_digits() {
        assert_eq!("0aFF".parse(), Ok(Hex([0x0a, 0xff])));
        for text in ["", "0a", "0affff", "0afg"] {
            assert!(text.parse::<Hex<2>>().is_err(), "{text}");
        }
    }

    #[test]
    fn numbers_are_decimal_or_hexadecimal() {
        assert_eq!(number("33"), Ok(33));
        assert_eq!(number("0x21"), Ok(33));
        assert!(number("21h").is_err());
    }

    #[test]
    fn the_value_of_a_pair_may_hold_equals_signs() {
        let pair: Pair = "a=b=c".parse().unwrap();
        assert_eq!((pair.name.as_str(), pair.value.as_str()), ("a", "b=c"));
        assert!("=b".parse::<Pair>().is_err());
        assert!("a".parse::<Pair>().is_err());
    }
}
