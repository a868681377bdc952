//! SEV-SNP launch digest and kernel-hash table.
