//! A disk that takes no writes: reading goes on, changing is refused, and all is well when it takes them again.

use super::bases::{Base, ContextOnPanic};
use super::operations::{Effect, OPERATIONS, On};
use super::test_store::TestStore;
use super::{Expected, answered, check_recovery, on_disk, run, try_again};

#[test]
fn read_only_disk_is_readable_and_refuses_changes() {
    let bases = [On::Intact, On::Damaged, On::Deferred].map(|on| Base::new(on_disk(), on));
    let (mut read, mut refused) = (0, 0);
    for operation in OPERATIONS {
        let base = bases.iter().find(|base| base.on == operation.on).unwrap();
        let _context = ContextOnPanic(format!("{:?} {}", base.on, operation.name));
        let expected = Expected::new(base, operation);
        let (store, clock) = (base.store.copy(), base.clock());
        let TestStore::Disk(disk) = &store else { panic!("it lies on a disk") };
        let keepsake = store.open(&clock, &base.settings, None).unwrap();
        let before = store.versions();
        disk.set_read_only(true);
        let outcome = run((operation.run)(&keepsake, &base.known));
        assert!(!run(keepsake.health.report()).writable);
        assert_eq!(base.seen(&keepsake), expected.before);
        assert_eq!(store.versions(), before);
        disk.set_read_only(false);
        match outcome {
            Ok(()) => {
                assert!(matches!(operation.effect, Effect::Reads | Effect::Keeps), "done without a write");
                read += u32::from(operation.effect == Effect::Reads);
            }
            Err(error) => {
                assert_ne!(operation.effect, Effect::Reads);
                assert_eq!(answered(error), (503, "read-only".to_owned()));
                refused += 1;
                try_again(base, operation, &keepsake, &clock, false, "read-only");
                assert_eq!(base.seen(&keepsake), expected.after);
            }
        }
        check_recovery(base, &store, &keepsake, false);
    }
    assert!(read >= 12 && refused >= 18, "{read} operations read and {refused} were refused");
}
