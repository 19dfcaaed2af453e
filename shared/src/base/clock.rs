//! Time and identifiers.
//!
//! Architecture invariant: this is the only module that reads the system clock or generates identifiers. All other code
//! is passed a [`Clock`], so a test sets the time and gets the same identifiers in every run.

use std::fmt;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use uuid::Uuid;

use store::digest::Digest;
use store::sync::{Mutex, lock};

/// A source of the time and of identifiers. Clones share one source; any number of threads may use it.
#[derive(Clone)]
pub struct Clock(Arc<Inner>);

struct Inner {
    source: Source,
    /// The last identifier generated, as a number; zero before the first.
    last_id: Mutex<u128>,
}

enum Source {
    System,
    Manual { now: Mutex<Timestamp>, seed: u64 },
}

/// The random bits of a UUIDv7: all but its 48 bits of milliseconds and its six fixed bits.
const RANDOM_BITS: u32 = 74;
/// The 12 random bits between the version and the variant.
const MIDDLE_MASK: u128 = (1 << 12) - 1;
/// The 62 random bits below the variant.
const LOW_MASK: u128 = (1 << 62) - 1;
/// The maximum distance between two identifiers of one millisecond: 40 bits, so that they cannot be guessed from each
/// other, and billions of them fit into a millisecond.
const STEP_MASK: u128 = (1 << 40) - 1;

impl Clock {
    /// The machine's time, and globally unique identifiers.
    pub fn system() -> Self {
        Self::new(Source::System)
    }

    /// A clock for tests: it stays at `start` until it is advanced, and generates the same identifiers in every run.
    pub fn manual(start: Timestamp) -> Self {
        Self::manual_seeded(start, 0)
    }

    /// Like [`Clock::manual`]; clocks with different seeds generate different identifiers, like two processes.
    pub fn manual_seeded(start: Timestamp, seed: u64) -> Self {
        Self::new(Source::Manual { now: Mutex::new(start), seed })
    }

    fn new(source: Source) -> Self {
        Self(Arc::new(Inner { source, last_id: Mutex::new(0) }))
    }

    /// The time, in whole milliseconds, so that it is unchanged after it was written and read back.
    pub fn now(&self) -> Timestamp {
        let now = match &self.0.source {
            #[expect(clippy::disallowed_methods, reason = "the one place that reads the system clock")]
            Source::System => Timestamp::now(),
            Source::Manual { now, .. } => *lock(now),
        };
        // Rounds towards 1970; fails only for a time that jiff cannot hold, which this one is not.
        Timestamp::from_millisecond(now.as_millisecond()).unwrap_or(now)
    }

    /// A new identifier: a UUIDv7 of the current millisecond. Each is greater than all previous ones of this clock,
    /// also within a millisecond and also after the clock was set back.
    /// `uuid::ContextV7` draws its random bits from the system, so that no test could be repeated.
    pub fn new_id(&self) -> Uuid {
        let millis = u64::try_from(self.now().as_millisecond()).unwrap_or(0);
        let mut last = lock(&self.0.last_id);
        let random = self.random(*last);
        let fresh = pack(u128::from(millis) << RANDOM_BITS | random & ((1 << RANDOM_BITS) - 1));
        // RFC 9562, section 6.2, method 2: if the time is not beyond the last identifier, take a random step.
        *last = if fresh > *last { fresh } else { pack(unpack(*last) + 1 + (random & STEP_MASK)) };
        Uuid::from_u128(*last)
    }

    /// 128 bits: from the system, or from the seed and the identifier before.
    fn random(&self, last: u128) -> u128 {
        match &self.0.source {
            #[expect(clippy::disallowed_methods, reason = "the one place that draws random numbers")]
            // The six fixed bits of version 4 are at the same positions as those of version 7.
            Source::System => unpack(Uuid::new_v4().as_u128()),
            Source::Manual { seed, .. } => {
                let digest = Digest::of(&[&seed.to_be_bytes()[..], &last.to_be_bytes()].concat());
                digest.as_bytes()[..16].iter().fold(0, |number, byte| number << 8 | u128::from(*byte))
            }
        }
    }

    /// A secret that cannot be guessed: 64 hexadecimal digits, from more than 256 random bits. A manual clock generates
    /// the same secrets in every run, and another one after each identifier.
    pub fn new_secret(&self) -> String {
        let seed = match &self.0.source {
            Source::System => 0,
            Source::Manual { .. } => *lock(&self.0.last_id),
        };
        let random = [0, 1, 2].map(|nth| self.random(seed.wrapping_add(nth)).to_be_bytes());
        Digest::of(random.as_flattened()).to_string()
    }

    /// Moves a manual clock, forwards or (as clocks do at times) backwards.
    ///
    /// # Panics
    ///
    /// For the system clock, and if the time would leave jiff's range: both are mistakes in a test.
    pub fn advance(&self, by: SignedDuration) {
        let Source::Manual { now, .. } = &self.0.source else {
            panic!("the system's clock cannot be advanced");
        };
        *lock(now) += by;
    }
}

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0.source {
            Source::System => f.write_str("Clock::system"),
            Source::Manual { now, seed } => write!(f, "Clock::manual({}, seed {seed})", *lock(now)),
        }
    }
}

