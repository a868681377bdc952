//! The pipeline against a registry on loopback.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by panicking"
)]
#![allow(unreachable_pub, reason = "nothing outside uses a test")]

mod common;
mod conversions;
mod host;
mod hostile;
mod mounting;
mod places;
mod pull;
mod signing;
