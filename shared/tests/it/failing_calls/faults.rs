//! The ways to fail, as data.

use rustix::io::Errno;

use super::test_store::{Fault, How};
use shared::store::ErrorKind;
use shared::store::testing::fs::{Call, CallFault};
use shared::store::testing::{Fault as StoreFault, Operation};

const EIO: CallFault = CallFault::Fails(Errno::IO);

const UNAVAILABLE: &[&str] = &["store-unavailable", "outcome-unknown"];
/// A sector that cannot be read is rot.
const UNREADABLE: &[&str] =
    &["store-unavailable", "outcome-unknown", "store-corrupt", "image-data-lost", "damaged-backup"];
/// A change of names that was made but not synced may stand, whatever the reason.
const FULL: &[&str] = &["insufficient-storage", "store-unavailable", "outcome-unknown"];
const READ_ONLY: &[&str] = &["read-only", "outcome-unknown"];
const REFUSED: &[&str] = &["store-refused", "outcome-unknown"];
const CORRUPT: &[&str] = &["store-corrupt", "image-data-lost", "damaged-backup"];

const fn disk(
    name: &'static str,
    relevant: fn(&Call) -> bool,
    fault: CallFault,
    problems: &'static [&'static str],
) -> Fault {
    Fault { name, how: How::Disk(relevant, fault), problems }
}

const fn store(
    name: &'static str,
    relevant: fn(&Operation) -> bool,
    fault: StoreFault,
    problems: &'static [&'static str],
) -> Fault {
    Fault { name, how: How::Store(relevant, fault), problems }
}

fn makes_a_file(call: &Call) -> bool {
    call.name == "open_at" && call.on.starts_with(".tmp-")
}

fn changes_names(call: &Call) -> bool {
    ["make_folder_at", "rename_at", "rename_new_at", "link_at"].contains(&call.name)
}

fn needs_room(call: &Call) -> bool {
    makes_a_file(call) || changes_names(call) || ["write", "sync"].contains(&call.name)
}

fn writes(call: &Call) -> bool {
    makes_a_file(call)
        || changes_names(call)
        || ["write", "unlink_at", "remove_folder_at", "set_times"].contains(&call.name)
}

fn syncs_a_file(call: &Call) -> bool {
    call.name == "sync" && call.on.starts_with(".tmp-")
}

fn opens(call: &Call) -> bool {
    ["root", "open_at"].contains(&call.name)
}

fn may_be_interrupted(call: &Call) -> bool {
    ["lock", "read_at", "write"].contains(&call.name)
}

/// Faults of the file system that an operation may fail of, once and for ever.
pub(crate) const DISK: &[Fault] = &[
    disk("EIO", |_| true, EIO, UNREADABLE),
    disk("ENOSPC", needs_room, CallFault::Fails(Errno::NOSPC), FULL),
    disk("EROFS", writes, CallFault::Fails(Errno::ROFS), READ_ONLY),
    disk("EMFILE", opens, CallFault::Fails(Errno::MFILE), UNAVAILABLE),
    disk("a file's sync that loses", syncs_a_file, CallFault::LosesSync, UNAVAILABLE),
    disk("a folder's sync", |call| call.name == "sync" && !syncs_a_file(call), EIO, UNAVAILABLE),
];

/// Faults of the file system that nobody may notice.
pub(crate) const HARMLESS: &[Fault] = &[
    disk("EINTR", may_be_interrupted, CallFault::Fails(Errno::INTR), &[]),
    disk("a short write", |call| call.name == "write", CallFault::Short(7), &[]),
];

fn any(_: &Operation) -> bool {
    true
}

fn puts(operation: &Operation) -> bool {
    operation.name == "put"
}

fn changes(operation: &Operation) -> bool {
    ["put", "delete"].contains(&operation.name)
}

fn gets(operation: &Operation) -> bool {
    operation.name == "get"
}

/// Faults of a store, once and for ever.
pub(crate) const STORE: &[Fault] = &[
    store("unavailable", any, StoreFault::Before(ErrorKind::Unavailable), UNAVAILABLE),
    store("a lost reply", changes, StoreFault::After(ErrorKind::Unavailable), UNAVAILABLE),
    store("full", puts, StoreFault::Before(ErrorKind::Full), &["insufficient-storage"]),
    store("read-only", changes, StoreFault::Before(ErrorKind::ReadOnly), READ_ONLY),
    store("refused", any, StoreFault::Before(ErrorKind::Refused), REFUSED),
    store("corrupt", gets, StoreFault::Before(ErrorKind::Corrupt), CORRUPT),
    store("truncated", gets, StoreFault::Truncate(20), UNAVAILABLE),
];
