//! The asking side: the read models and the HTTP room, on both databases.

#[path = "../support/mod.rs"]
mod support;

mod api;
mod models;
mod openapi;
mod serve;
mod tokens;
mod ward;
