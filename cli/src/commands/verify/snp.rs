//! `redoubt verify snp`.

#![expect(
    clippy::doc_markdown,
    reason = "doc comments of options are their help"
)]

use std::path::PathBuf;

use clap::Args;
use redoubt_evidence::{CertKind, CertTable, Product, SnpEvidence, SnpReport, TcbVersion};
use redoubt_verifier::{
    Collateral, Expectations, MinimumTcb, PlatformRules, PolicyRules, ReportVersions,
    RevocationList, TrustAnchors, Verdict, vek_entry_kind, verify,
};

use super::common::{CommonArgs, name, set};
use super::options::{Allow, Hex, Require, abi, product, tcb};
use crate::failure::Failure;
use crate::files;

/// An attestation report to judge.
#[derive(Debug, Args)]
pub(crate) struct SnpArgs {
    /// The report: 1184 bytes.
    #[arg(long, value_name = "FILE")]
    report: PathBuf,
    #[command(flatten)]
    common: CommonArgs,
    #[command(flatten)]
    rules: SnpRules,
}

/// What to expect of SEV-SNP evidence, and what goes with it.
#[derive(Debug, Args)]
#[command(next_help_heading = "SEV-SNP")]
pub(super) struct SnpRules {
    /// VCEK or VLEK certificate.
    #[arg(long, value_name = "FILE")]
    vek: Option<PathBuf>,
    /// Intermediate certificates, such as AMD's cert_chain; a root in it is not trusted by that.
    #[arg(long, value_name = "FILE")]
    chain: Option<PathBuf>,
    /// Revocation list; may be given several times. The root's own must be among them.
    #[arg(long = "crl", value_name = "FILE")]
    crls: Vec<PathBuf>,
    /// Processor line to look for in a bundle, where the report does not say it (version 2).
    #[arg(long, value_name = "NAME", value_parser = product)]
    product: Option<Product>,
    /// Expected launch digest; may be given several times.
    #[arg(long = "launch-digest", value_name = "HEX")]
    launch_digests: Vec<Hex<48>>,
    /// Expected HOST_DATA; may be given several times.
    #[arg(long, value_name = "HEX")]
    host_data: Vec<Hex<32>>,
    /// Chip that is accepted; may be given several times.
    #[arg(long = "chip-id", value_name = "HEX")]
    chip_ids: Vec<Hex<64>>,
    /// Id key digest that is accepted; may be given several times.
    #[arg(long = "id-key-digest", value_name = "HEX")]
    id_key_digests: Vec<Hex<48>>,
    /// Author key digest that is accepted; may be given several times.
    #[arg(long = "author-key-digest", value_name = "HEX")]
    author_key_digests: Vec<Hex<48>>,
    /// Least versions of reported, committed and launch TCB, such as bootloader=3,snp=8,microcode=115.
    #[arg(long, value_name = "VERSIONS", value_parser = tcb)]
    min_tcb: Option<TcbVersion>,
    /// Least firmware ABI that the guest must have asked for.
    #[arg(long, value_name = "MAJOR.MINOR", value_parser = abi)]
    min_abi: Option<(u8, u8)>,
    /// Least security version in the guest's id block.
    #[arg(long, value_name = "NUMBER")]
    min_guest_svn: Option<u32>,
    /// Highest VMPL that is accepted; 0 is the most privileged.
    #[arg(long, value_name = "NUMBER", default_value_t = 0, value_parser = clap::value_parser!(u32).range(0..=3))]
    max_vmpl: u32,
}

impl SnpArgs {
    pub(super) fn verdict(&self) -> Result<Verdict, Failure> {
        let evidence = SnpEvidence {
            report: SnpReport::parse(&files::read(&self.report)?)?,
            certs: CertTable::default(),
        };
        self.rules.verdict(evidence, &self.common)
    }
}

