//! Handover remembers who holds each shared iPad.
