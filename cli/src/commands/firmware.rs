//! `redoubt firmware`: what an OVMF image is and can do.

use std::path::PathBuf;

use clap::Subcommand;
use redoubt_firmware::{
    Capability, Firmware, FirmwareKind, FirmwareVersion, GuestArea, Guid, SevSection, TdxSection,
};
use redoubt_launch_digest::{LaunchDigest, firmware_digest};
use serde::Serialize;
use sha2::{Digest, Sha256};

use crate::failure::Failure;
use crate::files;
use crate::in_file::NameFile;
use crate::printer::Printer;
use crate::text::Text;

/// What to do with firmware images.
#[derive(Debug, Subcommand)]
pub(crate) enum FirmwareCommand {
    /// Show an image's tables and what it can do.
    Inspect {
        /// OVMF image.
        file: PathBuf,
    },
}

impl FirmwareCommand {
    pub(super) fn run(self, printer: Printer) -> Result<(), Failure> {
        let Self::Inspect { file } = self;
        let image = files::read(&file)?;
        let firmware = Firmware::parse(&image).in_file(&file)?;
        let report = Report::of(&firmware);
        printer.result(&report, || report.text())
    }
}

#[derive(Serialize)]
struct Report {
    kind: FirmwareKind,
    size_bytes: usize,
    sha256: String,
    version: FirmwareVersion,
    /// Digest of the image's pages, the first part of a launch digest.
    snp_digest: LaunchDigest,
    entries: Vec<Entry>,
    kernel_hash_area: Option<GuestArea>,
    secret_area: Option<GuestArea>,
    reset_eip: Option<u32>,
    sections: Vec<SevSection>,
    tdx_sections: Vec<TdxSection>,
    capabilities: Vec<Capability>,
}

#[derive(Serialize)]
struct Entry {
    guid: Guid,
    name: Option<&'static str>,
    offset: usize,
    size_bytes: usize,
}

impl Report {
    fn of(firmware: &Firmware) -> Self {
        let entries = firmware.footer().entries().iter().map(|entry| Entry {
            guid: entry.guid,
            name: entry.guid.name(),
            offset: entry.offset,
            size_bytes: entry.len,
        });
        Self {
            kind: firmware.kind(),
            size_bytes: firmware.bytes().len(),
            sha256: hex::encode(Sha256::digest(firmware.bytes())),
            version: firmware.version(),
            snp_digest: firmware_digest(firmware),
            entries: entries.collect(),
            kernel_hash_area: firmware.kernel_hash_area(),
            secret_area: firmware.secret_area(),
            reset_eip: firmware.sev_es_reset_eip(),
            sections: firmware.sev_sections().to_vec(),
            tdx_sections: firmware.tdx_sections().to_vec(),
            capabilities: firmware.capabilities(),
        }
    }

    fn text(&self) -> String {
        let mut text = Text::default();
        text.line(format_args!("kind        {}", self.kind));
        text.line(format_args!("size        {} bytes", self.size_bytes));
        text.line(format_args!("sha256      {}", self.sha256));
        for (name, value) in [
            ("vendor", &self.version.vendor),
            ("version", &self.version.version),
        ] {
            if let Some(value) = value {
                text.line(format_args!("{name:<12}{value}"));
            }
        }
        text.line(format_args!("SNP digest  {}", self.snp_digest));
        text.heading("Footer table");
        for Entry {
            guid,
            name,
            offset,
            size_bytes,
        } in &self.entries
        {
            let name = name.unwrap_or("unknown");
            text.line(format_args!(
                "  {offset:#x}  {guid}  {name}, {size_bytes} bytes"
            ));
        }
        self.sev(&mut text);
        self.tdx(&mut text);
        text.heading("What it can do");
        for Capability {
            name,
            present,
            meaning,
            without,
        } in &self.capabilities
        {
            let (mark, why) = if *present {
                ("yes", meaning)
            } else {
                ("NO", without)
            };
            text.line(format_args!("  {mark:<5}{name:<16}{why}"));
        }
        text.into()
    }

    fn sev(&self, text: &mut Text) {
        text.heading("SEV metadata");
        if self.sections.is_empty() {
            text.line(format_args!("  none"));
        }
        for SevSection { kind, gpa, size } in &self.sections {
            text.line(format_args!(
                "  {gpa:#010x}  {:>6} KiB    {kind}",
                size >> 10
            ));
        }
        let areas = [
            ("kernel-hash table", self.kernel_hash_area),
            ("secret", self.secret_area),
        ];
        for (name, area) in areas {
            if let Some(GuestArea { gpa, size }) = area {
                text.line(format_args!("  {gpa:#010x}  {size:>6} bytes  {name}"));
            }
        }
    }

    fn tdx(&self, text: &mut Text) {
        text.heading("TDX metadata");
        if self.tdx_sections.is_empty() {
            text.line(format_args!("  none"));
        }
        for section in &self.tdx_sections {
            let TdxSection {
                kind,
                gpa,
                size,
                attributes,
                ..
            } = section;
            let how = match (attributes.measured(), attributes.added_at_run_time()) {
                (true, _) => ", contents in MRTD",
                (false, true) => ", added at run time",
                (false, false) => "",
            };
            text.line(format_args!(
                "  {gpa:#010x}  {:>6} KiB    {kind}{how}",
                size >> 10
            ));
        }
    }
}
