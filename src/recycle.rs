//! Keeps freed blocks of the sizes that packets have, for the next packet.
//!
//! SSH libraries allocate and free buffers of tens of KiB for every packet. The C library that the static binary is linked
//! with (musl) maps and unmaps each of these anew, and where memory is locked (`hardening`) the kernel fills all their pages
//! at once: 33 µs for a block of 33 KiB, several times what it takes to decrypt it. Here a block that is freed waits in a slot
//! until one of its size is wanted: 1 µs. What is kept was wiped before (`ZeroAlloc`, around this in `main.rs`).

#![allow(unsafe_code)]

use std::alloc::{GlobalAlloc, Layout};
use std::ptr::null_mut;
use std::sync::atomic::AtomicPtr;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed};

/// Blocks that are kept of each size: a MiB of what waits for a program, in the pieces that a queue has (`flow::inbox`); with 4,
/// an upload had the kernel do half as much again. A session that moves files fills some of the slots; all of them are 32 MiB.
const KEPT: usize = 16;
/// What a block is aligned to, as malloc(3)'s are.
const ALIGNMENT: usize = 16;
/// The sizes of blocks in bytes, each at most a quarter more than the one before: 20, 25, 30, 35, 40, 50, … 320 KiB. Smaller
/// ones the C library keeps itself; larger ones are rare.
const SIZES: [usize; 17] = sizes();

const fn sizes() -> [usize; 17] {
    let mut sizes = [0; 17];
    let mut index = 0;
    while index < sizes.len() {
        sizes[index] = ((4 + index % 4) * (5 << 10)) << (index / 4);
        index += 1;
    }
    sizes
}

/// An allocator that keeps some of the blocks that its user frees, instead of giving them back to the one below.
pub struct Recycle<A> {
    below: A,
    slots: [[AtomicPtr<u8>; KEPT]; SIZES.len()],
}

impl<A> Recycle<A> {
    pub const fn new(below: A) -> Self {
        Self { below, slots: [const { [const { AtomicPtr::new(null_mut()) }; KEPT] }; SIZES.len()] }
    }

    /// A block that was kept, whoever else is looking for one: a swap gives it to one of them.
    fn take(&self, class: usize) -> Option<*mut u8> {
        let slots = self.slots[class].iter();
        slots
            .filter(|slot| !slot.load(Relaxed).is_null())
            .map(|slot| slot.swap(null_mut(), Acquire))
            .find(|it| !it.is_null())
    }

    /// Whether there was a slot for the block.
    fn keep(&self, class: usize, block: *mut u8) -> bool {
        self.slots[class].iter().any(|slot| {
            slot.load(Relaxed).is_null() && slot.compare_exchange(null_mut(), block, AcqRel, Relaxed).is_ok()
        })
    }
}

/// Which size of block serves a layout, and that block's own layout: the same for all who ask for this layout, so a block
/// goes back as what it came from. None for those that the allocator below serves directly.
fn class(layout: Layout) -> Option<(usize, Layout)> {
    let kept = layout.align() <= ALIGNMENT && layout.size() > SIZES[0] / 2 && layout.size() <= SIZES[SIZES.len() - 1];
    let class = SIZES.partition_point(|size| *size < layout.size());
    kept.then(|| Some((class, Layout::from_size_align(SIZES[class], ALIGNMENT).ok()?)))?
}

