//! The measured policy every request must pass.
