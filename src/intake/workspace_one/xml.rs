//! The XML form, read strictly.
//!
//! One root `Eventlog` with one child per field. Nothing is ever expanded: a DTD and any entity but the five of XML itself
//! are refused where they stand. The bounds are those of the JSON form. Comments and processing instructions say nothing,
//! also in the middle of a value.

use std::collections::HashSet;

use quick_xml::Reader;
use quick_xml::events::{BytesDecl, BytesRef, BytesStart, Event};

use super::Limits;
use super::fields::{Fields, Item};
use super::json::{clean, sound};
use crate::intake::Unreadable;

/// More attributes than this on one element are refused; an event has two, on its root.
const MOST_ATTRIBUTES: usize = 32;

/// Reads the fields of an event.
pub(super) fn read(text: &str, limits: &Limits) -> Result<Fields, Unreadable> {
    let mut reader = Reader::from_str(text);
    let config = reader.config_mut();
    config.expand_empty_elements = true;
    config.check_comments = true;
    let mut document =
        Document { limits, depth: 0, root: None, value: String::new(), nested: false, fields: Fields::default() };
    loop {
        let at_start = reader.buffer_position() == 0;
        match reader.read_event().map_err(|_| broken("its tags do not match"))? {
            Event::Start(tag) | Event::Empty(tag) => document.open(&tag)?,
            Event::End(tag) => document.close(&tag)?,
            Event::Text(text) => document.add(&text.xml10_content())?,
            Event::CData(text) if document.depth > 0 => document.add(&text.xml10_content())?,
            Event::GeneralRef(name) => document.add(character(&name)?.encode_utf8(&mut [0; 4]))?,
            Event::Decl(declaration) if at_start => encoding(&declaration, text)?,
            Event::Comment(_) | Event::PI(_) => {}
            Event::DocType(_) => return Err(broken("it has a document type")),
            Event::CData(_) => return Err(broken("there is text outside its root")),
            Event::Decl(_) => return Err(broken("its declaration is not at the start")),
            Event::Eof => return document.end(),
        }
    }
}

fn broken(why: &str) -> Unreadable {
    Unreadable::malformed(format!("it is not sound XML: {why}"))
}

/// An XML document on its way in.
struct Document<'l> {
    limits: &'l Limits,
    depth: usize,
    /// The root's name, once it was opened.
    root: Option<String>,
    /// The text of the field being read.
    value: String,
    /// Whether the field being read has elements inside.
    nested: bool,
    fields: Fields,
}

impl Document<'_> {
    fn open(&mut self, tag: &BytesStart<'_>) -> Result<(), Unreadable> {
        let name = tag.name();
        let name: &str = name.as_ref();
        if !is_name(name) {
            return Err(broken("a name is not a name"));
        }
        self.attributes(tag)?;
        self.depth += 1;
        if self.depth > self.limits.depth {
            return Err(broken("it is nested too deep"));
        }
        match self.depth {
            1 if self.root.is_some() => return Err(broken("it has two roots")),
            1 => self.root = Some(name.to_owned()),
            2 => {
                self.value.clear();
                self.nested = false;
            }
            _ => {
                self.value.clear();
                self.nested = true;
            }
        }
        Ok(())
    }

    fn attributes(&self, tag: &BytesStart<'_>) -> Result<(), Unreadable> {
        let mut names = HashSet::new();
        // The reader's own check for doubles compares each with each; a set does it in linear time.
        for attribute in tag.attributes().with_checks(false) {
            let attribute = attribute.map_err(|_| broken("an attribute is broken"))?;
            if names.len() == MOST_ATTRIBUTES || !names.insert(attribute.key) {
                return Err(broken("an attribute is there twice, or there are too many"));
            }
            let value: &str = attribute.value.as_ref();
            sound(value, self.limits).map_err(broken)?;
            if value.contains('<') {
                return Err(broken("an attribute is broken"));
            }
        }
        Ok(())
    }

    fn close(&mut self, tag: &quick_xml::events::BytesEnd<'_>) -> Result<(), Unreadable> {
        if self.depth == 2 && self.is_event() {
            let item = if self.nested { Item::Other } else { Item::Scalar(std::mem::take(&mut self.value)) };
            let name = tag.name();
            self.fields.put(name.as_ref(), item)?;
        }
        self.depth = self.depth.saturating_sub(1);
        Ok(())
    }

    fn add(&mut self, text: &str) -> Result<(), Unreadable> {
        clean(text).map_err(broken)?;
        match self.depth {
            0 if !text.trim().is_empty() => return Err(broken("there is text outside its root")),
            0 | 1 => {}
            _ => self.value.push_str(text),
        }
        if self.value.len() > self.limits.text_bytes {
            return Err(broken("a text is too long"));
        }
        Ok(())
    }

    fn is_event(&self) -> bool {
        self.root.as_deref().is_some_and(|root| root.eq_ignore_ascii_case("Eventlog"))
    }

    fn end(self) -> Result<Fields, Unreadable> {
        if self.depth > 0 || self.root.is_none() {
            return Err(broken("it ends too early"));
        }
        if !self.is_event() {
            return Err(Unreadable::unknown("its root is not Eventlog"));
        }
        Ok(self.fields)
    }
}

/// A character reference, or one of the five names that XML itself defines.
fn character(name: &BytesRef<'_>) -> Result<char, Unreadable> {
    let named = || match &**name {
        "lt" => Some('<'),
        "gt" => Some('>'),
        "amp" => Some('&'),
        "apos" => Some('\''),
        "quot" => Some('"'),
        _ => None,
    };
    let numbered = name.resolve_char_ref().map_err(|_| broken("a character reference is broken"))?;
    numbered.or_else(named).ok_or_else(|| broken("it uses an entity"))
}

/// Only UTF-8 is read. Some senders declare `utf-16` for what they then send in UTF-8, so that is overlooked; another
/// encoding is overlooked where it makes no difference.
fn encoding(declaration: &BytesDecl<'_>, text: &str) -> Result<(), Unreadable> {
    declaration.version().map_err(|_| broken("its declaration is broken"))?;
    let Some(encoding) = declaration.encoding() else { return Ok(()) };
    let encoding = encoding.map_err(|_| broken("its declaration is broken"))?;
    let usual = ["utf-8", "utf8", "utf-16"].iter().any(|usual| encoding.eq_ignore_ascii_case(usual));
    if usual || text.is_ascii() { Ok(()) } else { Err(broken("it is in an encoding other than UTF-8")) }
}

fn is_name(name: &str) -> bool {
    let mut chars = name.chars();
    chars.next().is_some_and(|c| c.is_alphabetic() || c == '_')
        && chars.all(|c| c.is_alphanumeric() || matches!(c, '_' | '-' | '.' | ':' | '\u{b7}'))
}
