//! What stands in the place of glibc's `getaddrinfo` in the static programs.
//!
//! reqwest and the standard library refer to it in code that is never run here: names are looked
//! up by [`crate::resolver`]. The reference alone would link glibc's own, and with it the loader
//! of the host's name-service modules. Code that comes to call it after all is told that names
//! cannot be resolved, which is an error like any other, where glibc's would end the program.
//! `packaging/no-name-service.sh` checks the built programs.

#[cfg(all(target_os = "linux", target_env = "gnu", target_feature = "crt-static"))]
#[allow(
    unsafe_code,
    reason = "the names are the C library's; the functions touch nothing"
)]
mod symbols {
    use std::ffi::{c_char, c_int, c_void};

    /// `EAI_FAIL` of netdb.h: the name cannot be resolved, now or later.
    const EAI_FAIL: c_int = -4;

    #[unsafe(no_mangle)]
    extern "C" fn getaddrinfo(
        _node: *const c_char,
        _service: *const c_char,
        _hints: *const c_void,
        _result: *mut *mut c_void,
    ) -> c_int {
        EAI_FAIL
    }

    /// Nothing is given out, so nothing is taken back.
    #[unsafe(no_mangle)]
    extern "C" fn freeaddrinfo(_result: *mut c_void) {}
}
