//! Schedules: what happens in which order, as data, so that a failure repeats exactly and shrinks.

use shared::store::ErrorKind;

/// Numbers from a seed: the same at every run, on every machine (SplitMix64).
#[derive(Debug)]
pub(crate) struct Rng(u64);

impl Rng {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `n`.
    pub(crate) fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len() as u64) as usize]
    }

    /// One of the choices, each as often as its weight says.
    fn weighted<T: Copy>(&mut self, choices: &[(u64, T)]) -> T {
        let mut at = self.below(choices.iter().map(|(weight, _)| weight).sum());
        for (weight, choice) in choices {
            if at < *weight {
                return *choice;
            }
            at -= weight;
        }
        choices[0].1
    }
}

/// One of the two places.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Side {
    Primary,
    Archive,
}

/// What a process is asked to do. Whatever else has to be chosen follows from `pick`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Action {
    Upload,
    UploadWithKey,
    Issue,
    Send,
    Complete,
    Edit,
    Delete,
    List,
    Get,
    Health,
    Backup,
    Backups,
    Plan,
    Restore,
    Background,
    Verify,
    VerifyNext,
    ClearTickets,
    Follow,
    FollowUp,
    Tidy,
    Recover,
    Prune,
    DeleteBackup,
}

/// What goes wrong with one operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mishap {
    Fails(ErrorKind),
    LosesItsReply,
    ComesLate,
    BreaksOff,
}

/// What rots or is lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Damage {
    FlipByte(Side),
    CutShort(Side),
    Empty(Side),
    LoseUploads,
    LoseMetadata,
    LoseArchive,
}

/// One turn of the schedule.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Turn {
    Start {
        process: usize,
        action: Action,
        pick: u64,
    },
    /// Lets one running action make one store operation; of several that it could make, passes over so many first.
    Step {
        who: u64,
        pass_over: u8,
        mishap: Option<Mishap>,
    },
    /// A request is dropped in the middle, as when its client goes away.
    Cancel {
        who: u64,
    },
    /// A process dies with everything that it was doing.
    Crash {
        process: usize,
    },
    /// From now on everything fails like this, in one place or both, until it is healed.
    Break {
        side: Option<Side>,
        kind: ErrorKind,
    },
    Heal,
    /// One process's clock jumps.
    Jump {
        process: usize,
        minutes: i64,
    },
    /// Time passes for all.
    Pass {
        minutes: i64,
    },
    /// The oldest operation that its caller gave up takes place now.
    Deliver,
    /// All comes to rest, and everything is checked.
    Rest {
        abruptly: bool,
    },
    /// All comes to rest, and then this happens.
    Damage {
        damage: Damage,
        pick: u64,
    },
}

/// How a store is set up.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Setup {
    /// The archive is a backend of its own, else it lies in the primary.
    pub(crate) apart: bool,
    /// Replicas stand before an upload is acknowledged; else a further process follows the uploads.
    pub(crate) sync: bool,
    pub(crate) backup_every: u64,
}

impl Setup {
    pub(crate) fn of(seed: u64) -> Self {
        let mut rng = Rng::new(seed ^ 0x5e70);
        Self { apart: rng.below(2) == 0, sync: rng.below(3) > 0, backup_every: rng.pick(&[2, 3, 5, 10]) }
    }
}

/// Processes that serve requests; with deferred replicas there is one more, which follows them.
pub(crate) const SERVING: usize = 3;

/// The schedule of a seed.
pub(crate) fn generate(seed: u64, turns: usize) -> Vec<Turn> {
    let mut rng = Rng::new(seed);
    // Some runs are calm, so that much is acknowledged, and some are rough.
    let (mishaps, breaks) = (rng.pick(&[u64::MAX, 300, 60, 20]), rng.pick(&[0, 0, 2]));
    let (skews, crashes) = (rng.pick(&[0, 2]), rng.pick(&[1, 6]));
    let choices = [
        (220, Choice::Start),
        (1800, Choice::Step),
        (4, Choice::Cancel),
        (crashes, Choice::Crash),
        (breaks, Choice::Break),
        (4 * breaks, Choice::Heal),
        (skews, Choice::Jump),
        (6, Choice::Pass),
        (20, Choice::Deliver),
        (4, Choice::Rest),
        (3, Choice::Damage),
    ];
    (0..turns).map(|_| turn(&mut rng, &choices, mishaps)).collect()
}

