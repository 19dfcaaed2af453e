//! The progress bar of a command, on a terminal only.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use shared::progress::Progress;

const TICK: Duration = Duration::from_millis(100);

/// Runs work to its end, and shows its progress on standard error, if that is a terminal.
pub async fn watch<T>(progress: &Progress, work: impl Future<Output = T>) -> T {
    // Draws nothing if standard error is no terminal.
    let bar = ProgressBar::no_length();
    if bar.is_hidden() {
        return work.await;
    }
    let counted = ProgressStyle::with_template("{msg:>22} [{wide_bar}] {pos}/{len} {eta}");
    let uncounted = ProgressStyle::with_template("{msg:>22} {spinner} {human_pos} {elapsed}");
    let (Ok(counted), Ok(uncounted)) = (counted, uncounted) else { return work.await };
    let (mut ticks, mut work) = (tokio::time::interval(TICK), std::pin::pin!(work));
    let done = loop {
        tokio::select! {
            done = &mut work => break done,
            _ = ticks.tick() => {}
        }
        let seen = progress.seen();
        if seen.total > 0 {
            bar.set_style(counted.clone());
            bar.set_length(seen.total);
        } else {
            bar.set_style(uncounted.clone());
        }
        bar.set_message(seen.step);
        bar.set_position(seen.done);
        bar.tick();
    };
    bar.finish_and_clear();
    done
}