impl SnpRules {
    /// Judges evidence; the command line's certificate replaces one that came with it.
    pub(super) fn verdict(
        &self,
        evidence: SnpEvidence,
        common: &CommonArgs,
    ) -> Result<Verdict, Failure> {
        let parts = common.bundle()?.snp(&evidence.report, self.product)?;
        let mut anchors = TrustAnchors::amd().and(parts.intermediates.clone());
        for path in &common.anchors {
            let source = format!("root of {}", name(path));
            anchors = anchors.and(TrustAnchors::given(&files::read(path)?, &source)?);
        }
        if let Some(path) = &self.chain {
            anchors = anchors.and(TrustAnchors::intermediates(&files::read(path)?)?);
        }
        let mut crls = parts.crls.clone();
        for path in &self.crls {
            crls.push(RevocationList::parse(&files::read(path)?)?);
        }
        let evidence = self.with_vek(evidence, parts.vcek_entry())?;
        let expected = self.expectations(&evidence.report, common)?;
        let collateral = Collateral::new(&anchors, common.at()).with_crls(&crls);
        Ok(verify(&evidence, &collateral, &expected))
    }

    /// Puts the certificate of the command line, else of the bundle, in its place.
    fn with_vek(
        &self,
        evidence: SnpEvidence,
        from_bundle: Option<(CertKind, Vec<u8>)>,
    ) -> Result<SnpEvidence, Failure> {
        let given = match &self.vek {
            Some(path) => {
                let certificate = files::read(path)?;
                Some((vek_entry_kind(&certificate)?, certificate))
            }
            None => from_bundle.filter(|(kind, _)| evidence.certs.get(*kind).is_none()),
        };
        let Some((kind, certificate)) = given else {
            return Ok(evidence);
        };
        let mut certs = CertTable::default();
        certs.insert(kind, certificate)?;
        for entry in evidence.certs.entries() {
            if entry.kind != kind {
                certs.insert(entry.kind, entry.data.clone())?;
            }
        }
        Ok(SnpEvidence { certs, ..evidence })
    }

    fn expectations(
        &self,
        report: &SnpReport,
        common: &CommonArgs,
    ) -> Result<Expectations, Failure> {
        let mut host_data = set(self.host_data.iter().map(|value| value.0));
        if let Some((initdata, source)) = common.initdata()? {
            host_data.insert(initdata.host_data(), source);
        }
        let mut expected = Expectations {
            launch_digests: set(self.launch_digests.iter().map(|value| value.0)),
            host_data,
            report_data: common.report_data(),
            chip_ids: set(self.chip_ids.iter().map(|value| value.0)),
            id_key_digests: set(self.id_key_digests.iter().map(|value| value.0)),
            author_key_digests: set(self.author_key_digests.iter().map(|value| value.0)),
            report_versions: if common.allows(Allow::Version2) {
                ReportVersions::WithVersion2
            } else {
                ReportVersions::Current
            },
            policy: self.policy(common),
            platform: platform(common),
            minimum_tcb: self
                .min_tcb
                .map_or_else(MinimumTcb::default, MinimumTcb::all),
            minimum_guest_svn: self.min_guest_svn,
            maximum_vmpl: self.max_vmpl,
        };
        common.references()?.apply_snp(report, &mut expected);
        Ok(expected)
    }

    fn policy(&self, common: &CommonArgs) -> PolicyRules {
        PolicyRules {
            allow_debug: common.allows(Allow::Debug),
            allow_migration_agent: common.allows(Allow::Migration),
            allow_smt: !common.requires(Require::NoSmt),
            require_single_socket: common.requires(Require::SingleSocket),
            allow_cxl: common.allows(Allow::Cxl),
            require_aes_256_xts: common.requires(Require::Aes256Xts),
            require_rapl_disabled: common.requires(Require::NoRapl),
            require_ciphertext_hiding: common.requires(Require::CiphertextHiding),
            require_page_swap_disabled: common.requires(Require::NoPageSwap),
            minimum_abi: self.min_abi,
        }
    }
}

fn platform(common: &CommonArgs) -> PlatformRules {
    PlatformRules {
        require_alias_check: common.requires(Require::AliasCheck),
        require_smt_disabled: common.requires(Require::PlatformNoSmt),
        require_tsme: common.requires(Require::PlatformTsme),
        require_ecc: common.requires(Require::PlatformEcc),
        require_rapl_disabled: common.requires(Require::PlatformNoRapl),
        require_ciphertext_hiding: common.requires(Require::PlatformCiphertextHiding),
    }
}
