//! The keys that seal what the database holds.

use std::fmt;

use aes_gcm::aead::{AeadInOut as _, KeyInit as _};
use aes_gcm::{Aes256Gcm, Key, Nonce, Tag};
use zeroize::{Zeroize as _, Zeroizing};

const KEY_BYTES: usize = 32;
const ID_BYTES: usize = 8;
const NONCE_BYTES: usize = 12;
const TAG_BYTES: usize = 16;

/// Format of a sealed value: this byte, key id, nonce, ciphertext, tag.
const FORMAT: u8 = 1;
const HEAD_BYTES: usize = 1 + ID_BYTES + NONCE_BYTES;

/// Most keys in a file. More than two are there only after interrupted rotations.
const MAX_KEYS: usize = 16;

/// Why a value cannot be unsealed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unsealable {
    /// It is shorter than a seal or of another format.
    Malformed,
    /// Its key is not in the key file.
    UnknownKey,
    /// It was changed, or belongs to another place.
    Forged,
}

impl fmt::Display for Unsealable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Malformed => "it is not a sealed value",
            Self::UnknownKey => "the key that sealed it is not in the key file",
            Self::Forged => "it was changed or moved",
        })
    }
}

struct StorageKey {
    id: [u8; ID_BYTES],
    secret: Zeroizing<[u8; KEY_BYTES]>,
}

/// AES-256-GCM keys: the first seals, every one unseals.
pub(crate) struct KeyRing {
    keys: Vec<StorageKey>,
}

impl KeyRing {
    /// A ring of one new key.
    pub(crate) fn generate() -> Result<Self, getrandom::Error> {
        let mut ring = Self { keys: Vec::new() };
        ring.add_new()?;
        Ok(ring)
    }

    /// Adds a new key, which seals from now on.
    pub(crate) fn add_new(&mut self) -> Result<(), getrandom::Error> {
        let mut id = [0; ID_BYTES];
        let mut secret = Zeroizing::new([0; KEY_BYTES]);
        getrandom::fill(&mut id)?;
        getrandom::fill(secret.as_mut())?;
        self.keys.insert(0, StorageKey { id, secret });
        Ok(())
    }

    /// Forgets every key but the one that seals.
    pub(crate) fn keep_first(&mut self) {
        self.keys.truncate(1);
    }

    /// The identifier of the key that seals.
    pub(crate) fn active_id(&self) -> String {
        self.keys
            .first()
            .map(|key| hex::encode(key.id))
            .unwrap_or_default()
    }

    /// Reads a key file: one `<16 hex digits of id> <64 hex digits of key>` a
    /// line, the sealing key first; `#` begins a remark.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let mut keys: Vec<StorageKey> = Vec::new();
        for (index, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let number = index + 1;
            // The line is a secret: no part of it goes into the message.
            let wrong = || format!("line {number} is not an id and a key in hexadecimal");
            let (id_text, secret_text) = line.split_once(' ').ok_or_else(wrong)?;
            let mut id = [0; ID_BYTES];
            let mut secret = Zeroizing::new([0; KEY_BYTES]);
            hex::decode_to_slice(id_text, &mut id).map_err(|_| wrong())?;
            hex::decode_to_slice(secret_text.trim(), secret.as_mut()).map_err(|_| wrong())?;
            if keys.iter().any(|key| key.id == id) {
                return Err(format!("line {number} repeats the id {}", hex::encode(id)));
            }
            keys.push(StorageKey { id, secret });
        }
        match keys.len() {
            0 => Err("there is no key in it".to_owned()),
            1..=MAX_KEYS => Ok(Self { keys }),
            _ => Err(format!("there are more than {MAX_KEYS} keys in it")),
        }
    }

    /// The text of a key file.
    pub(crate) fn to_text(&self) -> Zeroizing<String> {
        const LINE_BYTES: usize = 2 * ID_BYTES + 2 * KEY_BYTES + 2;
        // Room for all of it at once: a growing text would leave copies behind.
        let mut text = Zeroizing::new(String::with_capacity(self.keys.len() * LINE_BYTES));
        for key in &self.keys {
            let secret = Zeroizing::new(hex::encode(key.secret.as_slice()));
            text.push_str(&hex::encode(key.id));
            text.push(' ');
            text.push_str(&secret);
            text.push('\n');
        }
        text
    }

    /// Seals a value for its place; unsealed for another place, it is refused.
    pub(crate) fn seal(
        &self,
        table: &str,
        key: &str,
        value: &[u8],
    ) -> Result<Vec<u8>, getrandom::Error> {
        let Some(active) = self.keys.first() else {
            return Err(getrandom::Error::UNSUPPORTED);
        };
        let mut nonce = [0; NONCE_BYTES];
        getrandom::fill(&mut nonce)?;
        let mut sealed = Vec::with_capacity(HEAD_BYTES + value.len() + TAG_BYTES);
        sealed.push(FORMAT);
        sealed.extend_from_slice(&active.id);
        sealed.extend_from_slice(&nonce);
        sealed.extend_from_slice(value);
        let (_, body) = sealed.split_at_mut(HEAD_BYTES);
        let tag = cipher(active).encrypt_inout_detached(
            &Nonce::from(nonce),
            &place(table, key),
            (&mut *body).into(),
        );
        let Ok(tag) = tag else {
            sealed.zeroize();
            return Err(getrandom::Error::UNSUPPORTED);
        };
        sealed.extend_from_slice(&tag);
        Ok(sealed)
    }

    /// Unseals the value of a place.
    pub(crate) fn open(
        &self,
        table: &str,
        key: &str,
        sealed: &[u8],
    ) -> Result<Zeroizing<Vec<u8>>, Unsealable> {
        let (head, rest) = sealed
            .split_at_checked(HEAD_BYTES)
            .ok_or(Unsealable::Malformed)?;
        let (body, tag) = rest
            .len()
            .checked_sub(TAG_BYTES)
            .and_then(|length| rest.split_at_checked(length))
            .ok_or(Unsealable::Malformed)?;
        let (format, head) = head.split_at(1);
        if format != [FORMAT] {
            return Err(Unsealable::Malformed);
        }
        let (id, nonce) = head.split_at(ID_BYTES);
        let found = self.keys.iter().find(|key| key.id == id);
        let found = found.ok_or(Unsealable::UnknownKey)?;
        let nonce: [u8; NONCE_BYTES] = nonce.try_into().map_err(|_| Unsealable::Malformed)?;
        let tag: [u8; TAG_BYTES] = tag.try_into().map_err(|_| Unsealable::Malformed)?;
        let mut value = Zeroizing::new(body.to_vec());
        cipher(found)
            .decrypt_inout_detached(
                &Nonce::from(nonce),
                &place(table, key),
                value.as_mut_slice().into(),
                &Tag::from(tag),
            )
            .map_err(|_| Unsealable::Forged)?;
        Ok(value)
    }
}

