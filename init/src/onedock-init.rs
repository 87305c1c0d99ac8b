//! The program without the standard library; see the library's documentation.
#![no_std]
#![no_main]

mod program;
mod system;

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    system::exit(1)
}

/// Where the kernel enters: no argument is looked at, and nothing is returned to.
#[unsafe(no_mangle)]
extern "C" fn _start() -> ! {
    program::run()
}

/// Named by the core library, which was compiled to unwind; nothing here ever does.
#[unsafe(no_mangle)]
extern "C" fn rust_eh_personality() {}
