//! Verification of SEV-SNP evidence against roots and reference values.
