//! What an administrator does with a running broker.

use std::collections::BTreeMap;
use std::path::PathBuf;

use clap::{Args, Subcommand};
use redoubt_kbs_protocol::{MAX_RESOURCE_BYTES, ResourcePath};
use redoubt_kbs_server::{
    AuditHead, ImportReport, PolicyDocument, PolicyName, PolicySummary, ReferenceSetName,
    ReferenceSummary, ResourcePage, ResourceSummary, test_policy, verify_audit_log,
};
use reqwest::Method;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::client::{BrokerArgs, read_input};
use super::error::AdminError;
use crate::failure::Failure;
use crate::files;
use crate::printer::Printer;
use crate::text::Text;

/// Largest document of reference values, in bytes.
const MAX_DOCUMENT_BYTES: usize = 2 * 1024 * 1024;

/// Stores a resource.
#[derive(Debug, Args)]
pub(crate) struct PutArgs {
    /// Path of the resource: repository/type/tag.
    path: ResourcePath,
    /// File with its bytes; `-` reads standard input.
    file: PathBuf,
    /// Policy that decides on its release, instead of the default one.
    #[arg(long, value_name = "NAME")]
    policy: Option<PolicyName>,
    #[command(flatten)]
    broker: BrokerArgs,
}

/// Removes a resource.
#[derive(Debug, Args)]
pub(crate) struct DeleteArgs {
    /// Path of the resource: repository/type/tag.
    path: ResourcePath,
    #[command(flatten)]
    broker: BrokerArgs,
}

/// Release policies.
#[derive(Debug, Subcommand)]
pub(crate) enum PolicyCommand {
    /// Set a policy; it is compiled first.
    Set {
        /// Its name; `default` decides where a resource names no other.
        name: PolicyName,
        /// File with Rego; `-` reads standard input.
        file: PathBuf,
        #[command(flatten)]
        broker: BrokerArgs,
    },
    /// List policies.
    List {
        #[command(flatten)]
        broker: BrokerArgs,
    },
    /// Print a policy.
    Show {
        /// Its name.
        name: PolicyName,
        #[command(flatten)]
        broker: BrokerArgs,
    },
    /// Remove a policy that no resource names.
    Delete {
        /// Its name.
        name: PolicyName,
        #[command(flatten)]
        broker: BrokerArgs,
    },
    /// Ask a policy in a file, without a broker, what it says to a token's claims.
    Test {
        /// File with Rego.
        file: PathBuf,
        /// File with the claims (JSON).
        #[arg(long, value_name = "FILE")]
        input: PathBuf,
        /// Path of the resource that is asked for: repository/type/tag.
        #[arg(long, value_name = "PATH")]
        resource: ResourcePath,
        /// Query parameter of the request, as NAME=VALUE; may be given several times.
        #[arg(long = "query", value_name = "NAME=VALUE", value_parser = parse_query)]
        query: Vec<(String, String)>,
    },
}

/// Reference values.
#[derive(Debug, Subcommand)]
pub(crate) enum ReferenceCommand {
    /// Import what `redoubt measure --format redoubt` printed, or values in Trustee's form, as a named set.
    Import {
        /// Name of the set; one of this name is replaced.
        name: ReferenceSetName,
        /// File with the document; `-` reads standard input.
        file: PathBuf,
        /// Leave out values that have no counterpart here.
        #[arg(long)]
        ignore_others: bool,
        #[command(flatten)]
        broker: BrokerArgs,
    },
    /// List reference values.
    List {
        #[command(flatten)]
        broker: BrokerArgs,
    },
    /// Remove a set.
    Delete {
        /// Its name.
        name: ReferenceSetName,
        #[command(flatten)]
        broker: BrokerArgs,
    },
}

