//! Tokens: what is kept of them, who changes them, and how soon a process knows.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::SeqCst;

use futures::FutureExt;
use jiff::SignedDuration;

use super::migrate::{elsewhere, filled};
use super::portable::{entries_of, export};
use super::{World, upload};
use shared::backup::Kind;
use shared::migrate::migrate;
use shared::portable::What;
use shared::restore::Mode;
use shared::store::ErrorKind;
use shared::store::testing::{Fault, FaultStore, Operation};
use shared::tokens::{Scope, TRUSTED};
use shared::{Error, Keepsake};

async fn names(keepsake: &Keepsake) -> Vec<String> {
    keepsake.tokens.list().await.unwrap().into_iter().map(|token| token.name).collect()
}

async fn opens(keepsake: &Keepsake, secret: &str) -> bool {
    keepsake.tokens.find(secret).await.unwrap().is_some()
}

#[tokio::test]
async fn a_token_is_shown_once_and_only_its_digest_is_kept() {
    let world = World::new();
    let keepsake = world.open();
    let (made, secret) = keepsake.tokens.issue(" phone ", Scope::Upload).await.unwrap();
    let digits = secret.strip_prefix("ksk_").unwrap();
    assert!(digits.len() == 64 && digits.bytes().all(|byte| byte.is_ascii_hexdigit()), "{secret}");
    let (_, other) = keepsake.tokens.issue("laptop", Scope::Admin).await.unwrap();
    assert_ne!(secret, other);
    let kept = world.raw().read(&shared::layout::tokens()).await.unwrap().0;
    let kept = String::from_utf8(kept.to_vec()).unwrap();
    assert!(kept.contains("phone") && !kept.contains(digits), "{kept}");
    let found = world.open().tokens.find(&secret).await.unwrap().unwrap();
    assert_eq!((&found, found.name.as_str(), found.scope), (&made, "phone", Scope::Upload));
    for wrong in ["", "ksk_", digits, &secret[..67], &format!("{secret}0"), &secret.to_uppercase()] {
        assert!(!opens(&keepsake, wrong).await, "{wrong}");
    }
}

#[tokio::test]
async fn a_name_is_a_line_that_no_other_token_has() {
    let keepsake = World::new().open();
    keepsake.tokens.issue("phone", Scope::Read).await.unwrap();
    for name in ["phone", "", " ", "two\nlines", &"x".repeat(101)] {
        let refused = keepsake.tokens.issue(name, Scope::Read).await.unwrap_err();
        assert!(matches!(refused, Error::Invalid(_)), "{name}: {refused:?}");
    }
    let (second, _) = keepsake.tokens.issue("phone 2", Scope::Read).await.unwrap();
    assert_eq!(keepsake.tokens.revoke("phone").await.unwrap().name, "phone");
    assert_eq!(keepsake.tokens.revoke(&second.id.to_string()).await.unwrap(), second);
    assert!(matches!(keepsake.tokens.revoke("phone").await.unwrap_err(), Error::NoSuchToken(_)));
    keepsake.tokens.issue("phone", Scope::Read).await.unwrap();
    assert_eq!(names(&keepsake).await, ["phone"]);
}

#[tokio::test]
async fn of_two_changes_at_once_neither_is_lost() {
    for prepared in [false, true] {
        let world = World::new();
        let rival = world.open();
        if prepared {
            rival.tokens.issue("first", Scope::Read).await.unwrap();
        }
        // Just before the one writes what it has made of what it read, the other has done it all.
        let came_between = AtomicBool::new(false);
        let meanwhile = move |operation: &Operation| {
            if operation.name == "put" && !came_between.swap(true, SeqCst) {
                rival.tokens.issue("rival", Scope::Admin).now_or_never().unwrap().unwrap();
            }
            None
        };
        let keepsake = world.open_failing(meanwhile);
        let (_, secret) = keepsake.tokens.issue("mine", Scope::Upload).await.unwrap();
        let expected = [&["first"][..if prepared { 1 } else { 0 }], &["rival", "mine"]].concat();
        assert_eq!(names(&keepsake).await, expected);
        assert!(opens(&world.open(), &secret).await);
    }
}

