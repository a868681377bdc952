//! Signatures of images: who must have signed what before anything of an
//! image is used (containers-policy.json(5)).

mod check;
mod identity;
mod keys;
mod payload;
mod policy;

pub(crate) use check::check;
pub use identity::ImageIdentity;
pub use payload::SignaturePayload;
pub use policy::SignaturePolicy;
