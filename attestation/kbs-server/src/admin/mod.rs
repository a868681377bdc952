//! The admin API: who may use it and what it does.

mod api;
mod token;

pub(crate) use api::{Admin, AdminRequest};
pub use api::{ImportReport, PolicyDocument, ReferenceSummary, ResourcePage};
pub use token::{AdminClaims, AdminKeys, AdminRole, AdminSigner, parse_admin_key};
