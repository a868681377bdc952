use std::collections::HashMap;

use redoubt_verifier::ReferenceSet;

use crate::reference::SnpReferenceValue;

/// How many values an expectation names at most where none matches.
const SHOWN: usize = 4;

/// Reference values, found by launch digest.
#[derive(Debug, Default)]
pub(crate) struct ReferenceValues {
    values: Vec<SnpReferenceValue>,
    by_digest: HashMap<[u8; 48], Vec<usize>>,
}

impl ReferenceValues {
    pub(crate) fn new(values: Vec<SnpReferenceValue>) -> Self {
        let mut by_digest: HashMap<[u8; 48], Vec<usize>> = HashMap::new();
        for (index, value) in values.iter().enumerate() {
            by_digest
                .entry(value.launch_digest)
                .or_default()
                .push(index);
        }
        Self { values, by_digest }
    }

    pub(crate) fn len(&self) -> usize {
        self.values.len()
    }

    #[cfg(test)]
    pub(crate) fn all(&self) -> &[SnpReferenceValue] {
        &self.values
    }

    /// The values of one launch digest.
    pub(crate) fn of_digest(&self, digest: &[u8; 48]) -> impl Iterator<Item = &SnpReferenceValue> {
        self.by_digest
            .get(digest)
            .into_iter()
            .flatten()
            .filter_map(|index| self.values.get(*index))
    }

    /// What a verification of evidence with this digest is told to expect: the
    /// values that match, or a few of those that do not.
    pub(crate) fn expected(&self, digest: &[u8; 48]) -> ReferenceSet<48> {
        let mut set = ReferenceSet::default();
        for value in self.of_digest(digest) {
            set.insert(value.launch_digest, value.source.clone());
        }
        if set.is_empty() {
            for value in self.values.iter().take(SHOWN) {
                set.insert(value.launch_digest, value.source.clone());
            }
        }
        set
    }
}