#[tokio::test]
async fn revoked_token_stops_within_5_s_and_new_token_works_within_1_s() {
    let world = World::new();
    let store = Arc::new(FaultStore::new(Arc::clone(&world.memory) as _));
    let (server, command_line) = (world.open_on(store.clone()), world.open());
    let reads = || store.counts().get("get").copied().unwrap_or_default();
    let (_, secret) = command_line.tokens.issue("phone", Scope::Upload).await.unwrap();
    assert!(opens(&server, &secret).await);
    let before = reads();
    for _ in 0..100 {
        assert!(opens(&server, &secret).await);
        assert!(!opens(&server, &format!("ksk_{}", "0".repeat(64))).await);
        assert!(!opens(&server, "hunter2").await);
    }
    assert_eq!(reads(), before, "neither who is known nor who guesses makes it read");

    let (_, second) = command_line.tokens.issue("laptop", Scope::Upload).await.unwrap();
    world.pass(SignedDuration::from_secs(1));
    assert!(opens(&server, &second).await);
    command_line.tokens.revoke("phone").await.unwrap();
    world.pass(TRUSTED);
    assert!(!opens(&server, &secret).await && opens(&server, &second).await);
    assert_eq!(TRUSTED, SignedDuration::from_secs(5));
    // A clock that was set back does not make what was read younger than it is.
    command_line.tokens.revoke("laptop").await.unwrap();
    world.pass(SignedDuration::from_hours(-1));
    assert!(!opens(&server, &second).await);
}

#[tokio::test]
async fn damaged_tokens_open_nothing_and_are_not_written_over() {
    let world = World::new();
    let keepsake = world.open();
    let (_, secret) = keepsake.tokens.issue("phone", Scope::Admin).await.unwrap();
    let sound = world.raw().read(&shared::layout::tokens()).await.unwrap().0;
    let widened = String::from_utf8(sound.to_vec()).unwrap().replace("\"phone\"", "\"other\"");
    for damaged in [&b""[..], b"{}", &sound[..sound.len() / 2], widened.as_bytes()] {
        world.put("tokens.json", damaged).await;
        assert!(!opens(&world.open(), &secret).await, "{damaged:?}");
        assert!(matches!(keepsake.tokens.list().await, Err(Error::DamagedTokens)));
        assert!(matches!(keepsake.tokens.issue("x", Scope::Admin).await, Err(Error::DamagedTokens)));
        assert!(matches!(keepsake.tokens.revoke("phone").await, Err(Error::DamagedTokens)));
        assert_eq!(world.raw().read(&shared::layout::tokens()).await.unwrap().0, damaged);
    }
    world.remove("tokens.json").await;
    keepsake.tokens.issue("phone", Scope::Read).await.unwrap();
    assert_eq!(names(&keepsake).await, ["phone"]);
}

#[tokio::test]
async fn tokens_that_cannot_be_read_are_an_error_and_no_refusal() {
    let world = World::new();
    let (_, secret) = world.open().tokens.issue("phone", Scope::Admin).await.unwrap();
    let away = world.open_failing(|_| Some(Fault::Before(ErrorKind::Unavailable)));
    assert_eq!(away.tokens.find(&secret).await.unwrap_err().store_kind(), Some(ErrorKind::Unavailable));
    assert_eq!(away.tokens.find("hunter2").await.unwrap(), None, "which is no token of a store");
}

