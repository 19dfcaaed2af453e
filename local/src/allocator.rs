//! Returns the memory of freed images to the system.
//!
//! glibc keeps freed blocks of up to 32 MiB in an arena for each thread that had one. So a server that has made
//! thumbnails of photographs on many threads grew until a small cgroup was full. Without `unsafe`, glibc's setting
//! against this can only be passed in the environment at process start. So the server restarts itself once with it.

/// Restarts this program, as the same process, unless it has the setting. If that fails, it continues and needs more
/// memory.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
#[expect(clippy::disallowed_methods, reason = "a setting of the allocator, which is none of Keepsake's")]
pub fn return_freed_memory() {
    use std::os::unix::process::CommandExt;

    const THRESHOLD: &str = "MALLOC_MMAP_THRESHOLD_";
    /// glibc removes its own variables if a program has capabilities of its own; this one stays, and prevents another
    /// restart.
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
    // Returns only if it fails.
    let _ = again.args(arguments).env(THRESHOLD, "1048576").env(TRIED, "1").exec();
}

/// Other allocators return freed memory.
#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
pub fn return_freed_memory() {}
