//! Software PSP for the simulated SEV-SNP.
