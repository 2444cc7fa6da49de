//! An allocator that counts: PID 1 promises to allocate nothing once it runs, and this shows whether it keeps that.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

static SEALED: AtomicBool = AtomicBool::new(false);
static AFTER: AtomicU64 = AtomicU64::new(0);

/// The system's allocator, which also counts allocations made after PID 1 said that it needs no more.
pub struct CountingAllocator;

// SAFETY: every call goes unchanged to the system allocator, which upholds the contract.
unsafe impl GlobalAlloc for CountingAllocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if SEALED.load(Relaxed) {
            AFTER.fetch_add(1, Relaxed);
        }
        // SAFETY: the caller's promises are passed on.
        unsafe { System.alloc(layout) }
    }

    // The default writes zeros, and so takes all of the memory at once.
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        if SEALED.load(Relaxed) {
            AFTER.fetch_add(1, Relaxed);
        }
        // SAFETY: the caller's promises are passed on.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        // SAFETY: the caller's promises are passed on.
        unsafe { System.dealloc(ptr, layout) }
    }

    unsafe fn realloc(&self, ptr: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        if SEALED.load(Relaxed) {
            AFTER.fetch_add(1, Relaxed);
        }
        // SAFETY: the caller's promises are passed on.
        unsafe { System.realloc(ptr, layout, new_size) }
    }
}

/// From now on allocations are counted.
pub(crate) fn seal() {
    SEALED.store(true, Relaxed);
}

/// How many allocations were made since [`seal`].
pub(crate) fn allocations_after_seal() -> u64 {
    AFTER.load(Relaxed)
}
