//! [`Lists`]: the lists that were rendered last.

use std::sync::Arc;

use bytes::Bytes;
use quick_cache::Weighter;
use quick_cache::sync::Cache;

use super::Problem;
use store::digest::Digest;

/// The most bytes of lists in memory: some ten lists of a thousand images.
const KEPT: u64 = 4 * 1024 * 1024;

/// Lists as JSON, by the digest of all that they depend on. Many clients read the first page of one state.
#[derive(Clone)]
pub struct Lists(Arc<Cache<Digest, Bytes, ByLength>>);

#[derive(Clone)]
struct ByLength;

impl Weighter<Digest, Bytes> for ByLength {
    fn weight(&self, _: &Digest, list: &Bytes) -> u64 {
        list.len() as u64
    }
}

impl Default for Lists {
    fn default() -> Self {
        Self(Arc::new(Cache::with_weighter(16, KEPT, ByLength)))
    }
}

impl Lists {
    /// The list with this digest. It is rendered once for all requests that ask for it at the same time.
    pub async fn get(
        &self,
        digest: &Digest,
        render: impl Future<Output = Result<Vec<u8>, Problem>>,
    ) -> Result<Bytes, Problem> {
        self.0.get_or_insert_async(digest, async { render.await.map(Bytes::from) }).await
    }
}

impl std::fmt::Debug for Lists {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Lists").field("kept", &self.0.len()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn list_is_rendered_once_and_a_failure_is_not_kept() {
        let (lists, state) = (Lists::default(), Digest::of(b"a state"));
        let failed = lists.get(&state, async { Err(Problem::internal("the store does not answer")) }).await;
        assert!(failed.is_err());
        let first = lists.get(&state, async { Ok(b"[1]".to_vec()) });
        let same = lists.get(&state, async { unreachable!("it is there") });
        assert_eq!((first.await.unwrap(), same.await.unwrap()), (Bytes::from("[1]"), Bytes::from("[1]")));
        let other = lists.get(&Digest::of(b"another"), async { Ok(b"[2]".to_vec()) }).await.unwrap();
        assert_eq!(other, "[2]");
    }
}
