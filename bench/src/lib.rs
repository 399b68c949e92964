//! The instruments that keep decisions honest.
