use redoubt_kbs_protocol::{ResourcePath, Tee};

/// What happened when the broker accepted evidence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attested {
    /// The broker's address.
    pub url: String,
    /// The kind of evidence.
    pub tee: Tee,
    /// For how long the broker's token is valid, in seconds.
    pub token_lifetime_s: u64,
}

/// Hears of the handshake's progress. Calls are made from the async task and
/// must not block.
pub trait KbsObserver: Send + Sync {
    /// The broker accepted the evidence.
    fn on_attested(&self, attested: &Attested);

    /// The broker released a resource, and it was decrypted.
    fn on_resource(&self, path: &ResourcePath);
}
