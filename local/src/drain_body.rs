//! [`DrainBody`]: reads and discards for a while what a rejected client still sends.
//!
//! Closing a connection while bytes are still arriving resets it. Many clients, browsers among them, then never read
//! the answer: they report that the server is unreachable, when the actual error was a full disk.

use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::body::{Body, Bytes, Frame, Incoming, SizeHint};
use tokio::sync::watch;
use tokio::time::timeout;

/// The most bytes to drain: more than the gallery sends without checking first.
const MOST: usize = 16 << 20;
const WHOLE: Duration = Duration::from_secs(20);
/// Draining ends if nothing arrives for this long.
pub const SILENCE: Duration = Duration::from_secs(5);

/// A request's body. When it is dropped before its end, the rest is drained until it ends, the client falls silent, a
/// limit is reached or the server stops.
#[derive(Debug)]
pub struct DrainBody {
    body: Option<Incoming>,
    stopped: watch::Receiver<bool>,
}

impl DrainBody {
    pub fn new(body: Incoming, stopped: watch::Receiver<bool>) -> Self {
        Self { body: Some(body), stopped }
    }

    /// The body without draining: its client waits for a `100 Continue`, and must not get one in vain.
    pub fn undrained(body: Incoming) -> Self {
        Self { body: Some(body), stopped: watch::channel(true).1 }
    }
}

impl Body for DrainBody {
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

impl Drop for DrainBody {
    fn drop(&mut self) {
        let unread = self.body.take().filter(|body| !body.is_end_stream());
        let Some(body) = unread.filter(|_| !*self.stopped.borrow()) else { return };
        let mut stopped = self.stopped.clone();
        tokio::spawn(async move {
            tokio::select! {
                _ = timeout(WHOLE, drain(body)) => {}
                Ok(_) = stopped.wait_for(|stopped| *stopped) => {}
            }
        });
    }
}

async fn drain(mut body: Incoming) {
    let mut read = 0;
    while read < MOST {
        let next = poll_fn(|context| Pin::new(&mut body).poll_frame(context));
        let Ok(Some(Ok(frame))) = timeout(SILENCE, next).await else { return };
        read += frame.data_ref().map_or(0, Bytes::len);
    }
}
