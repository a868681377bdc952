//! `redoubt event-log`: what a guest measured while it booted.

use std::path::PathBuf;
use std::str::FromStr;

use clap::{Args, Subcommand};
use redoubt_event_log::{DigestCheck, EventDigest, EventLog, EventLogError, Rtmr, Rtmrs};
use serde::Serialize;

use crate::failure::Failure;
use crate::files;
use crate::in_file::NameFile;
use crate::printer::Printer;
use crate::text::Text;

/// What to do with event logs.
#[derive(Debug, Subcommand)]
pub(crate) enum EventLogCommand {
    /// Show what each event was, and the registers that the log leads to.
    Show(ShowArgs),
}

/// A log to show.
#[derive(Debug, Args)]
pub(crate) struct ShowArgs {
    /// Log of a TDX guest, such as /sys/firmware/acpi/tables/data/CCEL.
    file: PathBuf,
    /// Register that the guest reported, to compare with; may be given for each of them.
    #[arg(long = "rtmr", value_name = "N=HEX")]
    reported: Vec<ReportedRtmr>,
}

/// A register's value by a report: `0=5aca…`.
#[derive(Clone, Copy, Debug)]
struct ReportedRtmr {
    rtmr: Rtmr,
    value: [u8; 48],
}

impl FromStr for ReportedRtmr {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || "expected N=HEX with N from 0 to 3 and 96 hexadecimal digits".to_owned();
        let (number, digits) = text.split_once('=').ok_or_else(wrong)?;
        let rtmr = Rtmr::ALL
            .into_iter()
            .find(|rtmr| rtmr.index().to_string() == number)
            .ok_or_else(wrong)?;
        let mut value = [0; 48];
        hex::decode_to_slice(digits.trim(), &mut value).map_err(|_| wrong())?;
        Ok(Self { rtmr, value })
    }
}

impl EventLogCommand {
    pub(super) fn run(self, printer: Printer) -> Result<(), Failure> {
        let Self::Show(args) = self;
        let bytes = files::read(&args.file)?;
        let log = EventLog::parse(&bytes).in_file(&args.file)?;
        let replayed = log.replay();
        let report = Report::of(&log, replayed.as_ref());
        printer.result(&report, || report.text())?;
        if args.reported.is_empty() {
            return Ok(());
        }
        let replayed = replayed?;
        let mut reported = replayed;
        for ReportedRtmr { rtmr, value } in args.reported {
            reported.set(rtmr, value);
        }
        Ok(replayed.verify(&reported)?)
    }
}

#[derive(Serialize)]
struct Report<'a> {
    /// Length of the log in bytes without padding.
    log_bytes: usize,
    rtmrs: Option<Rtmrs>,
    /// Why the log leads to no registers.
    no_replay: Option<String>,
    events: Vec<Row<'a>>,
}

#[derive(Serialize)]
struct Row<'a> {
    offset: usize,
    /// Number of the register in the log: RTMR0 is 1.
    register: u32,
    rtmr: Option<Rtmr>,
    #[serde(rename = "type")]
    kind: String,
    label: String,
    digests: Vec<EventDigest<'a>>,
    digest_covers: DigestCheck,
    data_bytes: usize,
}

impl<'a> Report<'a> {
    fn of(log: &'a EventLog<'a>, replayed: Result<&Rtmrs, &EventLogError>) -> Self {
        let events = log.events().iter().zip(log.labels());
        Self {
            log_bytes: log.len_without_padding(),
            rtmrs: replayed.ok().copied(),
            no_replay: replayed.err().map(ToString::to_string),
            events: events
                .map(|(event, label)| Row {
                    offset: event.offset,
                    register: event.register.0,
                    rtmr: event.register.rtmr().filter(|_| event.extends()),
                    kind: event.kind.to_string(),
                    label,
                    digests: event.digests.clone(),
                    digest_covers: event.digest_check(),
                    data_bytes: event.data.len(),
                })
                .collect(),
        }
    }

    fn text(&self) -> String {
        let mut text = Text::default();
        text.line(format_args!(
            "{} events in {} bytes",
            self.events.len(),
            self.log_bytes
        ));
        text.heading("Registers that the log leads to");
        if let Some(rtmrs) = &self.rtmrs {
            for rtmr in Rtmr::ALL {
                let value = hex::encode(rtmrs.get(rtmr));
                text.line(format_args!("  {rtmr}  {value}"));
            }
        }
        if let Some(reason) = &self.no_replay {
            text.line(format_args!("  none: {reason}"));
        }
        text.heading("Events");
        for row in &self.events {
            row.show(&mut text);
        }
        text.heading("The digest covers");
        text.line(format_args!("  =  what the log shows"));
        text.line(format_args!("  v  the variable's value"));
        text.line(format_args!(
            "  !  something else, although it should cover what the log shows"
        ));
        text.line(format_args!(
            "     without a mark: something that is not in the log"
        ));
        text.into()
    }
}

impl Row<'_> {
    fn show(&self, text: &mut Text) {
        /// Enough of a digest to compare by eye.
        const SHOWN_BYTES: usize = 8;
        let register = match self.rtmr {
            Some(rtmr) => rtmr.to_string(),
            None => "-".to_owned(),
        };
        let digest = self
            .digests
            .first()
            .and_then(|digest| digest.bytes.get(..SHOWN_BYTES))
            .map(hex::encode)
            .unwrap_or_default();
        let mark = match self.digest_covers {
            DigestCheck::Data => '=',
            DigestCheck::Value => 'v',
            DigestCheck::Contradiction => '!',
            DigestCheck::Elsewhere | DigestCheck::Unknown => ' ',
        };
        text.line(format_args!(
            "  {register:<5}  {digest}…  {mark}  {}",
            self.label
        ));
    }
}
