//! Encrypting, pushing and unpacking images on the host.
//!
//! For the command line and for tests; the guest's agent does not carry it.

mod decrypt;
mod encrypt;
mod inspect;
mod layout;
mod location;
mod places;
mod push;
mod rootfs;

pub use decrypt::{DecryptRequest, DecryptedImage, decrypt_image};
pub use encrypt::{BrokerKey, EncryptRequest, EncryptedImage, encrypt_image};
pub use inspect::{AcceptedImage, InspectedImage, InspectedLayer, check_signatures, inspect_image};
pub use layout::{LayoutImage, OciLayout};
pub use location::ImageLocation;
pub use places::RegistryAccess;
pub use push::push_layout;
pub use rootfs::{UnpackedImage, pull_to_directory};