// SAFETY: a block from a slot came from the allocator below with its class's layout, which is at least as large and as
// aligned as any layout of that class; `take` gives it to one caller, and it is in no slot until that caller frees it. All
// else is what the allocator below does.
unsafe impl<A: GlobalAlloc> GlobalAlloc for Recycle<A> {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        match class(layout) {
            Some((class, block)) => {
                // SAFETY: a class's layout isn't empty.
                self.take(class).unwrap_or_else(|| unsafe { self.below.alloc(block) })
            }
            // SAFETY: the caller's contract is the same.
            None => unsafe { self.below.alloc(layout) },
        }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        match class(layout) {
            Some((class, block)) => match self.take(class) {
                Some(kept) => {
                    // SAFETY: the block is the caller's from here on, and at least so long.
                    unsafe { kept.write_bytes(0, layout.size()) };
                    kept
                }
                // SAFETY: a class's layout isn't empty.
                None => unsafe { self.below.alloc_zeroed(block) },
            },
            // SAFETY: the caller's contract is the same.
            None => unsafe { self.below.alloc_zeroed(layout) },
        }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        match class(layout) {
            Some((class, _)) if self.keep(class, pointer) => {}
            // SAFETY: the block was allocated with this layout, by `alloc`.
            Some((_, block)) => unsafe { self.below.dealloc(pointer, block) },
            // SAFETY: the caller's contract is the same.
            None => unsafe { self.below.dealloc(pointer, layout) },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::alloc::System;
    use std::sync::atomic::AtomicUsize;

    /// Counts what comes down to it, and checks that blocks go back as what they came from.
    #[derive(Default)]
    struct Below {
        open: AtomicUsize,
        allocations: AtomicUsize,
    }

    // SAFETY: System's, with a count.
    unsafe impl GlobalAlloc for Below {
        unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
            self.open.fetch_add(layout.size(), Relaxed);
            self.allocations.fetch_add(1, Relaxed);
            // SAFETY: the caller's contract is the same.
            unsafe { System.alloc(layout) }
        }
        unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
            self.open.fetch_sub(layout.size(), Relaxed);
            // SAFETY: the caller's contract is the same.
            unsafe { System.dealloc(pointer, layout) }
        }
    }

    fn layout(size: usize) -> Layout {
        Layout::from_size_align(size, 8).unwrap()
    }

    #[test]
    fn sizes_grow_by_a_quarter_at_most() {
        assert_eq!((SIZES[0], SIZES[4], SIZES[16]), (20 << 10, 40 << 10, 320 << 10));
        assert!(SIZES.windows(2).all(|pair| pair[1] > pair[0] && pair[1] * 4 <= pair[0] * 5), "{SIZES:?}");
    }

    #[test]
    fn which_blocks_are_kept() {
        for (size, align, expected) in [
            (1, 1, None),
            (10 << 10, 8, None),
            ((10 << 10) + 1, 8, Some(20 << 10)),
            (20 << 10, 16, Some(20 << 10)),
            ((20 << 10) + 1, 1, Some(25 << 10)),
            (33 << 10, 8, Some(35 << 10)),
            (320 << 10, 8, Some(320 << 10)),
            ((320 << 10) + 1, 8, None),
            (33 << 10, 4096, None),
        ] {
            let found = class(Layout::from_size_align(size, align).unwrap()).map(|(_, block)| block.size());
            assert_eq!(found, expected, "{size} bytes aligned to {align}");
        }
    }

    #[test]
    fn a_freed_block_serves_again_and_no_more_than_some_are_kept() {
        let recycle = Recycle::new(Below::default());
        let blocks: Vec<_> = (0..2 * KEPT).map(|_| unsafe { recycle.alloc(layout(33 << 10)) }).collect();
        for block in &blocks {
            unsafe { recycle.dealloc(*block, layout(33 << 10)) };
        }
        assert_eq!(recycle.below.open.load(Relaxed), KEPT * (35 << 10), "the rest went back");
        let again: Vec<_> = (0..KEPT).map(|_| unsafe { recycle.alloc(layout(34 << 10)) }).collect();
        assert!(again.iter().all(|block| blocks[..KEPT].contains(block)));
        assert_eq!(recycle.below.allocations.load(Relaxed), 2 * KEPT);
        for block in &again {
            unsafe { block.write_bytes(7, 34 << 10) };
            unsafe { recycle.dealloc(*block, layout(34 << 10)) };
        }
        let again: Vec<_> = (0..KEPT).map(|_| unsafe { recycle.alloc_zeroed(layout(34 << 10)) }).collect();
        let empty =
            |block: &*mut u8| unsafe { std::slice::from_raw_parts(*block, 34 << 10) }.iter().all(|byte| *byte == 0);
        assert!(again.iter().all(empty), "what was asked for as zeros is zeros");
        let another = unsafe { recycle.alloc(layout(33 << 10)) };
        assert!(!again.contains(&another), "a block has one owner");
        for block in again.into_iter().chain([another]) {
            unsafe { recycle.dealloc(block, layout(33 << 10)) };
        }
    }

    #[test]
    fn threads_never_share_a_block() {
        let recycle = Recycle::new(System);
        std::thread::scope(|scope| {
            for mark in 1..=4_u8 {
                let recycle = &recycle;
                scope.spawn(move || {
                    for round in 0..2000 {
                        let layout = layout(SIZES[round % 3]);
                        let block = unsafe { recycle.alloc(layout) };
                        unsafe { block.write_bytes(mark, layout.size()) };
                        std::thread::yield_now();
                        let bytes = unsafe { std::slice::from_raw_parts(block, layout.size()) };
                        assert!(bytes.iter().all(|byte| *byte == mark), "somebody else wrote into it");
                        unsafe { recycle.dealloc(block, layout) };
                    }
                });
            }
        });
    }
}
