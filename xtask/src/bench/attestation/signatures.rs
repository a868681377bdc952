//! Verifications of evidence over bare signatures.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use redoubt_evidence::SnpEvidence;
use redoubt_verifier::{
    ChainCache, Collateral, Expectations, ReferenceSet, State, TrustAnchors, verify,
};
use ring::rand::SystemRandom;
use ring::signature::{
    ECDSA_P384_SHA384_FIXED, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _,
    UnparsedPublicKey,
};
use time::macros::datetime;

use crate::printer::Printer;

/// How long the sides of a ratio are measured in turns.
const MEASURED: Duration = Duration::from_secs(8);
/// One thing that is measured in turns with others, by the CPU time of this thread
/// alone: whoever else uses the machine then changes no ratio.
struct Measured<'a> {
    work: Box<dyn FnMut() -> Result<()> + 'a>,
    spent: Duration,
    count: u32,
}

impl<'a> Measured<'a> {
    fn new(work: impl FnMut() -> Result<()> + 'a) -> Self {
        Self {
            work: Box::new(work),
            spent: Duration::ZERO,
            count: 0,
        }
    }

    fn turn(&mut self) -> Result<()> {
        let start = thread_cpu()?;
        for _ in 0..16 {
            (self.work)()?;
        }
        self.spent += thread_cpu()?.saturating_sub(start);
        self.count += 16;
        Ok(())
    }

    fn per_second(&self) -> f64 {
        f64::from(self.count) / self.spent.as_secs_f64()
    }
}

fn thread_cpu() -> Result<Duration> {
    let clock = nix::time::ClockId::CLOCK_THREAD_CPUTIME_ID;
    Ok(Duration::from(nix::time::clock_gettime(clock)?))
}

/// Evidence of a real chip, from its JSON to the verdict, over the bare signature.
pub(super) fn run(printer: &Printer, root: &Path) -> Result<()> {
    let path = root.join("attestation/verifier/testdata/trustee-e2e-snp-evidence.json");
    let text = fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let evidence = SnpEvidence::parse_kbs_json(&text)?;
    let report = &evidence.report;
    let expected = Expectations {
        launch_digests: ReferenceSet::one(*report.launch_digest(), "benchmark"),
        host_data: ReferenceSet::one(*report.host_data(), "benchmark"),
        report_data: ReferenceSet::one(*report.report_data(), "benchmark"),
        ..Expectations::default()
    };
    let anchors = TrustAnchors::amd();
    let cache = ChainCache::new(16);
    let plain = Collateral::new(&anchors, datetime!(2026-06-01 0:00 UTC));
    let cached = plain.with_cache(&cache);
    let judge = |collateral: &Collateral<'_>| {
        let evidence = SnpEvidence::parse_kbs_json(&text)?;
        let verdict = verify(&evidence, collateral, &expected);
        ensure!(verdict.state == State::Verified, "not verified: {verdict}");
        Ok(())
    };
    let mut floor = Measured::new(bare_signatures(report.signed_bytes())?);
    let mut with_cache = Measured::new(|| judge(&cached));
    let mut without = Measured::new(|| judge(&plain));
    let start = Instant::now();
    while start.elapsed() < MEASURED {
        floor.turn()?;
        with_cache.turn()?;
        without.turn()?;
    }
    let floor = floor.per_second();
    printer.line(&format!(
        "P-384 signatures by ring                    {floor:>6.0} per second on one core"
    ));
    for (chain, rate) in [
        ("cached", with_cache.per_second()),
        ("whole ", without.per_second()),
    ] {
        printer.line(&format!(
            "SNP evidence, JSON to verdict, {chain} chain {rate:>6.0} per second on one core, ratio {:.2} (aim 0.30)",
            rate / floor
        ));
    }
    Ok(())
}

/// Verifications of the same kind of signature over as many bytes.
fn bare_signatures(message: &[u8]) -> Result<impl FnMut() -> Result<()>> {
    let random = SystemRandom::new();
    let algorithm = &ECDSA_P384_SHA384_FIXED_SIGNING;
    let failed = |_| anyhow::anyhow!("ring makes no key");
    let document = EcdsaKeyPair::generate_pkcs8(algorithm, &random).map_err(failed)?;
    let pair = EcdsaKeyPair::from_pkcs8(algorithm, document.as_ref(), &random)
        .map_err(|error| anyhow::anyhow!("ring does not take its own key: {error}"))?;
    let signature = pair.sign(&random, message).map_err(failed)?;
    let public = pair.public_key().as_ref().to_vec();
    Ok(move || {
        UnparsedPublicKey::new(&ECDSA_P384_SHA384_FIXED, &public)
            .verify(message, signature.as_ref())
            .map_err(|_| anyhow::anyhow!("ring refuses its own signature"))
    })
}
