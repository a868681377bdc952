//! How sub-messages and enumerations look in a policy's input.

/// A sub-message: its fields, or null when it is absent.
pub(crate) mod message {
    use protobuf::MessageField;
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub(crate) fn serialize<M: Serialize, S: Serializer>(
        field: &MessageField<M>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        field.as_ref().serialize(serializer)
    }

    pub(crate) fn deserialize<'de, M: Deserialize<'de>, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<MessageField<M>, D::Error> {
        Option::<M>::deserialize(deserializer).map(MessageField::from_option)
    }
}

/// An enumeration: its number, known or not.
pub(crate) mod enumeration {
    use protobuf::{Enum, EnumOrUnknown};
    use serde::{Deserialize, Deserializer, Serializer};

    #[expect(
        clippy::trivially_copy_pass_by_ref,
        reason = "the signature that serde calls"
    )]
    pub(crate) fn serialize<E: Enum, S: Serializer>(
        field: &EnumOrUnknown<E>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.serialize_i32(field.value())
    }

    pub(crate) fn deserialize<'de, E: Enum, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<EnumOrUnknown<E>, D::Error> {
        i32::deserialize(deserializer).map(EnumOrUnknown::from_i32)
    }
}
