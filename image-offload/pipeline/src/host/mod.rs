//! Encrypting, pushing and unpacking images on the host.
//!
//! For the command line and for tests; the guest's agent does not carry it.

mod encrypt;
mod layout;
mod location;
mod push;
mod rootfs;

pub use encrypt::{BrokerKey, EncryptRequest, EncryptedImage, encrypt_image};
pub use layout::{LayoutImage, OciLayout};
pub use location::ImageLocation;
pub use push::{PushTarget, push_layout};
pub use rootfs::{UnpackedImage, pull_to_directory};