/// The audit log.
#[derive(Debug, Subcommand)]
pub(crate) enum AuditCommand {
    /// Check that an audit log is complete and unchanged.
    Verify {
        /// The log, one record a line.
        file: PathBuf,
        /// A head that was noted earlier, as RECORDS:HASH; it must be on the chain.
        #[arg(long, value_name = "RECORDS:HASH")]
        head: Option<AuditHead>,
    },
    /// Print the head of a running broker's log, to be noted elsewhere.
    Head {
        #[command(flatten)]
        broker: BrokerArgs,
    },
}

/// An answer that says no more than that it is done.
#[derive(Deserialize, Serialize)]
struct Done {}

pub(crate) fn put(printer: Printer, args: &PutArgs) -> Result<(), Failure> {
    let bytes = read_input(&args.file, MAX_RESOURCE_BYTES)?;
    let policy = args.policy.as_ref().map(PolicyName::as_str);
    let query: Vec<_> = policy.map(|name| ("policy", name)).into_iter().collect();
    let path = format!("/resource/{}", args.path);
    let done: Done = args
        .broker
        .client()?
        .ask(Method::POST, &path, &query, bytes.to_vec())?;
    printer.result(&done, || format!("stored {}", args.path.uri()))
}

pub(crate) fn list(printer: Printer, broker: &BrokerArgs) -> Result<(), Failure> {
    let client = broker.client()?;
    let mut resources: Vec<ResourceSummary> = Vec::new();
    let mut after: Option<ResourcePath> = None;
    loop {
        let text = after.as_ref().map(ToString::to_string);
        let query: Vec<_> = text.iter().map(|path| ("after", path.as_str())).collect();
        let page: ResourcePage = client.ask(Method::GET, "/resources", &query, Vec::new())?;
        resources.extend(page.resources);
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    printer.result(&resources, || {
        let mut text = Text::default();
        for resource in &resources {
            text.line(format_args!(
                "{:<48} {:>8} bytes  policy {}",
                resource.path.to_string(),
                resource.size_bytes,
                resource.policy
            ));
        }
        text.into()
    })
}

pub(crate) fn delete(printer: Printer, args: &DeleteArgs) -> Result<(), Failure> {
    let path = format!("/resource/{}", args.path);
    let done: Done = args
        .broker
        .client()?
        .ask(Method::DELETE, &path, &[], Vec::new())?;
    printer.result(&done, || format!("removed {}", args.path.uri()))
}

impl PolicyCommand {
    pub(crate) fn run(self, printer: Printer) -> Result<(), Failure> {
        match self {
            Self::Set { name, file, broker } => {
                let text = read_input(&file, MAX_DOCUMENT_BYTES)?;
                let text = String::from_utf8_lossy(&text);
                let document = PolicyDocument::new(name.clone(), &text);
                let body = serde_json::to_vec(&document).unwrap_or_default();
                let done: Done =
                    broker
                        .client()?
                        .ask(Method::POST, "/resource-policy", &[], body)?;
                printer.result(&done, || format!("set policy {name}"))
            }
            Self::List { broker } => {
                let list: Vec<PolicySummary> =
                    broker
                        .client()?
                        .ask(Method::GET, "/resource-policy", &[], Vec::new())?;
                printer.result(&list, || {
                    let mut text = Text::default();
                    for policy in &list {
                        text.line(format_args!(
                            "{:<32} {}",
                            policy.name.as_str(),
                            policy.sha256
                        ));
                    }
                    text.into()
                })
            }
            Self::Show { name, broker } => {
                let path = format!("/resource-policy/{name}");
                let document: PolicyDocument =
                    broker.client()?.ask(Method::GET, &path, &[], Vec::new())?;
                printer.result(&document, || document.text().unwrap_or_default())
            }
            Self::Delete { name, broker } => {
                let path = format!("/resource-policy/{name}");
                let done: Done = broker
                    .client()?
                    .ask(Method::DELETE, &path, &[], Vec::new())?;
                printer.result(&done, || format!("removed policy {name}"))
            }
            Self::Test {
                file,
                input,
                resource,
                query,
            } => {
                let text = files::read_text(&file)?;
                let input = files::read_text(&input)?;
                let query: BTreeMap<String, String> = query.into_iter().collect();
                let decision =
                    test_policy(&text, &input, &resource, &query).map_err(AdminError::Policy)?;
                let reasons = decision.reasons.join("; ");
                printer.result(&Decision::from(&decision), || {
                    if decision.allowed {
                        format!("released: {}", resource.uri())
                    } else if reasons.is_empty() {
                        format!("refused: {}", resource.uri())
                    } else {
                        format!("refused: {} ({reasons})", resource.uri())
                    }
                })?;
                if decision.allowed {
                    Ok(())
                } else {
                    let path = resource.to_string();
                    Err(AdminError::PolicyDenies { path }.into())
                }
            }
        }
    }
}

#[derive(Serialize)]
struct Decision<'a> {
    allowed: bool,
    reasons: &'a [String],
}

