//! The laws of the core, tested from outside: against a reference model, by properties, and by a table of stories.
//!
//! The laws are those in the headers of `src/custody`; the letters and numbers (I1, R5, …) are those of the reliability bar.

#[path = "custody/decisions.rs"]
mod decisions;
#[path = "custody/laws.rs"]
mod laws;
#[path = "custody/model.rs"]
mod model;
#[path = "custody/stories.rs"]
mod stories;
#[path = "custody/world.rs"]
mod world;
