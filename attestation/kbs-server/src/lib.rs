//! Key broker server.