#[derive(Clone, Copy)]
enum Choice {
    Start,
    Step,
    Cancel,
    Crash,
    Break,
    Heal,
    Jump,
    Pass,
    Deliver,
    Rest,
    Damage,
}

fn turn(rng: &mut Rng, choices: &[(u64, Choice)], mishaps: u64) -> Turn {
    let kinds = [ErrorKind::Unavailable, ErrorKind::Full, ErrorKind::Refused];
    match rng.weighted(choices) {
        Choice::Start => {
            let process = rng.below(SERVING as u64 + 1) as usize;
            Turn::Start { process, action: rng.weighted(&ACTIONS), pick: rng.next() }
        }
        Choice::Step => {
            let mishap = (mishaps != u64::MAX && rng.below(mishaps) == 0).then(|| mishap(rng, &kinds));
            Turn::Step { who: rng.next(), pass_over: rng.pick(&[0, 0, 0, 1, 2, 3]), mishap }
        }
        Choice::Cancel => Turn::Cancel { who: rng.next() },
        Choice::Crash => Turn::Crash { process: rng.below(SERVING as u64 + 1) as usize },
        Choice::Break => {
            let side = rng.pick(&[None, Some(Side::Primary), Some(Side::Archive)]);
            Turn::Break { side, kind: rng.pick(&kinds) }
        }
        Choice::Heal => Turn::Heal,
        Choice::Jump => {
            let process = rng.below(SERVING as u64 + 1) as usize;
            Turn::Jump { process, minutes: rng.below(361) as i64 - 180 }
        }
        Choice::Pass => Turn::Pass { minutes: rng.pick(&[1, 1, 12, 12, 45, 75, 60 * 24 * 2, 60 * 24 * 11]) },
        Choice::Deliver => Turn::Deliver,
        Choice::Rest => Turn::Rest { abruptly: rng.below(2) == 0 },
        Choice::Damage => {
            let sides = [Side::Primary, Side::Archive];
            let damages = [
                (3, Damage::FlipByte(rng.pick(&sides))),
                (2, Damage::CutShort(rng.pick(&sides))),
                (2, Damage::Empty(rng.pick(&sides))),
                (1, Damage::LoseUploads),
                (1, Damage::LoseMetadata),
                (1, Damage::LoseArchive),
            ];
            Turn::Damage { damage: rng.weighted(&damages), pick: rng.next() }
        }
    }
}

fn mishap(rng: &mut Rng, kinds: &[ErrorKind]) -> Mishap {
    let fails = Mishap::Fails(rng.pick(kinds));
    rng.weighted(&[(3, fails), (2, Mishap::LosesItsReply), (2, Mishap::ComesLate), (1, Mishap::BreaksOff)])
}

/// How often each action is begun.
const ACTIONS: [(u64, Action); 24] = [
    (22, Action::Upload),
    (8, Action::UploadWithKey),
    (5, Action::Issue),
    (8, Action::Send),
    (9, Action::Complete),
    (14, Action::Edit),
    (9, Action::Delete),
    (12, Action::List),
    (12, Action::Get),
    (2, Action::Health),
    (3, Action::Backup),
    (2, Action::Backups),
    (2, Action::Plan),
    (4, Action::Restore),
    (12, Action::Background),
    (2, Action::Verify),
    (2, Action::VerifyNext),
    (2, Action::ClearTickets),
    (8, Action::Follow),
    (4, Action::FollowUp),
    (3, Action::Tidy),
    (1, Action::Recover),
    (8, Action::Prune),
    (2, Action::DeleteBackup),
];

/// The shortest schedule found that still fails: whole chunks are left out, then smaller ones, down to single turns.
/// `fails` is asked `tries` times at most.
pub(crate) fn shrink(mut turns: Vec<Turn>, mut tries: usize, mut fails: impl FnMut(&[Turn]) -> bool) -> Vec<Turn> {
    let mut size = turns.len().div_ceil(2);
    while size > 0 && tries > 0 {
        let (mut at, before) = (0, turns.len());
        while at < turns.len() && tries > 0 {
            let mut shorter = turns.clone();
            shorter.drain(at..(at + size).min(turns.len()));
            tries -= 1;
            if fails(&shorter) {
                turns = shorter;
            } else {
                at += size;
            }
        }
        size = if size == 1 && turns.len() < before { 1 } else { size / 2 };
    }
    turns
}
