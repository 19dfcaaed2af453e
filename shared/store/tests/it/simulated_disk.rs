//! The simulated disk against the real one: the same calls give the same results, and after a crash what was synced is
//! there and nothing else is certain.
use std::collections::BTreeSet;
use std::sync::Arc;

use proptest::prelude::*;
use rustix::fs::FileType;
use rustix::io::Errno;
use store::fs::{FileSystem, Handle, Open, RealFolder, Stat};
use store::testing::fs::{CallFault, FaultyFileSystem, SimulatedDisk};

/// One call, on one of the handles that are open.
#[derive(Debug, Clone)]
enum Call {
    Open(usize, &'static str, Open),
    Close(usize),
    MakeFolder(usize, &'static str),
    StatAt(usize, &'static str),
    Rename(usize, &'static str, &'static str),
    RenameNew(usize, &'static str, &'static str),
    Link(usize, &'static str, &'static str),
    Unlink(usize, &'static str),
    RemoveFolder(usize, &'static str),
    Entries(usize),
    Stat(usize),
    SetTimes(usize, i32, i32),
    Sync(usize),
    Lock(usize),
    Write(usize, u8, usize),
    Read(usize, u64, usize),
}

/// What a call gave, as far as two file systems can agree on it.
#[derive(Debug, PartialEq)]
enum Given {
    Nothing,
    Stat(FileType, Option<(u64, u64)>),
    Times(i128, i128),
    Names(BTreeSet<(String, bool)>),
    Length(usize),
    Bytes(Vec<u8>),
}

const LONGEST: &str = match std::str::from_utf8(&[b'n'; 255]) {
    Ok(name) => name,
    Err(_) => unreachable!(),
};
const TOO_LONG: &str = match std::str::from_utf8(&[b'n'; 256]) {
    Ok(name) => name,
    Err(_) => unreachable!(),
};

fn call() -> impl Strategy<Value = Call> {
    let name = || {
        prop_oneof![
            8 => Just("a"),
            8 => Just("b"),
            8 => Just("c"),
            1 => Just(LONGEST),
            1 => Just(TOO_LONG),
        ]
    };
    let how = prop_oneof![Just(Open::Folder), Just(Open::Read), Just(Open::New), Just(Open::Lock)];
    // The root more often than another, since most of what is closed soon is of no more interest.
    let on = || prop_oneof![1 => Just(0_usize), 1 => 0..8_usize];
    prop_oneof![
        6 => (on(), name(), how).prop_map(|(on, name, how)| Call::Open(on, name, how)),
        2 => (1..8_usize).prop_map(Call::Close),
        3 => (on(), name()).prop_map(|(on, name)| Call::MakeFolder(on, name)),
        2 => (on(), name()).prop_map(|(on, name)| Call::StatAt(on, name)),
        4 => (on(), name(), name()).prop_map(|(on, from, to)| Call::Rename(on, from, to)),
        2 => (on(), name(), name()).prop_map(|(on, from, to)| Call::RenameNew(on, from, to)),
        2 => (on(), name(), name()).prop_map(|(on, from, to)| Call::Link(on, from, to)),
        2 => (on(), name()).prop_map(|(on, name)| Call::Unlink(on, name)),
        2 => (on(), name()).prop_map(|(on, name)| Call::RemoveFolder(on, name)),
        2 => on().prop_map(Call::Entries),
        2 => (0..8_usize).prop_map(Call::Stat),
        1 => (0..8_usize, any::<i32>(), any::<i32>()).prop_map(|(on, accessed, modified)| Call::SetTimes(on, accessed, modified)),
        1 => (0..8_usize).prop_map(Call::Sync),
        1 => (0..8_usize).prop_map(Call::Lock),
        3 => (0..8_usize, any::<u8>(), 0..20_usize).prop_map(|(on, byte, count)| Call::Write(on, byte, count)),
        2 => (0..8_usize, 0..30_u64, 0..20_usize).prop_map(|(on, offset, count)| Call::Read(on, offset, count)),
    ]
}

fn described(stat: Stat) -> Given {
    // What length and how many links a folder has is a file system's own affair.
    Given::Stat(stat.kind, (stat.kind == FileType::RegularFile).then_some((stat.size, stat.links)))
}

fn make(open: &mut Vec<Box<dyn Handle>>, call: &Call) -> Result<Given, Errno> {
    let count = open.len();
    let at = |on: &usize| &*open[on % count];
    match call {
        Call::Open(on, name, how) => {
            let handle = at(on).open_at(name, *how)?;
            open.push(handle);
            return Ok(Given::Nothing);
        }
        Call::Close(on) => {
            if on % count > 0 {
                open.remove(on % count);
            }
            return Ok(Given::Nothing);
        }
        Call::MakeFolder(on, name) => at(on).make_folder_at(name)?,
        Call::Rename(on, from, to) => at(on).rename_at(from, to)?,
        Call::RenameNew(on, from, to) => at(on).rename_new_at(from, to)?,
        Call::Link(on, from, to) => at(on).link_at(from, to)?,
        Call::Unlink(on, name) => at(on).unlink_at(name)?,
        Call::RemoveFolder(on, name) => at(on).remove_folder_at(name)?,
        Call::Sync(on) => at(on).sync()?,
        // Locks that many may hold: nobody ever waits for one.
        Call::Lock(on) => at(on).lock(true)?,
        Call::StatAt(on, name) => return Ok(described(at(on).stat_at(name)?)),
        Call::Stat(on) => return Ok(described(at(on).stat()?)),
        Call::Entries(on) => {
            let names = at(on).entries()?.map(|entry| {
                let (name, kind) = entry?;
                Ok((name.into_string().unwrap(), kind == FileType::Directory))
            });
            return Ok(Given::Names(names.collect::<Result<_, Errno>>()?));
        }
        Call::SetTimes(on, accessed, modified) => {
            let ns = |time: &i32| i128::from(*time) * 1_000_000_007;
            at(on).set_times(ns(accessed), ns(modified))?;
            let stat = at(on).stat()?;
            return Ok(Given::Times(stat.accessed_ns, stat.modified_ns));
        }
        Call::Write(on, byte, count) => return Ok(Given::Length(at(on).write(&vec![*byte; *count])?)),
        Call::Read(on, offset, count) => {
            let mut buffer = vec![0; *count];
            let read = at(on).read_at(&mut buffer, *offset)?;
            return Ok(Given::Bytes(buffer[..read].to_vec()));
        }
    }
    Ok(Given::Nothing)
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_simulated_disk_answers_every_call_as_the_real_one_does(calls in prop::collection::vec(call(), 1..120)) {
        let folder = tempfile::tempdir().unwrap();
        let (real, simulated) = (RealFolder::new(folder.path()), SimulatedDisk::new());
        let (mut real, mut simulated) = (vec![real.root().unwrap()], vec![simulated.root().unwrap()]);
        for (n, call) in calls.iter().enumerate() {
            prop_assert_eq!(make(&mut real, call), make(&mut simulated, call), "call {} of {:?}", n, calls);
        }
    }
}

/// What each crash can leave: every file with its bytes, every folder with a slash.
fn outcomes(disk: &SimulatedDisk) -> BTreeSet<Vec<String>> {
    let text = |(path, bytes): (String, Option<Arc<Vec<u8>>>)| match bytes {
        Some(bytes) => format!("{path}={}", String::from_utf8_lossy(&bytes).replace('\0', "0")),
        None => format!("{path}/"),
    };
    let after = |disk: SimulatedDisk| disk.moment().tree().into_iter().map(text).collect();
    disk.moment().crashes().into_iter().map(after).collect()
}

fn set(outcomes: &[&[&str]]) -> BTreeSet<Vec<String>> {
    outcomes.iter().map(|names| names.iter().map(|name| (*name).to_owned()).collect()).collect()
}

fn write(folder: &dyn Handle, name: &str, bytes: &[u8]) -> Box<dyn Handle> {
    let file = folder.open_at(name, Open::New).unwrap();
    assert_eq!(file.write(bytes), Ok(bytes.len()));
    file
}

#[test]
fn unsynced_file_may_have_any_content_and_no_name() {
    let disk = SimulatedDisk::new();
    let root = disk.root().unwrap();
    let file = write(&*root, "x", b"word");
    assert_eq!(outcomes(&disk), set(&[&[], &["x="], &["x=wo"], &["x=word"], &["x=0000"]]));
    root.sync().unwrap();
    assert_eq!(
        outcomes(&disk),
        set(&[&["x="], &["x=wo"], &["x=word"], &["x=0000"]]),
        "a folder keeps names, not bytes"
    );
    file.sync().unwrap();
    assert_eq!(outcomes(&disk), set(&[&["x=word"]]));
}

#[test]
fn a_file_that_was_synced_has_its_bytes_but_no_name_for_certain() {
    let disk = SimulatedDisk::new();
    let root = disk.root().unwrap();
    write(&*root, "x", b"word").sync().unwrap();
    assert_eq!(outcomes(&disk), set(&[&[], &["x=word"]]));
}

#[test]
fn each_name_change_may_be_lost_alone_and_renames_are_atomic() {
    let disk = SimulatedDisk::new();
    let root = disk.root().unwrap();
    write(&*root, "old", b"1").sync().unwrap();
    write(&*root, "to", b"2").sync().unwrap();
    root.sync().unwrap();
    root.rename_at("old", "to").unwrap();
    assert_eq!(outcomes(&disk), set(&[&["old=1", "to=2"], &["to=1"]]));
    write(&*root, "new", b"3").sync().unwrap();
    root.unlink_at("to").unwrap();
    assert_eq!(
        outcomes(&disk),
        set(&[
            &["old=1", "to=2"],
            &["to=1"],
            &["new=3", "old=1", "to=2"],
            &["new=3", "to=1"],
            &["old=1"],
            &[],
            &["new=3", "old=1"],
            &["new=3"],
        ])
    );
    root.sync().unwrap();
    assert_eq!(outcomes(&disk), set(&[&["new=3"]]));
}

#[test]
fn synced_folder_is_lost_if_its_name_was_not_synced() {
    let disk = SimulatedDisk::new();
    let root = disk.root().unwrap();
    root.make_folder_at("f").unwrap();
    let folder = root.open_at("f", Open::Folder).unwrap();
    write(&*folder, "x", b"1").sync().unwrap();
    folder.sync().unwrap();
    assert_eq!(outcomes(&disk), set(&[&[], &["f/", "f/x=1"]]));
    root.sync().unwrap();
    assert_eq!(outcomes(&disk), set(&[&["f/", "f/x=1"]]));
}

#[test]
fn what_is_open_outlives_its_name_and_nothing_stays_open_or_taken() {
    let disk = SimulatedDisk::new();
    disk.set_capacity(10);
    let root = disk.root().unwrap();
    let file = root.open_at("x", Open::New).unwrap();
    assert_eq!((file.write(b"1234567"), file.write(b"8901"), file.write(b"2")), (Ok(7), Ok(3), Err(Errno::NOSPC)));
    let reader = root.open_at("x", Open::Read).unwrap();
    root.unlink_at("x").unwrap();
    assert_eq!(root.space().unwrap().free_bytes, 0);
    let mut buffer = [0; 20];
    assert_eq!((reader.read_at(&mut buffer, 0), &buffer[..10]), (Ok(10), &b"1234567890"[..]));
    let inode = reader.stat().unwrap().inode;
    drop((file, reader));
    assert_eq!((root.space().unwrap().free_bytes, disk.open_handles()), (10, 1));
    assert_eq!(write(&*root, "y", b"1").stat().unwrap().inode, inode, "a number comes again at once");
}

#[test]
fn a_disk_out_of_inodes_makes_no_file_until_one_is_gone() {
    let disk = SimulatedDisk::new();
    disk.set_file_capacity(3);
    let root = disk.root().unwrap();
    root.make_folder_at("f").unwrap();
    let file = write(&*root, "x", b"1");
    assert_eq!(root.space().unwrap().files.unwrap().free, 0);
    assert_eq!(root.open_at("y", Open::New).err(), Some(Errno::NOSPC));
    assert_eq!(root.open_at("y", Open::Lock).err(), Some(Errno::NOSPC));
    assert_eq!(root.make_folder_at("y"), Err(Errno::NOSPC));
    root.link_at("x", "second name").unwrap();
    root.rename_at("x", "y").unwrap();
    root.unlink_at("second name").unwrap();
    root.unlink_at("y").unwrap();
    assert_eq!(root.space().unwrap().files.unwrap().free, 0, "it is still open");
    drop(file);
    assert_eq!(root.space().unwrap().files.unwrap().free, 1);
    write(&*root, "y", b"1");
}

#[test]
#[should_panic(expected = "a lock is held that nobody here can give up")]
fn a_lock_that_nobody_could_give_up_is_not_waited_for() {
    let root = SimulatedDisk::new().root().unwrap();
    let (first, second) = (root.open_at("x", Open::Lock).unwrap(), root.open_at("x", Open::Lock).unwrap());
    first.lock(false).unwrap();
    let _ = second.lock(true);
}

#[test]
fn a_call_that_is_to_fail_fails_before_anything_has_happened() {
    let disk = SimulatedDisk::new();
    let plan = |call: &store::testing::fs::Call| match (call.name, call.on.as_str()) {
        ("make_folder_at", "f") => Some(CallFault::Fails(Errno::NOSPC)),
        ("write", "x") => Some(CallFault::Short(2)),
        ("sync", "/") => Some(CallFault::Fails(Errno::IO)),
        _ => None,
    };
    let faulty = FaultyFileSystem::with_plan(Arc::new(disk.clone()), plan);
    let root = faulty.root().unwrap();
    assert_eq!(root.make_folder_at("f"), Err(Errno::NOSPC));
    let file = root.open_at("x", Open::New).unwrap();
    assert_eq!(file.write(b"word"), Ok(2));
    assert_eq!((file.sync(), root.sync()), (Ok(()), Err(Errno::IO)));
    assert_eq!(outcomes(&disk), set(&[&[], &["x=wo"]]));
    assert_eq!(faulty.calls(), 6);
}
