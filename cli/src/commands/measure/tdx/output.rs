//! Measurements of TDX guests, in the forms in which they are printed.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use redoubt_event_log::Rtmr;
use redoubt_tdx_measurement::{MeasuredEvent, replay};
use serde::Serialize;
use serde_json::{Map, Value, json};

use super::Prediction;
use super::inputs::TdxInputs;
use crate::failure::{CliError, Failure};
use crate::printer::Printer;
use crate::reference::Format;
use crate::text::Text;

/// What a guest will report, and why not all of it is known.
#[derive(Clone)]
pub(super) struct TdxMeasurement {
    pub(super) inputs: TdxInputs,
    mrtd: [u8; 48],
    mr_config_id: Option<[u8; 48]>,
    events: Vec<MeasuredEvent>,
    left_out: Vec<(Rtmr, &'static str)>,
}

/// One measurement as JSON.
#[derive(Serialize)]
struct Values<'a> {
    tee: &'static str,
    mrtd: String,
    rtmr0: Option<String>,
    rtmr1: Option<String>,
    rtmr2: Option<String>,
    rtmr3: Option<String>,
    mr_config_id: Option<String>,
    not_predicted: Vec<NotPredicted>,
    events: &'a [MeasuredEvent],
    inputs: &'a TdxInputs,
}

#[derive(Serialize)]
struct NotPredicted {
    register: Rtmr,
    reason: &'static str,
}

/// Prints the shapes of a guest.
pub(super) fn print(
    measurements: &[TdxMeasurement],
    printer: Printer,
    format: Option<Format>,
) -> Result<(), Failure> {
    let values =
        || -> Vec<Values<'_>> { measurements.iter().map(TdxMeasurement::values).collect() };
    match format {
        Some(Format::Bare) => {
            let shapes: Vec<String> = measurements.iter().map(TdxMeasurement::bare).collect();
            printer.text(&shapes.join("\n"))
        }
        Some(Format::Redoubt) => {
            let values: Vec<Value> = measurements.iter().map(TdxMeasurement::reference).collect();
            printer.json(&json!({ "version": 1, "values": values }))
        }
        Some(Format::Rvps) => printer.json(&rvps(measurements)?),
        Some(Format::Json) => printer.json(&values()),
        Some(Format::Table) => printer.text(&table(measurements)),
        None => printer.result(&values(), || table(measurements)),
    }
}

impl TdxMeasurement {
    pub(super) fn new(mrtd: [u8; 48], mr_config_id: Option<[u8; 48]>, inputs: TdxInputs) -> Self {
        Self {
            inputs,
            mrtd,
            mr_config_id,
            events: Vec::new(),
            left_out: Vec::new(),
        }
    }

    /// Takes in the events of these registers, or why there are none.
    pub(super) fn predict(&mut self, registers: &[Rtmr], prediction: Prediction) {
        match prediction {
            Ok(events) => self.events.extend(events),
            Err(reason) => self
                .left_out
                .extend(registers.iter().map(|rtmr| (*rtmr, reason))),
        }
    }

    /// A register's value in hexadecimal, where it was predicted.
    fn rtmr(&self, rtmr: Rtmr) -> Option<String> {
        let left_out = self.left_out.iter().any(|(other, _)| *other == rtmr);
        (!left_out).then(|| hex::encode(replay(&self.events).get(rtmr)))
    }

