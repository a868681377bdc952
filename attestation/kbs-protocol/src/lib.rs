//! Key broker protocol 0.4.0: messages, binding and JWE.
