//! The durable limit of a disk: how often a second two copies of an image can be stored, by a program that does nothing
//! else.

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Condvar, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use crate::Result;

/// How an image gets durable.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// Each copy by an fsync of its file, and after the rename one of its folder.
    FileByFile,
    /// The copies of all writers that wait, by one syncfs.
    Batch,
}

/// Stores copies in two folders below `folder`, by so many threads for so long; returns the number of images, with both
/// copies durable.
#[expect(clippy::disallowed_methods, reason = "measures time")]
pub fn run(folder: &Path, image: &[u8], durability: Durability, threads: usize, time: Duration) -> Result<u64> {
    let folders = ["primary", "archive"].map(|name| folder.join(name));
    for folder in &folders {
        fs::create_dir_all(folder)?;
    }
    let folders = [(&folders[0], File::open(&folders[0])?), (&folders[1], File::open(&folders[1])?)];
    let (end, number, batch) = (Instant::now() + time, AtomicU64::new(0), Batch::default());
    let store = || -> Result<u64> {
        let mut stored = 0;
        while Instant::now() < end {
            let name = number.fetch_add(1, Ordering::Relaxed).to_string();
            for (path, folder) in &folders {
                let temporary = path.join(format!(".tmp-{name}"));
                let mut file = File::create_new(&temporary)?;
                file.write_all(image)?;
                if durability == Durability::FileByFile {
                    file.sync_all()?;
                }
                fs::rename(temporary, path.join(&name))?;
                if durability == Durability::FileByFile {
                    folder.sync_all()?;
                }
            }
            if durability == Durability::Batch {
                batch.sync(&folders[0].1)?;
            }
            stored += 1;
        }
        Ok(stored)
    };
    thread::scope(|scope| {
        let running: Vec<_> = (0..threads).map(|_| scope.spawn(store)).collect();
        running.into_iter().map(|thread| thread.join().map_err(|_| "a writer panicked")?).sum()
    })
}

/// Syncs of a file system that its writers share.
#[derive(Default)]
struct Batch {
    state: Mutex<State>,
    ended: Condvar,
}

#[derive(Default)]
struct State {
    /// Syncs are numbered from 1: the last one that began and that ended.
    begun: u64,
    ended: u64,
}

impl Batch {
    /// Returns once a sync that began after the call has ended.
    fn sync(&self, file: &File) -> Result<()> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let needed = state.begun + 1;
        loop {
            if state.ended >= needed {
                return Ok(());
            }
            if state.begun > state.ended {
                state = self.ended.wait(state).unwrap_or_else(PoisonError::into_inner);
                continue;
            }
            state.begun += 1;
            drop(state);
            // A failure ends the benchmark; those who wait for this sync are no concern then.
            let done = rustix::fs::syncfs(file);
            state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
            state.ended = state.begun;
            self.ended.notify_all();
            done?;
        }
    }
}
