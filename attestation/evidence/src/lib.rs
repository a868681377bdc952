//! SEV-SNP report layout, certificate table and evidence JSON.