    fn values(&self) -> Values<'_> {
        let not_predicted = self.left_out.iter();
        Values {
            tee: "tdx",
            mrtd: hex::encode(self.mrtd),
            rtmr0: self.rtmr(Rtmr::Rtmr0),
            rtmr1: self.rtmr(Rtmr::Rtmr1),
            rtmr2: self.rtmr(Rtmr::Rtmr2),
            rtmr3: self.rtmr(Rtmr::Rtmr3),
            mr_config_id: self.mr_config_id.map(hex::encode),
            not_predicted: not_predicted
                .map(|(register, reason)| NotPredicted {
                    register: *register,
                    reason,
                })
                .collect(),
            events: &self.events,
            inputs: &self.inputs,
        }
    }

    /// MRTD and RTMR0 to RTMR3, one a line.
    fn bare(&self) -> String {
        let registers = Rtmr::ALL.into_iter().map(|rtmr| self.rtmr(rtmr));
        let lines: Vec<String> = std::iter::once(Some(hex::encode(self.mrtd)))
            .chain(registers)
            .map(|value| value.unwrap_or_else(|| "-".to_owned()))
            .collect();
        lines.join("\n")
    }

    /// A reference value for the key broker. RTMR3 is left out: what runs in the guest extends it.
    fn reference(&self) -> Value {
        let mut value = json!({
            "tee": "tdx",
            "mrtd": hex::encode(self.mrtd),
            "inputs": self.inputs,
        });
        let optional = [
            ("rtmr0", self.rtmr(Rtmr::Rtmr0)),
            ("rtmr1", self.rtmr(Rtmr::Rtmr1)),
            ("rtmr2", self.rtmr(Rtmr::Rtmr2)),
            ("mr_config_id", self.mr_config_id.map(hex::encode)),
        ];
        for (name, text) in optional {
            if let (Some(members), Some(text)) = (value.as_object_mut(), text) {
                members.insert(name.to_owned(), text.into());
            }
        }
        value
    }

    /// Values by the names that Trustee's default policy asks for.
    fn by_rvps_name(&self) -> impl Iterator<Item = (&'static str, String)> {
        let digest_of = |label: &str| {
            let event = self.events.iter().find(|event| event.label == label);
            event.map(|event| hex::encode(event.digest))
        };
        [
            ("mr_td", Some(hex::encode(self.mrtd))),
            ("rtmr_1", self.rtmr(Rtmr::Rtmr1)),
            ("rtmr_2", self.rtmr(Rtmr::Rtmr2)),
            ("tdvfkernel", digest_of("kernel given by the host")),
            ("tdvfkernelparams", digest_of("kernel command line")),
        ]
        .into_iter()
        .filter_map(|(name, value)| Some((name, value?)))
    }
}

/// A message to Trustee's RVPS.
fn rvps(measurements: &[TdxMeasurement]) -> Result<Value, CliError> {
    let mut payload: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for (name, value) in measurements.iter().flat_map(TdxMeasurement::by_rvps_name) {
        let values = payload.entry(name).or_default();
        if !values.contains(&value) {
            values.push(value);
        }
    }
    let payload: Map<String, Value> = payload
        .into_iter()
        .map(|(name, values)| (name.to_owned(), values.into()))
        .collect();
    let payload = serde_json::to_vec(&payload).map_err(CliError::Json)?;
    Ok(json!({
        "version": "0.1.0",
        "type": "sample",
        "payload": STANDARD.encode(payload),
    }))
}

/// What all shapes have in common is shown of the first.
fn table(measurements: &[TdxMeasurement]) -> String {
    let mut text = Text::default();
    let Some(first) = measurements.first() else {
        return text.into();
    };
    let or = |value: Option<String>, other: &str| value.unwrap_or_else(|| other.to_owned());
    text.line(format_args!("MRTD        {}", hex::encode(first.mrtd)));
    for rtmr in Rtmr::ALL {
        if rtmr == Rtmr::Rtmr0 && measurements.len() > 1 {
            for shape in measurements {
                let vcpus = or(shape.inputs.vcpus.map(|vcpus| vcpus.to_string()), "any");
                let value = or(shape.rtmr(rtmr), "not predicted");
                text.line(format_args!(
                    "{:<12}{value}  {vcpus} vCPUs",
                    rtmr.to_string()
                ));
            }
            continue;
        }
        let value = or(first.rtmr(rtmr), "not predicted");
        text.line(format_args!("{:<12}{value}", rtmr.to_string()));
    }
    let id = or(first.mr_config_id.map(hex::encode), "any");
    text.line(format_args!("MRCONFIGID  {id}"));
    if !first.left_out.is_empty() {
        text.heading("Not predicted");
    }
    for (rtmr, reason) in &first.left_out {
        text.line(format_args!("  {rtmr}  {reason}"));
    }
    if !first.events.is_empty() {
        text.heading("Events");
    }
    for event in &first.events {
        let digest = hex::encode(event.digest.first_chunk::<8>().unwrap_or(&[0; 8]));
        text.line(format_args!("  {}  {digest}…  {}", event.rtmr, event.label));
    }
    first.inputs.show(&mut text);
    text.into()
}
