//! Zips that are to be taken in.

use std::sync::Arc;

use shared::Error;
use shared::portable::Source;
use shared::store::Body;
use shared::store::testing::MemoryStore;
use shared::testing::keepsake_on;

/// A zip is refused with a sentence or taken in. What was taken in changes nothing the second time, is all there, and lies
/// under the keys of the layout.
pub fn zip(bytes: &[u8]) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    runtime.block_on(async {
        let Some(source) = usable(Source::zip(Body::from(bytes.to_vec())).await) else { return };
        let keepsake = keepsake_on(Arc::new(MemoryStore::new()), shared::Settings::default());
        let Some(planned) = usable(keepsake.imports.plan(&source).await) else { return };
        let Some(first) = usable(keepsake.imports.import(&source).await) else { return };
        let (restored, adopted) = (first.plan.restored.len(), first.plan.adopted.len());
        assert_eq!((planned.restored.len(), planned.adopted.len()), (restored, adopted));
        keepsake.core.catalog.refresh().await.unwrap();
        assert_eq!(keepsake.core.catalog.view().totals().live as usize, restored + adopted);
        let again = keepsake.imports.import(&source).await.unwrap();
        assert!(again.plan.restored.is_empty() && again.plan.adopted.is_empty() && again.safety_backup.is_none());
        // Whatever came in, it can be taken out and is the same in the next store.
        let mut out = Vec::new();
        keepsake.exports.export_zip(shared::portable::What::Now, &mut out).await.unwrap();
        let other = keepsake_on(Arc::new(MemoryStore::new()), shared::Settings::default());
        let source = Source::zip(Body::from(out)).await.unwrap();
        let moved = other.imports.import(&source).await.unwrap();
        assert_eq!(moved.plan.restored.len(), restored + adopted);
    });
}

fn usable<T>(outcome: shared::Result<T>) -> Option<T> {
    match outcome {
        Ok(usable) => Some(usable),
        Err(Error::UnusableArchive(sentence)) if !sentence.is_empty() => None,
        Err(error) => panic!("{error:?}"),
    }
}
