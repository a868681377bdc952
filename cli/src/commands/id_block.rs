//! `redoubt id-block`: sign what may be launched, and read what was signed.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand, ValueEnum};
use redoubt_id_block::{ID_AUTH_BYTES, ID_BLOCK_BYTES, IdAuth, IdBlock, PublicKey, SigningKey};
use redoubt_launch_digest::{LaunchDigest, check_guest_policy};
use serde::Serialize;
use zeroize::Zeroizing;

use crate::failure::{CliError, Failure};
use crate::files;
use crate::printer::Printer;
use crate::text::Text;
use crate::values::{self, Hex};

/// What to do with ID blocks.
#[derive(Debug, Subcommand)]
pub(crate) enum IdBlockCommand {
    /// Sign an ID block for a launch digest.
    Create(Create),
    /// Show what an ID block says and verify its signatures.
    Inspect(Inspect),
}

impl IdBlockCommand {
    pub(super) fn run(self, printer: Printer) -> Result<(), Failure> {
        match self {
            Self::Create(args) => args.run(printer),
            Self::Inspect(args) => args.run(printer),
        }
    }
}

/// What is signed, and with which keys.
#[derive(Debug, Args)]
pub(crate) struct Create {
    /// Launch digest that the guest must have, as `redoubt measure` prints it.
    #[arg(long, value_name = "HEX")]
    digest: LaunchDigest,
    /// Guest policy that the guest must have.
    #[arg(long, value_name = "BITS", default_value = "0x30000", value_parser = values::number)]
    guest_policy: u64,
    /// P-384 private key in PEM that signs the ID block.
    #[arg(long, value_name = "FILE")]
    id_key: PathBuf,
    /// P-384 private key in PEM that vouches for the ID key.
    #[arg(long, value_name = "FILE")]
    author_key: Option<PathBuf>,
    /// Name of a family of guests, 16 bytes, which reports repeat.
    #[arg(long, value_name = "HEX", default_value_t)]
    family_id: Hex<16>,
    /// Name of the guest's image, 16 bytes, which reports repeat.
    #[arg(long, value_name = "HEX", default_value_t)]
    image_id: Hex<16>,
    /// Security version of the guest, which reports repeat.
    #[arg(long, value_name = "NUMBER", default_value_t)]
    guest_svn: u32,
    /// How to print the result.
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

/// How an ID block is printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum Format {
    /// For people.
    #[default]
    Text,
    /// The two keys of configuration.toml.
    Toml,
}

impl Create {
    fn run(self, printer: Printer) -> Result<(), Failure> {
        check_guest_policy(self.guest_policy)?;
        let block = IdBlock {
            launch_digest: self.digest,
            family_id: self.family_id.0,
            image_id: self.image_id.0,
            guest_svn: self.guest_svn,
            policy: self.guest_policy,
        };
        let id_key = signing_key(&self.id_key)?;
        let author_key = self.author_key.as_deref().map(signing_key).transpose()?;
        let auth = IdAuth::sign(&block, &id_key, author_key.as_ref())?;
        let report = Report::of(&block, &auth);
        match self.format {
            Format::Text => printer.result(&report, || report.text()),
            Format::Toml => printer.result(&report, || report.toml()),
        }
    }
}

/// An ID block and its authentication.
#[derive(Debug, Args)]
pub(crate) struct Inspect {
    /// ID block: its bytes, or base64.
    #[arg(value_name = "ID-BLOCK")]
    id_block: PathBuf,
    /// ID authentication: its bytes, or base64.
    #[arg(value_name = "ID-AUTH")]
    id_auth: PathBuf,
}

impl Inspect {
    fn run(self, printer: Printer) -> Result<(), Failure> {
        let (block, auth) = load(&self.id_block, &self.id_auth)?;
        let report = Report::of(&block, &auth);
        printer.result(&report, || report.text())
    }
}

/// Reads an ID block whose signatures hold.
pub(super) fn load(block: &Path, auth: &Path) -> Result<(IdBlock, IdAuth), CliError> {
    let in_file = |path: &Path| {
        let path = path.to_owned();
        move |cause| CliError::IdBlock {
            path,
            cause: Box::new(cause),
        }
    };
    let block_bytes = files::read(block)?;
    let parsed = match text_of(&block_bytes, ID_BLOCK_BYTES) {
        Some(text) => IdBlock::from_base64(text),
        None => IdBlock::parse(&block_bytes),
    };
    let parsed = parsed.map_err(in_file(block))?;
    let auth_bytes = files::read(auth)?;
    let signed = match text_of(&auth_bytes, ID_AUTH_BYTES) {
        Some(text) => IdAuth::from_base64(text),
        None => IdAuth::parse(&auth_bytes),
    };
    let signed = signed.map_err(in_file(auth))?;
    signed.verify(&parsed).map_err(in_file(auth))?;
    Ok((parsed, signed))
}

/// The text of a file that is not the structure's bytes.
fn text_of(bytes: &[u8], raw_len: usize) -> Option<&str> {
    let text = std::str::from_utf8(bytes).ok().map(str::trim);
    text.filter(|_| bytes.len() != raw_len)
}

fn signing_key(path: &Path) -> Result<SigningKey, CliError> {
    let pem = Zeroizing::new(files::read_text(path)?);
    SigningKey::from_pem(&pem).map_err(|cause| CliError::IdBlock {
        path: path.to_owned(),
        cause: Box::new(cause),
    })
}

/// What is shown of an ID block.
#[derive(Serialize)]
struct Report {
    launch_digest: String,
    guest_policy: String,
    family_id: String,
    image_id: String,
    guest_svn: u32,
    id_key_digest: String,
    author_key_digest: Option<String>,
    snp_id_block: String,
    snp_id_auth: String,
}

impl Report {
    fn of(block: &IdBlock, auth: &IdAuth) -> Self {
        let digest = |key: &PublicKey| hex::encode(key.digest());
        Self {
            launch_digest: block.launch_digest.to_string(),
            guest_policy: format!("{:#x}", block.policy),
            family_id: hex::encode(block.family_id),
            image_id: hex::encode(block.image_id),
            guest_svn: block.guest_svn,
            id_key_digest: digest(auth.id_key()),
            author_key_digest: auth.author_key().map(digest),
            snp_id_block: block.to_base64(),
            snp_id_auth: auth.to_base64(),
        }
    }

    fn text(&self) -> String {
        let mut text = Text::default();
        let guest_svn = self.guest_svn.to_string();
        for (name, value) in [
            ("launch digest", self.launch_digest.as_str()),
            ("guest policy", &self.guest_policy),
            ("family id", &self.family_id),
            ("image id", &self.image_id),
            ("guest SVN", &guest_svn),
            ("ID key", &self.id_key_digest),
            (
                "author key",
                self.author_key_digest.as_deref().unwrap_or("none"),
            ),
        ] {
            text.line(format_args!("{name:<14}{value}"));
        }
        text.heading("For configuration.toml");
        text.block(&self.toml());
        text.into()
    }

    fn toml(&self) -> String {
        let (block, auth) = (&self.snp_id_block, &self.snp_id_auth);
        format!("snp_id_block = \"{block}\"\nsnp_id_auth = \"{auth}\"\n")
    }
}
