//! Memory that was let go of and that the allocator keeps.

/// Gives it back to the kernel, page by page: by itself the allocator does so only where nothing that is in use lies behind it. Takes
/// milliseconds where much is kept, and whoever asks for memory meanwhile waits.
pub fn give_back_memory() {
    #[cfg(target_env = "gnu")]
    trim();
}

#[cfg(target_env = "gnu")]
#[expect(unsafe_code, reason = "a call of the C library that no crate offers")]
fn trim() {
    // SAFETY: it works on the allocator's own state, under the allocator's locks, and any thread may call it at any time (malloc_trim(3)).
    unsafe { libc::malloc_trim(0) };
}
