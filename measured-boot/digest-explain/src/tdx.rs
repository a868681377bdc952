//! The searches around MRTD and RTMR2 of TDX.

use redoubt_event_log::Rtmr;
use redoubt_firmware::Firmware;
use redoubt_tdx_measurement::{PageOrder, TdxError, mrtd, replay, rtmr2_events};

use crate::cmdline::{double_edits, single_edits};
use crate::difference::{Difference, Match};
use crate::stems::Named;

/// Length of a register in bytes.
pub const REGISTER_LEN: usize = 48;

/// What was found about a register, and how much was tried.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TdxExplanation {
    /// The register's value by the inputs as they are.
    pub computed: [u8; REGISTER_LEN],
    /// For each value in question the nearest inputs that give it.
    pub matches: Vec<Option<Match>>,
    /// Values that were computed.
    pub values: u64,
}

/// What RTMR2 is made from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TdxBoot {
    /// The command line.
    pub cmdline: String,
    /// SHA-384 of the initrd, where there is one.
    pub initrd_sha384: Option<[u8; REGISTER_LEN]>,
}

/// Searches for values of MRTD: both page orders, with the firmware and its candidates.
pub fn explain_mrtd(
    values: &[[u8; REGISTER_LEN]],
    firmware: &Firmware,
    order: PageOrder,
    candidates: &[Named<&Firmware>],
) -> Result<TdxExplanation, TdxError> {
    let mut search = Search::new(values, mrtd(firmware, order)?);
    let own = std::iter::once((firmware, Vec::new()));
    let others = candidates.iter().map(|candidate| {
        let difference = Difference::Firmware(candidate.name.clone());
        (candidate.value, vec![difference])
    });
    for (firmware, differences) in own.chain(others) {
        for other in [PageOrder::ByPage, PageOrder::BySection] {
            let mut differences = differences.clone();
            if other != order {
                differences.push(Difference::PageOrder(other));
            }
            // A candidate without TDX metadata matches nothing.
            if let Ok(value) = mrtd(firmware, other) {
                search.compare(value, || differences);
            }
        }
    }
    Ok(search.found)
}

/// Searches for values of RTMR2: command lines one and two changes away, other initrds or none.
pub fn explain_rtmr2(
    values: &[[u8; REGISTER_LEN]],
    boot: &TdxBoot,
    initrds: &[Named<[u8; REGISTER_LEN]>],
    parameters: &[String],
) -> Result<TdxExplanation, TdxError> {
    let mut search = Search::new(values, rtmr2(&boot.cmdline, boot.initrd_sha384)?);
    let mut cmdlines = vec![(boot.cmdline.clone(), Vec::new())];
    let edits = single_edits(&boot.cmdline, parameters)
        .into_iter()
        .chain(double_edits(&boot.cmdline, parameters));
    cmdlines.extend(edits.map(|edit| (edit.cmdline, edit.differences)));
    let mut all_initrds = vec![(boot.initrd_sha384, Vec::new())];
    all_initrds.extend(initrds.iter().map(|initrd| {
        let difference = Difference::Initrd(initrd.name.clone());
        (Some(initrd.value), vec![difference])
    }));
    if boot.initrd_sha384.is_some() {
        all_initrds.push((None, vec![Difference::NoInitrd]));
    }
    for (initrd, of_initrd) in &all_initrds {
        for (cmdline, of_cmdline) in &cmdlines {
            // What no firmware can pass on matches nothing.
            if let Ok(value) = rtmr2(cmdline, *initrd) {
                search.compare(value, || [&of_initrd[..], of_cmdline].concat());
            }
        }
    }
    Ok(search.found)
}

fn rtmr2(
    cmdline: &str,
    initrd_sha384: Option<[u8; REGISTER_LEN]>,
) -> Result<[u8; REGISTER_LEN], TdxError> {
    Ok(replay(&rtmr2_events(cmdline, initrd_sha384)?).get(Rtmr::Rtmr2))
}

struct Search<'a> {
    values: &'a [[u8; REGISTER_LEN]],
    found: TdxExplanation,
}

impl<'a> Search<'a> {
    fn new(values: &'a [[u8; REGISTER_LEN]], computed: [u8; REGISTER_LEN]) -> Self {
        Self {
            values,
            found: TdxExplanation {
                computed,
                matches: vec![None; values.len()],
                values: 0,
            },
        }
    }

    fn compare(
        &mut self,
        value: [u8; REGISTER_LEN],
        differences: impl FnOnce() -> Vec<Difference>,
    ) {
        self.found.values += 1;
        if !self.values.contains(&value) {
            return;
        }
        let differences = differences();
        for (wanted, found) in self.values.iter().zip(&mut self.found.matches) {
            let better = found
                .as_ref()
                .is_none_or(|best| differences.len() < best.differences.len());
            if *wanted == value && better {
                *found = Some(Match {
                    differences: differences.clone(),
                });
            }
        }
    }
}