/// Distributes milliseconds and random bits over a UUID and sets the six fixed bits of version 7.
fn pack(bits: u128) -> u128 {
    let (millis, middle, low) = (bits >> RANDOM_BITS, bits >> 62 & MIDDLE_MASK, bits & LOW_MASK);
    millis << 80 | 0x7 << 76 | middle << 64 | 0b10 << 62 | low
}

/// The milliseconds and random bits of a UUID; of two UUIDv7 the greater has the greater number.
fn unpack(uuid: u128) -> u128 {
    (uuid >> 80) << RANDOM_BITS | (uuid >> 64 & MIDDLE_MASK) << 62 | uuid & LOW_MASK
}

/// RFC 3339 in UTC with exactly three decimals: `2026-11-20T08:00:00.000Z`. Truncates the rest.
pub fn format_millis(time: Timestamp) -> String {
    format!("{time:.3}")
}

/// For `#[serde(with = "crate::base::clock::millis")]`: writes the format of [`format_millis`], reads any RFC 3339.
pub mod millis {
    use std::borrow::Cow;

    use jiff::Timestamp;
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    /// Writes a time.
    pub fn serialize<S: Serializer>(time: &Timestamp, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&super::format_millis(*time))
    }

    /// Reads a time.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Timestamp, D::Error> {
        Cow::<str>::deserialize(deserializer)?.parse().map_err(Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use serde::{Deserialize, Serialize};

    use super::*;

    fn start() -> Timestamp {
        "2026-11-20T08:00:00Z".parse().unwrap()
    }

    /// The millisecond in which a UUIDv7 was generated.
    fn millis_of(id: Uuid) -> i64 {
        (id.as_u128() >> 80) as i64
    }

    #[test]
    fn an_identifier_is_a_uuid_v7_of_the_present_millisecond() {
        let clock = Clock::manual(start());
        clock.advance(SignedDuration::from_millis(1234));
        let id = clock.new_id();
        assert_eq!((id.get_version_num(), id.get_variant()), (7, uuid::Variant::RFC4122));
        assert_eq!(millis_of(id), start().as_millisecond() + 1234);
    }

    #[test]
    fn identifiers_grow_within_a_millisecond_and_when_the_clock_is_set_back() {
        let clock = Clock::manual(start());
        let mut last = clock.new_id();
        for step in [0, 0, 1, 0, -3_600_000, 0, 0, 500, 3_700_000, 0] {
            clock.advance(SignedDuration::from_millis(step));
            for _ in 0..1_000 {
                let next = clock.new_id();
                assert!(next > last && next.get_version_num() == 7 && next.get_variant() == uuid::Variant::RFC4122);
                last = next;
            }
        }
        assert_eq!(millis_of(last), clock.now().as_millisecond(), "they do not run ahead of the clock for good");
    }

    #[test]
    fn a_clock_before_1970_still_gives_identifiers() {
        let clock = Clock::manual(Timestamp::MIN);
        assert!(clock.new_id() < clock.new_id());
    }

    #[test]
    fn threads_of_one_process_never_get_the_same_identifier() {
        let clock = Clock::system();
        let draw = |_| (0..2_000).map(|_| clock.new_id()).collect::<Vec<_>>();
        let ids = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..4).map(|n| scope.spawn(move || draw(n))).collect();
            threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect::<HashSet<_>>()
        });
        assert_eq!(ids.len(), 8_000);
    }

    #[test]
    fn a_manual_clock_repeats_itself_and_another_seed_does_not() {
        let draw = |clock: Clock| [clock.new_id(), clock.new_id(), clock.new_id()];
        assert_eq!(draw(Clock::manual(start())), draw(Clock::manual_seeded(start(), 0)));
        assert_ne!(draw(Clock::manual(start())), draw(Clock::manual_seeded(start(), 1)));
        assert_ne!(draw(Clock::system()), draw(Clock::system()));
    }

    #[test]
    fn clones_share_one_time() {
        let clock = Clock::manual(start());
        clock.clone().advance(SignedDuration::from_secs(5));
        assert_eq!(clock.now(), start() + SignedDuration::from_secs(5));
    }

    #[test]
    fn the_time_survives_being_written_and_read() {
        let clock = Clock::manual("2026-11-20T08:00:00.123456789Z".parse().unwrap());
        for clock in [clock, Clock::system()] {
            let now = clock.now();
            assert_eq!(format_millis(now).parse::<Timestamp>().unwrap(), now);
        }
    }

    #[test]
    fn times_are_written_with_three_decimals_and_read_from_any_rfc_3339() {
        #[derive(Serialize, Deserialize, PartialEq, Debug)]
        struct Times {
            #[serde(with = "millis")]
            at: Timestamp,
        }
        let times = Times { at: start() };
        let written = serde_json::to_string(&times).unwrap();
        assert_eq!(written, r#"{"at":"2026-11-20T08:00:00.000Z"}"#);
        let other = r#"{"at":"2026-11-20t10:00:00.000000+02:00"}"#;
        for json in [written.as_str(), other] {
            assert_eq!(serde_json::from_str::<Times>(json).unwrap(), times);
        }
        assert_eq!(format_millis("2026-11-20T08:00:00.9999Z".parse().unwrap()), "2026-11-20T08:00:00.999Z");
        assert!(serde_json::from_str::<Times>(r#"{"at":"yesterday"}"#).is_err());
    }
}
