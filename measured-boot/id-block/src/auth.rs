//! The authentication of an ID block: keys and signatures.

use crate::block::IdBlock;
use crate::error::{IdBlockError, IdPart};
use crate::fields::{array, check_reserved, from_base64, to_base64, u32_at};
use crate::key::{KEY_BYTES, PublicKey, SIGNATURE_BYTES, SigningKey};

/// Length of the authentication in bytes.
pub const ID_AUTH_BYTES: usize = 4096;
/// The only algorithm: ECDSA over P-384 with SHA-384.
const ALGORITHM: u32 = 1;

const AUTHOR_ALGORITHM: usize = 0x04;
const BLOCK_SIGNATURE: usize = 0x40;
const ID_KEY: usize = 0x240;
const KEY_SIGNATURE: usize = 0x680;
const AUTHOR_KEY: usize = 0x880;
/// Ranges that are reserved as zero.
const RESERVED: [(usize, usize); 3] = [
    (0x008, BLOCK_SIGNATURE),
    (ID_KEY + KEY_BYTES, KEY_SIGNATURE),
    (AUTHOR_KEY + KEY_BYTES, ID_AUTH_BYTES),
];

/// The authentication of an ID block (AMD 56860, `ID Authentication Information Structure`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdAuth {
    id_key: PublicKey,
    block_signature: [u8; SIGNATURE_BYTES],
    author: Option<Author>,
}

/// An author key and its signature of the ID key.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Author {
    key: PublicKey,
    signature: [u8; SIGNATURE_BYTES],
}

impl IdAuth {
    /// Signs an ID block, and the ID key where there is an author key.
    pub fn sign(
        block: &IdBlock,
        id_key: &SigningKey,
        author_key: Option<&SigningKey>,
    ) -> Result<Self, IdBlockError> {
        let public = id_key.public()?;
        let author = author_key
            .map(|key| {
                Ok(Author {
                    key: key.public()?,
                    signature: key.sign(public.as_bytes())?,
                })
            })
            .transpose()?;
        Ok(Self {
            id_key: public,
            block_signature: id_key.sign(&block.to_bytes())?,
            author,
        })
    }

    /// Reads an authentication; its signatures are not verified yet.
    ///
    /// An author key of zeros means that there is none.
    pub fn parse(bytes: &[u8]) -> Result<Self, IdBlockError> {
        let bytes: &[u8; ID_AUTH_BYTES] = bytes.try_into().map_err(|_| IdBlockError::Length {
            part: IdPart::Auth,
            expected: ID_AUTH_BYTES,
            actual: bytes.len(),
        })?;
        for (from, to) in RESERVED {
            check_reserved(IdPart::Auth, bytes, from, to)?;
        }
        check_algorithm(bytes, 0)?;
        let id_key = PublicKey::parse(&array(bytes, ID_KEY), ID_KEY)?;
        let author_key: [u8; KEY_BYTES] = array(bytes, AUTHOR_KEY);
        let author = if author_key == [0; KEY_BYTES] {
            None
        } else {
            check_algorithm(bytes, AUTHOR_ALGORITHM)?;
            Some(Author {
                key: PublicKey::parse(&author_key, AUTHOR_KEY)?,
                signature: array(bytes, KEY_SIGNATURE),
            })
        };
        Ok(Self {
            id_key,
            block_signature: array(bytes, BLOCK_SIGNATURE),
            author,
        })
    }

    /// Reads an authentication from base64.
    pub fn from_base64(text: &str) -> Result<Self, IdBlockError> {
        Self::parse(&from_base64::<ID_AUTH_BYTES>(IdPart::Auth, text)?)
    }

    /// The bytes that the CPU reads.
    pub fn to_bytes(&self) -> [u8; ID_AUTH_BYTES] {
        let mut bytes = [0; ID_AUTH_BYTES];
        let mut put = |at: usize, field: &[u8]| {
            for (place, byte) in bytes.iter_mut().skip(at).zip(field) {
                *place = *byte;
            }
        };
        put(0, &ALGORITHM.to_le_bytes());
        put(BLOCK_SIGNATURE, &self.block_signature);
        put(ID_KEY, self.id_key.as_bytes());
        if let Some(author) = &self.author {
            put(AUTHOR_ALGORITHM, &ALGORITHM.to_le_bytes());
            put(KEY_SIGNATURE, &author.signature);
            put(AUTHOR_KEY, author.key.as_bytes());
        }
        bytes
    }

    /// The authentication in base64, as QEMU and the configuration take it.
    pub fn to_base64(&self) -> String {
        to_base64(&self.to_bytes())
    }

    /// The key that signed the block.
    pub fn id_key(&self) -> &PublicKey {
        &self.id_key
    }

    /// The key that signed the ID key, if there is one.
    ///
    /// The CPU looks at it only where the launch enables it (`AUTHOR_KEY_EN`).
    pub fn author_key(&self) -> Option<&PublicKey> {
        self.author.as_ref().map(|author| &author.key)
    }

    /// Verifies what the CPU verifies: the block's signature and, with an author, the ID key's.
    pub fn verify(&self, block: &IdBlock) -> Result<(), IdBlockError> {
        if !self
            .id_key
            .verifies(&block.to_bytes(), &self.block_signature)
        {
            return Err(IdBlockError::BlockSignature {
                offset: BLOCK_SIGNATURE,
            });
        }
        match &self.author {
            Some(author)
                if !author
                    .key
                    .verifies(self.id_key.as_bytes(), &author.signature) =>
            {
                Err(IdBlockError::KeySignature {
                    offset: KEY_SIGNATURE,
                })
            }
            _ => Ok(()),
        }
    }
}

fn check_algorithm(bytes: &[u8; ID_AUTH_BYTES], offset: usize) -> Result<(), IdBlockError> {
    let algorithm = u32_at(bytes, offset);
    if algorithm != ALGORITHM {
        return Err(IdBlockError::Algorithm { offset, algorithm });
    }
    Ok(())
}
