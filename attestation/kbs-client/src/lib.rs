//! Key broker client.
