//! The five system calls that it needs, without a library.

#[cfg(target_arch = "x86_64")]
mod number {
    pub(super) const RT_SIGPROCMASK: usize = 14;
    pub(super) const RT_SIGTIMEDWAIT: usize = 128;
    pub(super) const WAIT4: usize = 61;
    pub(super) const EXIT_GROUP: usize = 231;
}

#[cfg(target_arch = "aarch64")]
mod number {
    pub(super) const RT_SIGPROCMASK: usize = 135;
    pub(super) const RT_SIGTIMEDWAIT: usize = 137;
    pub(super) const WAIT4: usize = 260;
    pub(super) const EXIT_GROUP: usize = 94;
}

/// The kernel's signal set is 64 bits wide.
const SET_SIZE: usize = 8;
const SIG_SETMASK: usize = 2;
const ALL: u64 = !0;
const ANY_CHILD: usize = usize::MAX;
const WNOHANG: usize = 1;

/// # Safety
/// The arguments must be what this system call expects; pointers must be valid for it.
#[cfg(target_arch = "x86_64")]
unsafe fn call(number: usize, a: usize, b: usize, c: usize, d: usize) -> isize {
    let answer: isize;
    // SAFETY: the kernel's calling convention; it changes rcx and r11 beside the answer, and
    // the caller vouches for the arguments.
    unsafe {
        core::arch::asm!(
            "syscall",
            inlateout("rax") number as isize => answer,
            in("rdi") a, in("rsi") b, in("rdx") c, in("r10") d,
            lateout("rcx") _, lateout("r11") _,
            options(nostack),
        );
    }
    answer
}

/// # Safety
/// The arguments must be what this system call expects; pointers must be valid for it.
#[cfg(target_arch = "aarch64")]
unsafe fn call(number: usize, a: usize, b: usize, c: usize, d: usize) -> isize {
    let answer: isize;
    // SAFETY: the kernel's calling convention; the caller vouches for the arguments.
    unsafe {
        core::arch::asm!(
            "svc 0",
            in("x8") number,
            inlateout("x0") a => answer,
            in("x1") b, in("x2") c, in("x3") d,
            options(nostack),
        );
    }
    answer
}

pub(crate) fn block_all_signals() {
    let all: u64 = ALL;
    // SAFETY: the set is read during the call only; no old set is asked for.
    unsafe {
        call(
            number::RT_SIGPROCMASK,
            SIG_SETMASK,
            &raw const all as usize,
            0,
            SET_SIZE,
        );
    }
}

/// Waits for a signal; none when the wait was interrupted (by a stop and continue).
pub(crate) fn next_signal() -> Option<u32> {
    let all: u64 = ALL;
    // SAFETY: the set is read during the call only; no details and no time limit are given.
    let answer = unsafe {
        call(
            number::RT_SIGTIMEDWAIT,
            &raw const all as usize,
            0,
            0,
            SET_SIZE,
        )
    };
    u32::try_from(answer).ok()
}

/// Takes one ended child; false when there is none.
pub(crate) fn reap_one() -> bool {
    // SAFETY: neither a status nor the child's use of resources is asked for.
    let answer = unsafe { call(number::WAIT4, ANY_CHILD, 0, WNOHANG, 0) };
    answer > 0
}

pub(crate) fn exit(code: usize) -> ! {
    loop {
        // SAFETY: takes a plain number and does not return.
        unsafe {
            call(number::EXIT_GROUP, code, 0, 0, 0);
        }
    }
}
