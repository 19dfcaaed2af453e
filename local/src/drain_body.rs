//! [`Lingering`]: what a client sends on after it was refused is read and forgotten for a while.
//!
//! Who closes a connection on which bytes are still arriving resets it, and many clients, browsers among them, then never
//! look at the answer: they say that the server cannot be reached, where it said that the disk is full.

use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::body::{Body, Bytes, Frame, Incoming, SizeHint};
use tokio::sync::watch;
use tokio::time::timeout;

/// How much of it is read on, in bytes: more than the gallery sends without having asked before.
const MOST: usize = 16 << 20;
/// How long it is read on at most.
const WHOLE: Duration = Duration::from_secs(20);
/// Something of it must arrive this often.
pub const SILENCE: Duration = Duration::from_secs(5);

/// A request's body. What nobody has read of it when it is dropped is read on until it ends, its client falls silent, it is
/// enough or the server stops.
#[derive(Debug)]
pub struct Lingering {
    body: Option<Incoming>,
    stopped: watch::Receiver<bool>,
}

impl Lingering {
    /// Lingers over `body` unless `stopped`.
    pub fn new(body: Incoming, stopped: watch::Receiver<bool>) -> Self {
        Self { body: Some(body), stopped }
    }

    /// Only the body: its client waits to be asked for it, and is not to be asked in vain.
    pub fn without(body: Incoming) -> Self {
        Self { body: Some(body), stopped: watch::channel(true).1 }
    }
}

impl Body for Lingering {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<hyper::Result<Frame<Bytes>>>> {
        let this = self.get_mut();
        let Some(body) = &mut this.body else { return Poll::Ready(None) };
        let frame = Pin::new(body).poll_frame(context);
        if matches!(frame, Poll::Ready(None | Some(Err(_)))) {
            this.body = None;
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.body.as_ref().map_or(SizeHint::with_exact(0), Body::size_hint)
    }
}

impl Drop for Lingering {
    fn drop(&mut self) {
        let unread = self.body.take().filter(|body| !body.is_end_stream());
        let Some(body) = unread.filter(|_| !*self.stopped.borrow()) else { return };
        let mut stopped = self.stopped.clone();
        tokio::spawn(async move {
            tokio::select! {
                _ = timeout(WHOLE, forget(body)) => {}
                Ok(_) = stopped.wait_for(|stopped| *stopped) => {}
            }
        });
    }
}

async fn forget(mut body: Incoming) {
    let mut read = 0;
    while read < MOST {
        let next = poll_fn(|context| Pin::new(&mut body).poll_frame(context));
        let Ok(Some(Ok(frame))) = timeout(SILENCE, next).await else { return };
        read += frame.data_ref().map_or(0, Bytes::len);
    }
}
