//! Kata's agent ttRPC messages and services.
