//! A YAML file with the objects of Kubernetes.

use std::collections::BTreeSet;

use serde_json::Value;
use serde_saphyr::options::DuplicateKeyPolicy;

use crate::error::PodError;
use crate::node::Node;
use crate::workload::{Workload, WorkloadKind};

/// The largest manifest that is read, in bytes.
pub const MAX_MANIFEST_BYTES: usize = 4 << 20;
/// The most objects of one manifest, those in lists included.
const MAX_OBJECTS: usize = 1024;
/// How deep a document may be nested.
const MAX_DEPTH: usize = 64;
/// The most scalars, lists and mappings of all documents.
const MAX_NODES: usize = 200_000;
/// The most nodes that aliases may add.
const MAX_ALIASED: usize = 20_000;
/// Kinds that are named in an error, at most.
const MAX_KINDS_NAMED: usize = 5;

/// The workloads of a manifest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manifest {
    /// In the order of the file; at least one.
    pub workloads: Vec<Workload>,
}

impl Manifest {
    /// Reads a manifest of one or several YAML documents (JSON is YAML, too).
    ///
    /// Objects without pods, such as services, are passed over; a manifest of
    /// nothing else is refused.
    pub fn parse(bytes: &[u8]) -> Result<Self, PodError> {
        if bytes.len() > MAX_MANIFEST_BYTES {
            return Err(PodError::TooLarge);
        }
        let text = std::str::from_utf8(bytes).map_err(|error| PodError::NotText {
            offset: error.valid_up_to(),
        })?;
        let documents: Vec<Value> = serde_saphyr::from_multiple_with_options(text, options())
            .map_err(|error| PodError::Yaml {
                message: error.to_string(),
            })?;
        let mut objects = Vec::new();
        for (index, document) in documents.iter().enumerate() {
            let place = match documents.len() {
                1 => "the document".to_owned(),
                _ => format!("document {}", index + 1),
            };
            collect(Node::new(place, document), &mut objects)?;
        }
        Self::of(objects)
    }

    fn of(objects: Vec<(String, Node<'_>)>) -> Result<Self, PodError> {
        let mut workloads = Vec::new();
        let mut others = BTreeSet::new();
        for (kind, object) in objects {
            match WorkloadKind::from_name(&kind) {
                Some(kind) => workloads.push(Workload::read(kind, object)?),
                None => {
                    others.insert(kind);
                }
            }
        }
        if workloads.is_empty() {
            return Err(PodError::NoPod {
                found: named(&others),
            });
        }
        Ok(Self { workloads })
    }
}

fn options() -> serde_saphyr::Options {
    serde_saphyr::options! {
        budget: serde_saphyr::budget! {
            max_documents: MAX_OBJECTS,
            max_depth: MAX_DEPTH,
            flow_nesting_limit: MAX_DEPTH,
            max_nodes: MAX_NODES,
            max_events: 2 * MAX_NODES,
            max_aliases: 1000,
            max_anchors: 1000,
            max_recorded_anchor_events: MAX_NODES,
            max_recorded_anchor_bytes: MAX_MANIFEST_BYTES,
            max_total_scalar_bytes: MAX_MANIFEST_BYTES,
            max_merge_keys: 1000,
        },
        alias_limits: serde_saphyr::alias_limits! {
            max_total_replayed_events: MAX_ALIASED,
            max_replay_stack_depth: 16,
        },
        duplicate_keys: DuplicateKeyPolicy::Error,
        // Kubernetes reads YAML 1.1.
        legacy_octal_numbers: true,
        with_snippet: false,
    }
}

/// The objects of a document with their kinds: itself, or those of a list.
fn collect<'a>(document: Node<'a>, objects: &mut Vec<(String, Node<'a>)>) -> Result<(), PodError> {
    let kind = document.required("kind")?.as_text()?;
    if kind == "List" {
        for item in document.elements("items")? {
            let kind = item.required("kind")?.as_text()?;
            add(kind, item, objects)?;
        }
        return Ok(());
    }
    add(kind, document, objects)
}

fn add<'a>(
    kind: &str,
    object: Node<'a>,
    objects: &mut Vec<(String, Node<'a>)>,
) -> Result<(), PodError> {
    if objects.len() == MAX_OBJECTS {
        return Err(PodError::TooManyObjects);
    }
    objects.push((kind.to_owned(), object));
    Ok(())
}

fn named(kinds: &BTreeSet<String>) -> String {
    if kinds.is_empty() {
        return "nothing".to_owned();
    }
    let mut names: Vec<String> = kinds
        .iter()
        .take(MAX_KINDS_NAMED)
        .map(|kind| redoubt_errors::flatten(&kind.chars().take(64).collect::<String>()))
        .collect();
    if kinds.len() > MAX_KINDS_NAMED {
        names.push("others".to_owned());
    }
    names.join(", ")
}
