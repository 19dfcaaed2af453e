//! Freed pictures go back to the system.
//!
//! glibc keeps freed blocks of up to 32 MiB in an arena for each thread that had one, and so a server that has made forms of
//! photographs on many threads grew until a small cgroup was full. It reads the setting against that from the environment, when a
//! process starts, and nowhere else without `unsafe`. So the server starts itself once more with it.

/// Starts this program again, as the same process, unless it has the setting. Where that fails it goes on and needs more memory.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
#[expect(clippy::disallowed_methods, reason = "a setting of the allocator, which is none of Keepsake's")]
pub fn return_freed_memory() {
    use std::os::unix::process::CommandExt;

    const THRESHOLD: &str = "MALLOC_MMAP_THRESHOLD_";
    /// glibc removes its own variables where a program has capabilities of its own; this one stays, so that it ends here.
    const TRIED: &str = "KEEPSAKE_ALLOCATOR_TRIED";
    if [THRESHOLD, TRIED].iter().any(|name| std::env::var_os(name).is_some()) {
        return;
    }
    let Ok(program) = std::env::current_exe() else { return };
    let mut arguments = std::env::args_os();
    let mut again = std::process::Command::new(program);
    if let Some(name) = arguments.next() {
        again.arg0(name);
    }
    // Returns only where it fails.
    let _ = again.args(arguments).env(THRESHOLD, "1048576").env(TRIED, "1").exec();
}

/// Other allocators give back what is freed.
#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
pub fn return_freed_memory() {}
