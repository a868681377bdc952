//! Serialises byte strings as lower-case hexadecimal.

use serde::de::{Deserializer, Error};
use serde::{Deserialize, Serializer};

pub(crate) fn serialize<S: Serializer>(
    bytes: &impl AsRef<[u8]>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&hex::encode(bytes))
}

pub(crate) fn deserialize<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: TryFrom<Vec<u8>>,
{
    let text = String::deserialize(deserializer)?;
    let bytes = hex::decode(text).map_err(D::Error::custom)?;
    T::try_from(bytes).map_err(|_| D::Error::custom("wrong number of bytes"))
}
