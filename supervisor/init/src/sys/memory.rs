//! What stays in memory.

use std::ffi::{c_int, c_void};

use nix::errno::Errno;
use nix::libc;

use super::check;

/// What the kernel maps around a page that is asked for, and what [`keep_code`] brings in around an address.
const WINDOW: usize = 64 * 1024;
/// More stack than the deepest call chain of PID 1's loop uses (half of it was measured).
const STACK: usize = 16 * 1024;

/// One part of this program as it lies in memory.
#[derive(Clone, Copy)]
struct Segment {
    start: usize,
    end: usize,
}

/// The parts of this program that nothing ever writes to: code and constants. Relocated constants are not among them.
pub(crate) struct Constant {
    segments: [Option<Segment>; 4],
}

impl Constant {
    /// Asks the C library, once: its answer is spread over memory that is not needed otherwise.
    pub(crate) fn find() -> Self {
        let mut found = Self { segments: [None; 4] };
        // SAFETY: the callback is called with this pointer only, while `found` lives and is not used otherwise.
        unsafe { libc::dl_iterate_phdr(Some(main_program), (&raw mut found).cast()) };
        found
    }

    fn all(&self) -> impl Iterator<Item = Segment> {
        self.segments.iter().flatten().copied()
    }
}

/// Notes the segments of the first object, which is the program itself, and asks for no other.
extern "C" fn main_program(info: *mut libc::dl_phdr_info, _: usize, found: *mut c_void) -> c_int {
    // SAFETY: dl_iterate_phdr passes a valid structure whose headers lie in the loaded program; `found` is what `find` passed.
    let (info, found) = unsafe { (&*info, &mut *found.cast::<Constant>()) };
    if info.dlpi_phdr.is_null() {
        return 1;
    }
    // SAFETY: as above; the headers stay as long as the program.
    let headers = unsafe { std::slice::from_raw_parts(info.dlpi_phdr, usize::from(info.dlpi_phnum)) };
    let constant = headers
        .iter()
        .filter(|h| h.p_type == libc::PT_LOAD && h.p_flags & libc::PF_W == 0);
    for (slot, header) in found.segments.iter_mut().zip(constant) {
        let start = (info.dlpi_addr + header.p_vaddr) as usize;
        *slot = Some(Segment {
            start: start & !(page() - 1),
            end: (start + header.p_memsz as usize).next_multiple_of(page()),
        });
    }
    1
}

fn page() -> usize {
    // SAFETY: asks for a number. It is always known.
    unsafe { libc::sysconf(libc::_SC_PAGESIZE) as usize }
}

/// Gives back the memory that only the start needed: what was freed, and the code that ran. Code that is called again
/// comes back from the page cache. To be called before [`lock_memory`], since locked memory cannot be given back.
pub(crate) fn give_back_start(constant: &Constant) {
    #[cfg(target_env = "gnu")]
    // SAFETY: hands free memory back to the kernel, and touches no allocation.
    unsafe {
        libc::malloc_trim(0);
    }
    for Segment { start, end } in constant.all() {
        // SAFETY: these pages are never written to, so the kernel reads the same bytes again from the file.
        unsafe { libc::madvise(start as *mut c_void, end - start, libc::MADV_DONTNEED) };
    }
}

/// Keeps what PID 1 uses in memory, so that memory pressure cannot push it out and a failing disk is not needed to get it back.
///
/// Locked is what has been used once (`MCL_ONFAULT`), from now on too. All of the program (`MCL_CURRENT` alone) would be
/// twice as much, most of it the initrd's stage, the module loader and the C library, which never run here. The price: a page
/// that was never used is read from the disk at its first use, and if the disk fails then, PID 1 dies and the kernel
/// restarts the machine. [`keep_code`] brings in beforehand what must not depend on that.
pub(crate) fn lock_memory() -> Result<(), Errno> {
    // SAFETY: changes no memory that Rust knows of.
    check(unsafe { libc::mlockall(libc::MCL_CURRENT | libc::MCL_ONFAULT) }.into())?;
    Ok(())
}

/// Brings in the code or constants around each of these addresses, and stack for the deepest call.
///
/// # Errors
/// What the kernel said when it could not read a page.
pub(crate) fn keep_code(constant: &Constant, addresses: &[*const c_void]) -> Result<(), Errno> {
    for address in addresses {
        let address = *address as usize;
        let Some(segment) = constant.all().find(|s| (s.start..s.end).contains(&address)) else {
            continue;
        };
        let window = address & !(WINDOW - 1);
        let (start, end) = (window.max(segment.start), (window + WINDOW).min(segment.end));
        // SAFETY: only reads pages into memory that are part of this program.
        check(unsafe { libc::madvise(start as *mut c_void, end - start, libc::MADV_POPULATE_READ) }.into())?;
    }
    let stack = [1u8; STACK];
    std::hint::black_box(&stack);
    Ok(())
}

/// The addresses of the C library's functions that PID 1's loop and shutdown call, beyond those that copy memory.
pub(crate) fn c_library() -> [*const c_void; 3] {
    [
        libc::syscall as *const c_void,
        libc::read as *const c_void,
        libc::__errno_location as *const c_void,
    ]
}
