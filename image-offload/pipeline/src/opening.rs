//! The key of an encrypted layer, from whoever of its recipients is here.

use redoubt_ocicrypt::{LayerEncryption, OcicryptError, PrivateKey, PrivateOptions, Recipient};

use crate::errors::ImageError;
use crate::interrupt::Interrupt;
use crate::keys::KeyCache;

/// Tries the recipients: first the keys at hand, then the key broker.
pub(crate) async fn open_key(
    encryption: &LayerEncryption,
    private_keys: &[PrivateKey],
    keys: &KeyCache<'_>,
    interrupt: &Interrupt,
) -> Result<(PrivateOptions, &'static str), ImageError> {
    let mut reason = None;
    for recipient in &encryption.recipients {
        for key in private_keys {
            match open_with(recipient, key) {
                None => {}
                Some(Ok(private)) => return Ok((private, recipient.kind())),
                Some(Err(error)) => reason = Some(ImageError::Decrypt(error)),
            }
        }
    }
    for recipient in &encryption.recipients {
        match recipient {
            Recipient::Provider(packet) => {
                let opened = match interrupt.run(keys.key(packet.kid())).await? {
                    Ok(key) => packet.unwrap(&key).map_err(ImageError::from),
                    Err(error) => Err(error),
                };
                match opened {
                    Ok(private) => return Ok((private, recipient.kind())),
                    Err(error) => reason = Some(error),
                }
            }
            Recipient::Unusable {
                reason: Some(error),
                ..
            } => {
                reason.get_or_insert_with(|| ImageError::Decrypt(error.clone()));
            }
            _ => {}
        }
    }
    let schemes = encryption.schemes();
    Err(
        reason.unwrap_or(ImageError::Decrypt(OcicryptError::NoUsableRecipient {
            schemes,
        })),
    )
}

/// Opens a wrapped key with a private key; `None` when it is not for such keys.
fn open_with(
    recipient: &Recipient,
    key: &PrivateKey,
) -> Option<Result<PrivateOptions, OcicryptError>> {
    match recipient {
        Recipient::Jwe(message) => Some(message.open(key)),
        #[cfg(feature = "host")]
        Recipient::Pkcs7(message) => Some(key.open_pkcs7(message)),
        _ => None,
    }
}
