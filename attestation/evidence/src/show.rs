//! A report in words.

use std::fmt::Write as _;

use crate::report::SnpReport;

/// Every field of a report in words, one per line, for a person to read.
///
/// Nothing is verified; the last line says so.
pub fn show(report: &SnpReport) -> String {
    let mut text = String::new();
    for (name, value) in rows(report) {
        // Writing to a `String` cannot fail.
        let _ = writeln!(text, "{name:<22} {value}");
    }
    text.push_str("\nnot verified: these are the report's own words\n");
    text
}

/// Every field with its name, in words.
pub fn rows(report: &SnpReport) -> Vec<(&'static str, String)> {
    let raw = report.raw();
    let mut rows = vec![
        ("version", report.version().number().to_string()),
        ("product", product(report)),
        ("vmpl", report.vmpl().to_string()),
        ("launch digest", hex::encode(report.launch_digest())),
        ("host data", hex::encode(report.host_data())),
        ("report data", hex::encode(report.report_data())),
        ("guest policy", policy(report)),
        ("platform info", platform(report)),
        ("guest svn", report.guest_svn().to_string()),
        ("family id", hex::encode(raw.family_id)),
        ("image id", hex::encode(raw.image_id)),
        ("id key digest", or_none(report.id_key_digest())),
        ("author key digest", author_key(report)),
        ("report id", hex::encode(report.report_id())),
        ("migration agent id", migration_agent(&raw.report_id_ma)),
        ("chip id", chip_id(report)),
        ("reported tcb", report.reported_tcb().to_string()),
        ("current tcb", report.current_tcb().to_string()),
        ("committed tcb", report.committed_tcb().to_string()),
        ("launch tcb", report.launch_tcb().to_string()),
        ("current firmware", report.current_version().to_string()),
        ("committed firmware", report.committed_version().to_string()),
    ];
    if let Some((launch, current)) = report.mitigations() {
        rows.push(("launch mitigations", format!("{launch:#x}")));
        rows.push(("current mitigations", format!("{current:#x}")));
    }
    rows.push(("signing key", report.key_info().signing_key().to_string()));
    rows.push((
        "signature algorithm",
        algorithm(report.signature_algorithm()),
    ));
    rows.push(("signature r", big_endian(&raw.signature.r)));
    rows.push(("signature s", big_endian(&raw.signature.s)));
    rows
}

fn product(report: &SnpReport) -> String {
    let Some(cpuid) = report.cpuid() else {
        return "not said (version 2 has no CPU identification)".to_owned();
    };
    let name = report.product().map_or("unknown", |product| product.name());
    format!(
        "{name} (family {:#04x}, model {:#04x}, stepping {})",
        cpuid.family, cpuid.model, cpuid.stepping
    )
}

fn allowed(allowed: bool) -> &'static str {
    if allowed { "allowed" } else { "not allowed" }
}

fn required(required: bool) -> &'static str {
    if required { "required" } else { "not required" }
}

fn on(on: bool) -> &'static str {
    if on { "on" } else { "off" }
}

fn policy(report: &SnpReport) -> String {
    let policy = report.policy();
    let mut text = format!(
        "{policy}: ABI at least {}.{}, SMT {}, migration agent {}, debug {}, single socket {}, \
         CXL {}, AES-256-XTS {}, RAPL off {}, ciphertext hiding {}, page swap {}",
        policy.abi_major(),
        policy.abi_minor(),
        allowed(policy.smt_allowed()),
        allowed(policy.migration_agent_allowed()),
        allowed(policy.debug_allowed()),
        required(policy.single_socket_required()),
        allowed(policy.cxl_allowed()),
        required(policy.aes_256_xts_required()),
        required(policy.rapl_must_be_disabled()),
        required(policy.ciphertext_hiding_required()),
        allowed(!policy.page_swap_disabled()),
    );
    if policy.unknown_bits() != 0 {
        let _ = write!(text, ", unknown bits {:#x}", policy.unknown_bits());
    }
    text
}

fn platform(report: &SnpReport) -> String {
    let info = report.platform_info();
    let mut text = format!(
        "{info}: SMT {}, TSME {}, ECC {}, RAPL {}, ciphertext hiding {}, alias check {}, \
         trusted I/O {}",
        on(info.smt_enabled()),
        on(info.tsme_enabled()),
        on(info.ecc_enabled()),
        on(!info.rapl_disabled()),
        on(info.ciphertext_hiding_enabled()),
        if info.alias_check_complete() {
            "complete"
        } else {
            "not complete"
        },
        on(info.tio_enabled()),
    );
    if info.unknown_bits() != 0 {
        let _ = write!(text, ", unknown bits {:#x}", info.unknown_bits());
    }
    text
}

fn or_none(digest: &[u8]) -> String {
    if digest.iter().all(|byte| *byte == 0) {
        "none".to_owned()
    } else {
        hex::encode(digest)
    }
}

fn author_key(report: &SnpReport) -> String {
    if report.key_info().author_key_enabled() {
        hex::encode(report.author_key_digest())
    } else {
        or_none(report.author_key_digest())
    }
}

fn migration_agent(id: &[u8; 32]) -> String {
    if id.iter().all(|byte| *byte == 0xFF) {
        "none".to_owned()
    } else {
        hex::encode(id)
    }
}

fn chip_id(report: &SnpReport) -> String {
    let masked = report.key_info().chip_key_masked();
    match (or_none(report.chip_id()), masked) {
        (id, true) => format!("{id} (masked by the platform)"),
        (id, false) => id,
    }
}

fn algorithm(number: u32) -> String {
    match number {
        1 => "ECDSA P-384 with SHA-384".to_owned(),
        0 => "none".to_owned(),
        other => format!("unknown ({other})"),
    }
}

/// A little-endian integer as hexadecimal digits, high zeros left out.
fn big_endian(bytes: &[u8; 72]) -> String {
    let significant = bytes
        .iter()
        .rposition(|byte| *byte != 0)
        .map_or(1, |last| last + 1);
    let digits: Vec<u8> = bytes
        .iter()
        .take(significant.max(48))
        .rev()
        .copied()
        .collect();
    hex::encode(digits)
}
