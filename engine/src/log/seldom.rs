//! State that few logs ever need.

use std::cell::OnceCell;
use std::ops::{Deref, DerefMut};

/// A value that begins as its default, and takes memory of its own once it is looked at: of ten thousand logs, hardly one looks.
#[derive(Debug, Default)]
pub(super) struct Seldom<T>(OnceCell<Box<T>>);

impl<T: Default> Seldom<T> {
    /// The value, if anybody has looked at it.
    pub(super) fn peek(&self) -> Option<&T> {
        self.0.get().map(|value| &**value)
    }

    /// The same, to be changed.
    pub(super) fn peek_mut(&mut self) -> Option<&mut T> {
        self.0.get_mut().map(|value| &mut **value)
    }

    /// Takes the value out, and its memory with it.
    pub(super) fn take(&mut self) -> T {
        self.0.take().map(|value| *value).unwrap_or_default()
    }
}

impl<T: Default + PartialEq> From<T> for Seldom<T> {
    fn from(value: T) -> Self {
        if value == T::default() { Self::default() } else { Self(Box::new(value).into()) }
    }
}

impl<T: Default> Deref for Seldom<T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.0.get_or_init(Box::default)
    }
}

impl<T: Default> DerefMut for Seldom<T> {
    fn deref_mut(&mut self) -> &mut T {
        self.0.get_or_init(Box::default);
        self.0.get_mut().expect("just made")
    }
}
