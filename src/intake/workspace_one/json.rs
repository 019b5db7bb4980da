//! The JSON form, read strictly.
//!
//! What two parsers could understand differently is refused: a key that is there twice, at any depth; a lone surrogate;
//! NUL and other control characters; anything after the end. Depth, array length and the length of every text are bounded
//! while reading, so a hostile body costs no more than its size.

use std::collections::HashSet;
use std::fmt;

use serde::de::{self, DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};

use super::Limits;
use super::fields::{Fields, Item};
use crate::intake::Unreadable;

/// Reads the fields of an event.
pub(super) fn read(text: &str, limits: &Limits) -> Result<Fields, Unreadable> {
    let mut json = serde_json::Deserializer::from_str(text);
    let root = Strict { depth: 1, limits }
        .deserialize(&mut json)
        .and_then(|root| json.end().map(|()| root))
        .map_err(|error| Unreadable::malformed(format!("it is not sound JSON: {error}")))?;
    let Tree::Object(entries) = root else {
        return Err(Unreadable::unknown("it is not an object"));
    };
    let mut fields = Fields::default();
    for (name, item) in entries {
        fields.put(&name, item)?;
    }
    Ok(fields)
}

/// Whether the text holds only what a text may hold. The white-space controls are blanks, as they are in XML.
pub(super) fn sound(text: &str, limits: &Limits) -> Result<(), &'static str> {
    if text.len() > limits.text_bytes {
        return Err("a text is too long");
    }
    clean(text)
}

/// Whether the text is free of control characters, but for the white-space ones.
pub(super) fn clean(text: &str) -> Result<(), &'static str> {
    if text.chars().any(|c| c.is_control() && !matches!(c, '\t' | '\n' | '\r')) {
        return Err("a text holds a control character");
    }
    Ok(())
}

enum Tree {
    Leaf(Item),
    /// The root's entries; those of an inner object are checked and left out.
    Object(Vec<(String, Item)>),
}

impl Tree {
    fn into_item(self) -> Item {
        match self {
            Self::Leaf(item) => item,
            Self::Object(_) => Item::Other,
        }
    }
}

#[derive(Clone, Copy)]
struct Strict<'l> {
    depth: usize,
    limits: &'l Limits,
}

impl Strict<'_> {
    fn inner<E: de::Error>(self) -> Result<Self, E> {
        if self.depth > self.limits.depth {
            return Err(E::custom("it is nested too deep"));
        }
        Ok(Self { depth: self.depth + 1, ..self })
    }
}

impl<'de> DeserializeSeed<'de> for Strict<'_> {
    type Value = Tree;

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<Tree, D::Error> {
        json.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Strict<'_> {
    type Value = Tree;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any JSON value")
    }

    fn visit_unit<E>(self) -> Result<Tree, E> {
        Ok(Tree::Leaf(Item::Nothing))
    }

    fn visit_bool<E>(self, _: bool) -> Result<Tree, E> {
        Ok(Tree::Leaf(Item::Other))
    }

    fn visit_i64<E>(self, number: i64) -> Result<Tree, E> {
        Ok(Tree::Leaf(Item::Scalar(number.to_string())))
    }

    fn visit_u64<E>(self, number: u64) -> Result<Tree, E> {
        Ok(Tree::Leaf(Item::Scalar(number.to_string())))
    }

    fn visit_f64<E>(self, number: f64) -> Result<Tree, E> {
        Ok(Tree::Leaf(Item::Scalar(format!("{number:?}"))))
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Tree, E> {
        sound(text, self.limits).map_err(E::custom)?;
        Ok(Tree::Leaf(Item::Scalar(text.to_owned())))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut array: A) -> Result<Tree, A::Error> {
        let inner = self.inner()?;
        let mut elements = 0;
        while array.next_element_seed(inner)?.is_some() {
            elements += 1;
            if elements > self.limits.elements {
                return Err(de::Error::custom("an array is too long"));
            }
        }
        Ok(Tree::Leaf(Item::Other))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut object: A) -> Result<Tree, A::Error> {
        let inner = self.inner()?;
        let mut names = HashSet::new();
        let mut entries = Vec::new();
        while let Some(name) = object.next_key::<String>()? {
            sound(&name, self.limits).map_err(de::Error::custom)?;
            let value = object.next_value_seed(inner)?;
            if self.depth == 1 {
                entries.push((name.clone(), value.into_item()));
            }
            if !names.insert(name) {
                return Err(de::Error::custom("a key is there twice"));
            }
        }
        Ok(Tree::Object(entries))
    }
}
