//! cairn-init. See the library.

#[global_allocator]
static ALLOCATOR: cairn_init::CountingAllocator = cairn_init::CountingAllocator;

fn main() {
    cairn_init::main()
}
