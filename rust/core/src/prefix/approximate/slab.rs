//! A dense array that grows and shrinks by one small chunk at a time.
//!
//! A `Vec` doubles: with millions of entries that is a long copy under a lock and up to half of the memory unused.

/// Items numbered 0..len without holes; an item's number changes only when a removal moves the last one into the hole.
#[derive(Debug)]
pub(super) struct Slab<T, const CHUNK: usize> {
    chunks: Vec<Vec<T>>,
    len: usize,
}

impl<T, const CHUNK: usize> Slab<T, CHUNK> {
    pub(super) const fn new() -> Self {
        Self {
            chunks: Vec::new(),
            len: 0,
        }
    }

    pub(super) const fn len(&self) -> usize {
        self.len
    }

    /// Bytes on the heap, what the items themselves point to left out.
    pub(super) fn allocated(&self) -> usize {
        self.chunks.len() * CHUNK * size_of::<T>() + self.chunks.capacity() * size_of::<Vec<T>>()
    }

    pub(super) fn get(&self, index: u32) -> &T {
        &self.chunks[index as usize / CHUNK][index as usize % CHUNK]
    }

    pub(super) fn get_mut(&mut self, index: u32) -> &mut T {
        &mut self.chunks[index as usize / CHUNK][index as usize % CHUNK]
    }

    /// Appends an item and returns its number.
    pub(super) fn push(&mut self, item: T) -> u32 {
        let chunk = self.len / CHUNK;
        if chunk == self.chunks.len() {
            self.chunks.push(Vec::with_capacity(CHUNK));
        }
        self.chunks[chunk].push(item);
        self.len += 1;
        (self.len - 1) as u32
    }

    /// Keeps the first `len` items, and no chunk to spare.
    pub(super) fn truncate(&mut self, len: u32) {
        self.len = self.len.min(len as usize);
        self.chunks.truncate(self.len.div_ceil(CHUNK));
        if let Some(last) = self.chunks.last_mut() {
            last.truncate((self.len - 1) % CHUNK + 1);
        }
        self.chunks.shrink_to(self.chunks.len() * 5 / 4);
    }

    /// Removes item `index`; the last item takes its number. Gives an emptied chunk back, keeping one to spare.
    pub(super) fn swap_remove(&mut self, index: u32) -> Option<T> {
        let last_chunk = self.len.checked_sub(1)? / CHUNK;
        let last = self.chunks[last_chunk].pop()?;
        self.len -= 1;
        let removed = if index as usize == self.len {
            last
        } else {
            std::mem::replace(self.get_mut(index), last)
        };
        if self.len == 0 {
            self.chunks = Vec::new();
        } else if self.chunks.len() > last_chunk + 1 {
            // The spare beyond the chunk that was just touched: two in a row are never kept.
            self.chunks.truncate(last_chunk + 1);
            if self.chunks.capacity() > 4 * self.chunks.len() {
                self.chunks.shrink_to(2 * last_chunk);
            }
        }
        Some(removed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn removal_moves_the_last_item_into_the_hole() {
        let mut slab: Slab<u32, 4> = Slab::new();
        for item in 0..10 {
            assert_eq!(slab.push(item), item);
        }
        assert_eq!(slab.swap_remove(2), Some(2));
        assert_eq!(*slab.get(2), 9);
        assert_eq!(slab.swap_remove(8), Some(8));
        assert_eq!(slab.len(), 8);
    }

    #[test]
    fn a_truncated_slab_keeps_the_first_items_and_grows_again() {
        let mut slab: Slab<u32, 4> = Slab::new();
        for item in 0..10 {
            slab.push(item);
        }
        for (len, left, chunks) in [(8, 8, 2), (5, 5, 2), (4, 4, 1), (9, 4, 1), (0, 0, 0)] {
            slab.truncate(len);
            assert_eq!(slab.len(), left);
            assert!(slab.allocated() <= chunks * (16 + 2 * size_of::<Vec<u32>>()));
        }
        assert_eq!(slab.push(7), 0);
    }

    #[test]
    fn an_emptied_slab_holds_no_memory() {
        let mut slab: Slab<u64, 4> = Slab::new();
        for item in 0..1000 {
            slab.push(item);
        }
        let full = slab.allocated();
        for _ in 0..900 {
            slab.swap_remove(0);
        }
        assert!(slab.allocated() * 4 < full);
        for _ in 0..100 {
            slab.swap_remove(0);
        }
        assert_eq!((slab.allocated(), slab.swap_remove(0)), (0, None));
    }
}
