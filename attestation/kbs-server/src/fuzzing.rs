//! What the fuzz targets call: readers that stand behind a seal or signature,
//! which no mutation would get past, and readers that are not public.

#![expect(
    clippy::missing_panics_doc,
    reason = "a fuzz target fails by its assertions"
)]

use redoubt_kbs_protocol::SessionCookie;

use crate::admin::{AdminKeys, AdminSigner, PolicyDocument};
use crate::keyring::KeyRing;
use crate::names::Tenant;
use crate::session::SessionSealer;

/// The private key of RFC 8410 section 10.3, which protects nothing.
const ADMIN_KEY: &str = "-----BEGIN PRIVATE KEY-----\n\
    MC4CAQAwBQYDK2VwBCIEINTuctv5E1hK1bbY8fdp+K06/nwoy/HU++CXqI9EdVhC\n\
    -----END PRIVATE KEY-----\n";

/// Reads a session cookie, and the bytes as a challenge with a good seal.
pub fn session(data: &[u8]) {
    let sealer = SessionSealer::of(&[7; 32]);
    let tenant = Tenant::default();
    let cookie = std::str::from_utf8(data).ok().and_then(SessionCookie::new);
    if let Some(cookie) = cookie {
        assert!(sealer.open(&tenant, &cookie).is_none(), "a forged seal");
    }
    if let Some(challenged) = sealer.open_any(&tenant, data) {
        let again = sealer.seal(&tenant, &challenged);
        let read = again.and_then(|cookie| sealer.open(&tenant, &cookie));
        assert_eq!(read, Some(challenged));
    }
}

/// Reads an administrator's token, and the bytes as claims with a good signature.
pub fn admin_token(data: &[u8]) {
    let Some(signer) = AdminSigner::from_pem(ADMIN_KEY.as_bytes()) else {
        return;
    };
    let keys = AdminKeys::new(vec![signer.public_key()]);
    if let Ok(token) = std::str::from_utf8(data) {
        let _ = keys.verify(token, 1000);
    }
    if let Ok(claims) = keys.verify(&signer.sign_bytes(data), 1000) {
        assert!(claims.exp > 1000 && claims.exp - claims.iat <= 900);
    }
}

/// Reads what an administrator sends besides resources, and the storage's keys.
pub fn admin_documents(data: &[u8]) {
    if let Ok(document) = serde_json::from_slice::<PolicyDocument>(data) {
        let _ = document.text();
    }
    if let Ok(text) = std::str::from_utf8(data)
        && let Ok(keys) = KeyRing::parse(text)
    {
        let read = KeyRing::parse(&keys.to_text());
        assert_eq!(read.map(|ring| ring.active_id()), Ok(keys.active_id()));
    }
}