#[tokio::test]
async fn a_known_token_works_on_while_the_store_does_not_answer() {
    let world = World::new();
    let (_, secret) = world.open().tokens.issue("phone", Scope::Admin).await.unwrap();
    let unknown = format!("ksk_{}", "0".repeat(64));
    let away = Arc::new(AtomicBool::new(false));
    let switch = Arc::clone(&away);
    let server = world.open_failing(move |_| switch.load(SeqCst).then_some(Fault::Before(ErrorKind::Unavailable)));
    assert!(opens(&server, &secret).await);
    away.store(true, SeqCst);
    for _ in 0..3 {
        world.pass(TRUSTED);
        assert!(opens(&server, &secret).await);
        let error = server.tokens.find(&unknown).await.unwrap_err();
        assert_eq!(error.store_kind(), Some(ErrorKind::Unavailable), "it may have been made meanwhile");
    }
    // Not without end: it may have been revoked.
    world.pass(SignedDuration::from_mins(15));
    assert_eq!(server.tokens.find(&secret).await.unwrap_err().store_kind(), Some(ErrorKind::Unavailable));
    // What was read is kept, so that the first answer of the store is enough.
    away.store(false, SeqCst);
    assert!(opens(&server, &secret).await && !opens(&server, &unknown).await);
    world.open().tokens.revoke("phone").await.unwrap();
    world.pass(TRUSTED);
    assert!(!opens(&server, &secret).await);
}

#[tokio::test]
async fn a_known_token_does_not_wait_for_a_read_of_the_store() {
    let world = World::new();
    let (_, secret) = world.open().tokens.issue("phone", Scope::Admin).await.unwrap();
    let unknown = format!("ksk_{}", "0".repeat(64));
    let hangs = Arc::new(AtomicBool::new(false));
    let gate = Arc::clone(&hangs);
    let store = FaultStore::with_gate(Arc::clone(&world.memory) as _, |_| None, move || !gate.load(SeqCst));
    let server = world.open_on(Arc::new(store));
    assert!(opens(&server, &secret).await);
    world.pass(SignedDuration::from_secs(2));
    hangs.store(true, SeqCst);
    let mut reading = std::pin::pin!(server.tokens.find(&unknown));
    assert!(futures::poll!(&mut reading).is_pending());
    let known = server.tokens.find(&secret).now_or_never().expect("it waits for nothing");
    assert!(known.unwrap().is_some());
    hangs.store(false, SeqCst);
    assert!(reading.await.unwrap().is_none());
}

#[tokio::test]
async fn backups_restores_exports_prunes_and_recoveries_leave_tokens_alone() {
    let world = World::new();
    let keepsake = world.open();
    keepsake.recovery.recover().await.unwrap();
    upload(&keepsake, 1).await.unwrap();
    keepsake.tokens.issue("phone", Scope::Admin).await.unwrap();
    let backup = keepsake.backups.create(Kind::Manual).await.unwrap().name;
    let exported = entries_of(&export(&keepsake, What::Now).await.unwrap().1);
    assert!(exported.keys().all(|path| !path.contains("tokens")), "{:?}", exported.keys());
    keepsake.tokens.revoke("phone").await.unwrap();
    keepsake.tokens.issue("laptop", Scope::Read).await.unwrap();
    keepsake.restores.restore(backup, Mode::Exact).await.unwrap();
    world.pass(SignedDuration::from_hours(50));
    world.open().recovery.recover().await.unwrap();
    keepsake.pruner.prune(false).await.unwrap();
    assert_eq!(names(&keepsake).await, ["laptop"], "what was revoked does not come back");
    assert_eq!(world.keys("backups/").await.iter().filter(|key| key.contains("token")).count(), 0);
}

#[tokio::test]
async fn a_migration_carries_tokens_and_what_became_of_them() {
    let (from, to) = (World::new(), elsewhere());
    filled(&from).await;
    let (_, secret) = from.open().tokens.issue("phone", Scope::Upload).await.unwrap();
    migrate(&from.open().core, &to.open().core).await.unwrap();
    assert!(opens(&to.open(), &secret).await);
    from.open().tokens.revoke("phone").await.unwrap();
    migrate(&from.open().core, &to.open().core).await.unwrap();
    assert!(!opens(&to.open(), &secret).await);
    // Damaged ones are not carried on, and take nothing away.
    to.open().tokens.issue("there", Scope::Read).await.unwrap();
    from.put("tokens.json", b"{}").await;
    migrate(&from.open().core, &to.open().core).await.unwrap();
    assert_eq!(names(&to.open()).await, ["there"]);
}