impl<'a> From<&'a redoubt_kbs_server::PolicyDecision> for Decision<'a> {
    fn from(decision: &'a redoubt_kbs_server::PolicyDecision) -> Self {
        Self {
            allowed: decision.allowed,
            reasons: &decision.reasons,
        }
    }
}

impl ReferenceCommand {
    pub(crate) fn run(self, printer: Printer) -> Result<(), Failure> {
        match self {
            Self::Import {
                name,
                file,
                ignore_others,
                broker,
            } => {
                let document = read_input(&file, MAX_DOCUMENT_BYTES)?;
                let mut query = vec![("name", name.as_str())];
                if ignore_others {
                    query.push(("ignore_others", "true"));
                }
                let client = broker.client()?;
                let body = document.to_vec();
                let report: ImportReport =
                    client.ask(Method::POST, "/reference-value", &query, body)?;
                printer.result(&report, || {
                    let mut text = Text::default();
                    text.line(format_args!("{} values in {}", report.values, report.name));
                    for name in &report.left_out {
                        text.line(format_args!("left out: {name}"));
                    }
                    text.into()
                })
            }
            Self::List { broker } => {
                let list: Vec<ReferenceSummary> =
                    broker
                        .client()?
                        .ask(Method::GET, "/reference-value", &[], Vec::new())?;
                printer.result(&list, || {
                    let mut text = Text::default();
                    for value in &list {
                        let host_data = value.host_data.as_deref().unwrap_or("any");
                        text.line(format_args!(
                            "{:<24} launch digest {}  HOST_DATA {host_data}",
                            value.name.as_str(),
                            value.launch_digest
                        ));
                    }
                    text.into()
                })
            }
            Self::Delete { name, broker } => {
                let path = format!("/reference-value/{name}");
                let done: Done = broker
                    .client()?
                    .ask(Method::DELETE, &path, &[], Vec::new())?;
                printer.result(&done, || format!("removed {name}"))
            }
        }
    }
}

impl AuditCommand {
    pub(crate) fn run(self, printer: Printer) -> Result<(), Failure> {
        match self {
            Self::Verify { file, head } => {
                let end = verify_audit_log(&file, head.as_ref())?;
                printer.result(&end, || {
                    format!(
                        "{} records, complete and unchanged\nhead {end}",
                        end.records
                    )
                })
            }
            Self::Head { broker } => {
                let head: AuditHead =
                    broker
                        .client()?
                        .ask(Method::GET, "/audit-head", &[], Vec::new())?;
                printer.result(&head, || head.to_string())
            }
        }
    }
}

pub(crate) fn rotate_key(printer: Printer, broker: &BrokerArgs) -> Result<(), Failure> {
    let answer: Value = broker
        .client()?
        .ask(Method::POST, "/storage-key", &[], Vec::new())?;
    printer.result(&answer, || {
        let id = answer
            .get("key_id")
            .and_then(Value::as_str)
            .unwrap_or_default();
        format!("everything is sealed with the new key {id}; back up the key file")
    })
}

fn parse_query(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("it is not NAME=VALUE")?;
    Ok((name.to_owned(), value.to_owned()))
}
