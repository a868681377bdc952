//! A place in a document, so that every error can name it.

use serde_json::{Map, Value};

use crate::error::PodError;

/// A value with the path that leads to it.
#[derive(Clone, Debug)]
pub(crate) struct Node<'a> {
    place: String,
    value: &'a Value,
}

impl<'a> Node<'a> {
    pub(crate) fn new(place: String, value: &'a Value) -> Self {
        Self { place, value }
    }

    pub(crate) fn place(&self) -> &str {
        &self.place
    }

    /// The same value under another name.
    pub(crate) fn named(self, place: String) -> Self {
        Self { place, ..self }
    }

    /// A field; `None` where it is absent or null.
    pub(crate) fn field(&self, name: &str) -> Result<Option<Self>, PodError> {
        let value = self.map()?.get(name).filter(|value| !value.is_null());
        Ok(value.map(|value| Self {
            place: format!("{}{}{name}", self.place, self.separator()),
            value,
        }))
    }

    /// A field that must be there.
    pub(crate) fn required(&self, name: &str) -> Result<Self, PodError> {
        self.field(name)?.ok_or_else(|| PodError::Missing {
            place: format!("{}{}{name}", self.place, self.separator()),
        })
    }

    /// A field's text; `None` where it is absent.
    pub(crate) fn text(&self, name: &str) -> Result<Option<&'a str>, PodError> {
        self.field(name)?.map(|field| field.as_text()).transpose()
    }

    pub(crate) fn as_text(&self) -> Result<&'a str, PodError> {
        self.value.as_str().ok_or_else(|| self.wrong("text"))
    }

    /// Text, or a number as it is written.
    pub(crate) fn as_text_or_number(&self) -> Result<String, PodError> {
        match self.value {
            Value::String(text) => Ok(text.clone()),
            Value::Number(number) => Ok(number.to_string()),
            _ => Err(self.wrong("a number or a quantity as text")),
        }
    }

    pub(crate) fn map(&self) -> Result<&'a Map<String, Value>, PodError> {
        self.value
            .as_object()
            .ok_or_else(|| self.wrong("a mapping"))
    }

    /// The elements of a list that is a field; nothing where it is absent.
    pub(crate) fn elements(&self, name: &str) -> Result<Vec<Self>, PodError> {
        let Some(field) = self.field(name)? else {
            return Ok(Vec::new());
        };
        let list = field
            .value
            .as_array()
            .ok_or_else(|| field.wrong("a list"))?;
        let elements = list.iter().enumerate().map(|(index, value)| Self {
            place: format!("{}[{index}]", field.place),
            value,
        });
        Ok(elements.collect())
    }

    /// The entries of a mapping that is a field; nothing where it is absent.
    pub(crate) fn entries(&self, name: &str) -> Result<Vec<(&'a str, Self)>, PodError> {
        let Some(field) = self.field(name)? else {
            return Ok(Vec::new());
        };
        let entries = field.map()?.iter().map(|(key, value)| {
            let place = format!("{}[{key:?}]", field.place);
            (key.as_str(), Self { place, value })
        });
        Ok(entries.collect())
    }

    fn wrong(&self, expected: &'static str) -> PodError {
        PodError::WrongType {
            place: self.place.clone(),
            expected,
        }
    }

    fn separator(&self) -> &'static str {
        // "Pod web" is followed by a path, a path by its next part.
        if self.place.contains(": ") { "." } else { ": " }
    }
}
