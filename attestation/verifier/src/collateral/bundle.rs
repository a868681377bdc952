//! Bundles: collateral in one file, for places without a network.

use std::collections::HashSet;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use redoubt_evidence::{CertKind, Product, SigningKey, SnpReport};
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::anchors::TrustAnchors;
use crate::collateral::id::{CollateralId, VcekId, VekIssuer};
use crate::collateral::item::CollateralItem;
use crate::crl::RevocationList;
use crate::error::VerifierError;

/// The largest bundle that is read, in bytes.
pub const MAX_BUNDLE_BYTES: usize = 32 * 1024 * 1024;

/// The most documents that a bundle may hold.
const MAX_ITEMS: usize = 4096;

/// The version of the file format.
const VERSION: u32 = 1;

/// Collateral documents, each at most once.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Bundle {
    items: Vec<CollateralItem>,
}

/// What a bundle holds for one SNP report.
#[derive(Clone, Debug, Default)]
pub struct SnpParts {
    /// The VCEK certificate of the chip and TCB.
    pub vcek: Option<Vec<u8>>,
    /// Intermediates; roots in them are not trusted by being there.
    pub intermediates: TrustAnchors,
    /// Revocation lists of the product.
    pub crls: Vec<RevocationList>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    version: u32,
    items: Vec<Entry>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    id: String,
    fetched_at: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    issuer_chain: Option<String>,
    body: String,
}

impl Bundle {
    /// Reads a bundle; every document in it must be what its id says.
    pub fn parse(bytes: &[u8]) -> Result<Self, VerifierError> {
        if bytes.len() > MAX_BUNDLE_BYTES {
            return Err(VerifierError::BundleSize {
                actual: bytes.len(),
                limit: MAX_BUNDLE_BYTES,
            });
        }
        let file: File = serde_json::from_slice(bytes).map_err(VerifierError::BundleJson)?;
        if file.version != VERSION {
            return Err(VerifierError::BundleVersion(file.version));
        }
        if file.items.len() > MAX_ITEMS {
            return Err(VerifierError::BundleItems {
                actual: file.items.len(),
                limit: MAX_ITEMS,
            });
        }
        let mut items = Vec::with_capacity(file.items.len());
        let mut seen = HashSet::new();
        for entry in file.items {
            let item = entry.into_item()?;
            if !seen.insert(item.id) {
                return Err(VerifierError::BundleDuplicate { id: item.id });
            }
            items.push(item);
        }
        Ok(Self { items })
    }

    /// Writes the bundle, its documents in the order of their ids.
    pub fn to_json(&self) -> Result<String, VerifierError> {
        let mut items: Vec<Entry> = self.items.iter().map(Entry::of).collect();
        items.sort_by(|a, b| a.id.cmp(&b.id));
        let file = File {
            version: VERSION,
            items,
        };
        serde_json::to_string_pretty(&file).map_err(VerifierError::BundleJson)
    }

    /// Adds a document, or replaces the one with its id, once it is checked.
    pub fn insert(&mut self, item: CollateralItem) -> Result<(), VerifierError> {
        item.check()?;
        self.items.retain(|known| known.id != item.id);
        if self.items.len() >= MAX_ITEMS {
            return Err(VerifierError::BundleItems {
                actual: self.items.len() + 1,
                limit: MAX_ITEMS,
            });
        }
        self.items.push(item);
        Ok(())
    }

    /// The document with this id.
    pub fn get(&self, id: &CollateralId) -> Option<&CollateralItem> {
        self.items.iter().find(|item| item.id == *id)
    }

    /// All documents.
    pub fn items(&self) -> &[CollateralItem] {
        &self.items
    }

    /// What is here for a report. `product` is used where the report does not
    /// say it.
    pub fn snp(
        &self,
        report: &SnpReport,
        product: Option<Product>,
    ) -> Result<SnpParts, VerifierError> {
        let mut parts = SnpParts::default();
        let Some(product) = report.product().or(product) else {
            return Ok(parts);
        };
        let issuer = match report.key_info().signing_key() {
            SigningKey::Vlek => VekIssuer::Vlek,
            _ => VekIssuer::Vcek,
        };
        if let Some(id) = VcekId::of_report(report, Some(product)) {
            let vcek = self.get(&CollateralId::Vcek(id));
            parts.vcek = vcek.map(|item| item.body.clone());
        }
        if let Some(chain) = self.get(&CollateralId::Chain(product, issuer)) {
            parts.intermediates = TrustAnchors::intermediates(&chain.body)?;
        }
        if let Some(list) = self.get(&CollateralId::Crl(product, issuer)) {
            parts.crls.push(RevocationList::parse(&list.body)?);
        }
        Ok(parts)
    }
}

impl SnpParts {
    /// The certificate as an entry of a report's certificate table.
    pub fn vcek_entry(&self) -> Option<(CertKind, Vec<u8>)> {
        let vcek = self.vcek.clone()?;
        Some((CertKind::Vcek, vcek))
    }
}

impl Entry {
    fn of(item: &CollateralItem) -> Self {
        Self {
            id: item.id.to_string(),
            fetched_at: item
                .fetched_at
                .format(&Rfc3339)
                .unwrap_or_else(|_| "1970-01-01T00:00:00Z".to_owned()),
            issuer_chain: item.issuer_chain.clone(),
            body: STANDARD.encode(&item.body),
        }
    }

    fn into_item(self) -> Result<CollateralItem, VerifierError> {
        let id: CollateralId = self.id.parse()?;
        let fetched_at = OffsetDateTime::parse(&self.fetched_at, &Rfc3339)
            .map_err(|_| VerifierError::BundleTime { id })?;
        let body = STANDARD
            .decode(&self.body)
            .map_err(|_| VerifierError::BundleEncoding { id })?;
        let item = CollateralItem {
            id,
            body,
            issuer_chain: self.issuer_chain,
            fetched_at,
        };
        item.check()?;
        Ok(item)
    }
}
