//! The broker as a whole, over real TLS on loopback.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test's helpers fail as the test does"
)]

mod admin;
mod client;
mod limits;
mod protocol;
mod replicas;
mod support;
