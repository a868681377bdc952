//! Values of the options of `redoubt verify`.

use std::str::FromStr;

use clap::ValueEnum;
use redoubt_evidence::{Product, TcbVersion};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// A digest or another value of exactly `N` bytes in hexadecimal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Hex<const N: usize>(pub(super) [u8; N]);

impl<const N: usize> FromStr for Hex<N> {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut bytes = [0; N];
        hex::decode_to_slice(text, &mut bytes)
            .map_err(|_| format!("expected {N} bytes in hexadecimal"))?;
        Ok(Self(bytes))
    }
}

/// `REPORT_DATA`: up to 64 bytes; the rest is zero, as attesters fill it up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ReportData(pub(super) [u8; 64]);

impl FromStr for ReportData {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let given = hex::decode(text).unwrap_or_default();
        let mut bytes = [0; 64];
        match bytes.get_mut(..given.len()) {
            Some(start) if !given.is_empty() => start.copy_from_slice(&given),
            _ => return Err("expected 1 to 64 bytes in hexadecimal".to_owned()),
        }
        Ok(Self(bytes))
    }
}

/// A time such as `2026-06-01T12:00:00Z`.
pub(super) fn time(text: &str) -> Result<OffsetDateTime, String> {
    OffsetDateTime::parse(text, &Rfc3339)
        .map_err(|_| "expected a time such as 2026-06-01T12:00:00Z".to_owned())
}

/// A processor line.
pub(crate) fn product(text: &str) -> Result<Product, String> {
    Product::ALL
        .into_iter()
        .find(|product| product.name().eq_ignore_ascii_case(text))
        .ok_or_else(|| "expected milan, genoa (also for Siena and Bergamo) or turin".to_owned())
}

/// Firmware versions such as `bootloader=3,snp=8,microcode=115`; those left out
/// have no minimum.
pub(super) fn tcb(text: &str) -> Result<TcbVersion, String> {
    const EXPECTED: &str =
        "expected versions such as bootloader=3,tee=0,snp=8,microcode=115 (and fmc=1 on Turin)";
    let mut tcb = TcbVersion::default();
    let mut seen = Vec::new();
    for part in text.split(',') {
        let (name, number) = part.split_once('=').ok_or(EXPECTED)?;
        let number = number.parse().map_err(|_| EXPECTED)?;
        if seen.contains(&name) {
            return Err(format!("{name} is given twice"));
        }
        seen.push(name);
        match name {
            "fmc" => tcb.fmc = Some(number),
            "bootloader" => tcb.bootloader = number,
            "tee" => tcb.tee = number,
            "snp" => tcb.snp = number,
            "microcode" => tcb.microcode = number,
            _ => return Err(EXPECTED.to_owned()),
        }
    }
    Ok(tcb)
}

/// A firmware ABI such as `1.55`.
pub(super) fn abi(text: &str) -> Result<(u8, u8), String> {
    text.split_once('.')
        .and_then(|(major, minor)| Some((major.parse().ok()?, minor.parse().ok()?)))
        .ok_or_else(|| "expected a version such as 1.55".to_owned())
}

/// What is accepted although it is refused by default.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Allow {
    /// A guest that the host may debug: it can read and change its memory.
    Debug,
    /// A guest that a migration agent may move (SEV-SNP).
    Migration,
    /// A guest that may be given CXL memory (SEV-SNP).
    Cxl,
    /// Report version 2, which does not identify the CPU (SEV-SNP).
    Version2,
    /// A guest to which service TDs are bound (TDX).
    ServiceTd,
}

/// What is required although any value will do by default.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Require {
    /// The guest forbids simultaneous multithreading (SEV-SNP).
    NoSmt,
    /// The guest runs on one socket only (SEV-SNP).
    SingleSocket,
    /// The guest demands AES-256-XTS (SEV-SNP).
    Aes256Xts,
    /// The guest demands that power readings are off (SEV-SNP).
    NoRapl,
    /// The guest demands ciphertext hiding (SEV-SNP).
    CiphertextHiding,
    /// The guest forbids the host's page-swap commands (SEV-SNP).
    NoPageSwap,
    /// The firmware has looked for memory aliases (SEV-SNP).
    AliasCheck,
    /// Simultaneous multithreading is off on the platform.
    PlatformNoSmt,
    /// Transparent memory encryption is on (SEV-SNP).
    PlatformTsme,
    /// The platform has ECC memory (SEV-SNP).
    PlatformEcc,
    /// Power readings are off on the platform (SEV-SNP).
    PlatformNoRapl,
    /// Ciphertext hiding is on (SEV-SNP).
    PlatformCiphertextHiding,
    /// No packages can be added to the platform (TDX).
    PlatformNotDynamic,
    /// Intel's registration service keeps no keys of the platform (TDX).
    PlatformNoCachedKeys,
    /// No performance monitoring in the guest (TDX).
    NoPerformanceMonitoring,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn report_data_is_filled_up_with_zeros() {
        let data: ReportData = "0102".parse().unwrap();
        assert_eq!(data.0[..3], [1, 2, 0]);
        assert!("".parse::<ReportData>().is_err());
        assert!("00".repeat(65).parse::<ReportData>().is_err());
        assert!("0".parse::<ReportData>().is_err());
    }

    #[test]
    fn minimum_versions_name_their_components() {
        let least = tcb("snp=8,microcode=115").unwrap();
        assert_eq!((least.snp, least.microcode, least.bootloader), (8, 115, 0));
        assert_eq!(tcb("fmc=1").unwrap().fmc, Some(1));
        for text in ["", "snp", "snp=256", "snp=1,snp=2", "ucode=1", "snp=1,"] {
            assert!(tcb(text).is_err(), "{text}");
        }
    }

    #[test]
    fn values_have_their_exact_length() {
        assert_eq!("0aff".parse::<Hex<2>>(), Ok(Hex([10, 255])));
        assert!("0a".parse::<Hex<2>>().is_err());
        assert!("zz".parse::<Hex<1>>().is_err());
        assert_eq!(abi("1.55"), Ok((1, 55)));
        assert!(abi("1").is_err());
        assert!(time("yesterday").is_err());
        assert_eq!(product("Genoa"), Ok(Product::Genoa));
        assert!(product("rome").is_err());
    }
}
