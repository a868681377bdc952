//! A quote in words.

use std::fmt::Write as _;

use crate::tdx::quote::TdxQuote;

/// Every field of a quote's TD report in words, one per line, for a person to
/// read. Nothing is verified; the last line says so.
pub fn show(quote: &TdxQuote) -> String {
    let mut text = String::new();
    for (name, value) in rows(quote) {
        // Writing to a `String` cannot fail.
        let _ = writeln!(text, "{name:<22} {value}");
    }
    text.push_str("\nnot verified: these are the quote's own words\n");
    text
}

/// Every field with its name, in words.
pub fn rows(quote: &TdxQuote) -> Vec<(&'static str, String)> {
    let report = quote.report();
    let mut rows = vec![
        ("version", quote.version().number().to_string()),
        ("quoting enclave svn", quote.qe_svn().to_string()),
        ("certification svn", quote.pce_svn().to_string()),
        ("tee tcb svn", hex::encode(report.tee_tcb_svn)),
        ("mrseam", hex::encode(report.mr_seam)),
        ("mrsignerseam", or_zero(&report.mr_signer_seam)),
        (
            "seam attributes",
            format!("{:#x}", report.seam_attributes.get()),
        ),
        ("td attributes", attributes(quote)),
        ("xfam", format!("{:#x}", report.xfam.get())),
        ("mrtd", hex::encode(report.mr_td)),
        ("mrconfigid", or_zero(&report.mr_config_id)),
        ("mrowner", or_zero(&report.mr_owner)),
        ("mrownerconfig", or_zero(&report.mr_owner_config)),
    ];
    let names = ["rtmr0", "rtmr1", "rtmr2", "rtmr3"];
    rows.extend(
        names
            .into_iter()
            .zip(&report.rtmrs)
            .map(|(name, rtmr)| (name, or_zero(rtmr))),
    );
    rows.push(("report data", hex::encode(report.report_data)));
    if let Some(more) = quote.report_15() {
        rows.push(("tee tcb svn now", hex::encode(more.tee_tcb_svn_2)));
        rows.push(("mrservicetd", or_zero(&more.mr_service_td)));
    }
    rows.push((
        "pck chain",
        quote
            .pck_chain()
            .map_or("not in the quote", |_| "in the quote")
            .to_owned(),
    ));
    rows
}

fn or_zero(digest: &[u8; 48]) -> String {
    if digest.iter().all(|byte| *byte == 0) {
        "zero".to_owned()
    } else {
        hex::encode(digest)
    }
}

fn attributes(quote: &TdxQuote) -> String {
    let attributes = quote.attributes();
    let on = |on: bool| if on { "on" } else { "off" };
    let mut text = format!(
        "{attributes}: debug {}, profiling {}, SEPT_VE_DISABLE {}, migration {}, service TDs {}, \
         protection keys {}, Key Locker {}, performance monitoring {}",
        on(attributes.debug()),
        on(attributes.profiling()),
        on(attributes.sept_ve_disabled()),
        on(attributes.migratable()),
        on(attributes.service_td_extension()),
        on(attributes.protection_keys()),
        on(attributes.key_locker()),
        on(attributes.performance_monitoring()),
    );
    if attributes.reserved_bits() != 0 {
        let _ = write!(text, ", reserved bits {:#x}", attributes.reserved_bits());
    }
    text
}
