//! What an OVMF image holds: footer GUID table, SEV metadata, kernel-hash area.