fn cipher(key: &StorageKey) -> Aes256Gcm {
    Aes256Gcm::new(&Key::<Aes256Gcm>::from(*key.secret))
}

/// Where a value stands, as additional data. A table's name holds no zero byte.
fn place(table: &str, key: &str) -> Vec<u8> {
    [b"redoubt-kbs\0", table.as_bytes(), b"\0", key.as_bytes()].concat()
}

impl fmt::Debug for KeyRing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyRing")
            .field("active", &self.active_id())
            .field("keys", &self.keys.len())
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn value_opens_in_its_place_alone() {
        let ring = KeyRing::generate().unwrap();
        let sealed = ring.seal("resources", "default/a/b/c", b"secret").unwrap();
        assert!(!sealed.windows(6).any(|part| part == b"secret"));
        let open = |table, key, sealed: &[u8]| ring.open(table, key, sealed);
        assert_eq!(
            open("resources", "default/a/b/c", &sealed)
                .unwrap()
                .as_slice(),
            b"secret"
        );
        for (table, key) in [
            ("resources", "default/a/b/d"),
            ("policies", "default/a/b/c"),
        ] {
            assert_eq!(open(table, key, &sealed).unwrap_err(), Unsealable::Forged);
        }
        for index in 0..sealed.len() {
            let mut changed = sealed.clone();
            changed[index] ^= 1;
            assert!(
                open("resources", "default/a/b/c", &changed).is_err(),
                "{index}"
            );
            assert!(open("resources", "default/a/b/c", &sealed[..index]).is_err());
        }
    }

    #[test]
    fn old_keys_open_until_they_are_forgotten() {
        let mut ring = KeyRing::generate().unwrap();
        let old = ring.seal("t", "k", b"x").unwrap();
        ring.add_new().unwrap();
        let new = ring.seal("t", "k", b"y").unwrap();
        assert_eq!(ring.open("t", "k", &old).unwrap().as_slice(), b"x");
        ring.keep_first();
        assert_eq!(
            ring.open("t", "k", &old).unwrap_err(),
            Unsealable::UnknownKey
        );
        assert_eq!(ring.open("t", "k", &new).unwrap().as_slice(), b"y");
    }

    #[test]
    fn key_file_reads_back_and_errors_do_not_show_keys() {
        let mut ring = KeyRing::generate().unwrap();
        ring.add_new().unwrap();
        let text = ring.to_text();
        let read = KeyRing::parse(&format!("# keys\n\n{}", *text)).unwrap();
        assert_eq!(read.active_id(), ring.active_id());
        assert_eq!(read.to_text(), text);
        assert!(!format!("{read:?}").contains(&text[17..81]));
        let (id, secret) = ("00".repeat(8), "5e".repeat(32));
        for bad in [
            String::new(),
            "# nothing\n".to_owned(),
            format!("{id}{secret}"),
            format!("{id} {secret}00"),
            format!("{secret} {id}"),
            format!("{id} {secret}\n{id} {secret}"),
            (0..17)
                .flat_map(|n| [format!("{n:016x} "), secret.clone(), "\n".to_owned()])
                .collect(),
        ] {
            let error = KeyRing::parse(&bad).unwrap_err();
            assert!(!error.contains("5e5e"), "{error}");
        }
    }
}
