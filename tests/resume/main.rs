//! Thousands of random worlds of the resumable mode, in each of which a network breaks at every point.
//!
//! `RXPLUS_RESUME_WORLDS=1000000 cargo test --release --test resume` tries so many; `RXPLUS_RESUME_SEED` is the seed of the first.
//!
//! What the network, the peers and the program do to real sessions, and where it is tried over sockets:
//!
//! | fault | test |
//! |---|---|
//! | reset at any byte, either way | `soak`, all |
//! | break before `hello`, `new`, `ack 0`, `resumed`, `at` or `lost` | `soak`, `hostile::server_that_*`, `lifetime::client_dropped_*` |
//! | half-open, either side | `rivals::link_that_is_dead_without_a_word_*` |
//! | the older of two attempts arrives last; a clone | `rivals`, `takeovers`: `attempt_that_arrives_late_*`, `clone_*`, `newest_*` |
//! | `reconnect()` while linked | `soak::messages_survive_a_client_that_leaves_good_links` |
//! | server restarted, or another one | `sessions::server_that_is_gone_*` |
//! | server ended in order | `sessions::server_that_completes_*`, `ends::server_that_completes_*` |
//! | parked too long | `sessions::client_that_stays_away_too_long_*`, `ends::server_may_wait_for_ever` |
//! | evicted, overflowed, closed by the program | `ends`: `client_that_is_away_for_longest_*`, `client_whose_outbox_*`, `connection_that_is_closed_*` |
//! | slow reader | `slow_readers`, `stopped`, all; `sessions::gap_is_told_*` |
//! | peer acknowledges nothing | `tests/testing`: `sessions::peer_that_acknowledges_nothing_*`; the unit tests of `link` |
//! | poison message | `ends::message_that_the_server_refuses_*` |
//! | gateway that closes | `ends::client_that_is_sent_away_*` |
//! | message at which every link breaks | `ends::message_that_ends_each_link_*` |
//! | storm of resumes | `rivals::crowd_that_is_cut_at_once_*`, `storm::thousands_*` |
//! | plain server in place of a resumable one | `ends::plain_server_*` |
//! | subscriber panics | `lifetime::message_whose_subscriber_panics_*` |
//! | 2^53 messages | `hostile::message_beyond_the_largest_number_*` |
//! | client that is refused and takes nothing | `tests/testing`: `refusals`, all; `tests/mount`: `http2::client_that_does_not_read_*` |
//! | token told to the wrong path or owner | `ends::session_is_unknown_*` |
//! | tombstone forgotten | `tests/testing`: `sessions::session_that_is_*`; the unit tests of `session::tombstones` |

mod ends;
mod hostile;
mod lanes;
mod lifetime;
mod model;
mod raw;
mod rivals;
mod sessions;
mod slow_readers;
mod soak;
#[cfg(unix)]
mod stopped;
#[cfg(target_os = "linux")]
mod storm;
#[path = "../support/mod.rs"]
mod support;
mod takeovers;
mod tracked;

use std::{collections::BTreeMap, env, sync::LazyLock};

use model::{Broken, Event, Fact, Mutant, Tally, World};

/// As many as a debug build tries in two seconds.
const WORLDS: u64 = 2_000;

/// Enough for the rarest mistake, which shows first in world 119.
const WORLDS_OF_MUTANT: u64 = 150;

/// What a number of worlds have shown.
struct Findings {
    tally: Tally,
    /// For each fact the first world in which it is not so.
    broken: BTreeMap<Fact, String>,
}

impl Findings {
    fn of(seeds: impl Iterator<Item = u64>, mutant: Option<Mutant>) -> Self {
        let mut findings = Self { tally: Tally::default(), broken: BTreeMap::new() };
        for seed in seeds {
            let mut world = World::new(seed, mutant);
            for Broken { fact, detail } in world.run() {
                findings.broken.entry(fact).or_insert_with(|| format!("in world {seed}: {detail}"));
            }
            findings.tally.merge(&world.tally());
        }
        findings
    }
}

static FINDINGS: LazyLock<Findings> = LazyLock::new(|| {
    let first = number_in("RXPLUS_RESUME_SEED", 1);
    Findings::of((first..).take(number_in("RXPLUS_RESUME_WORLDS", WORLDS) as usize), None)
});

static FINDINGS_OF_MUTANTS: LazyLock<BTreeMap<Mutant, Findings>> = LazyLock::new(|| {
    Mutant::ALL.into_iter().map(|mutant| (mutant, Findings::of(1..=WORLDS_OF_MUTANT, Some(mutant)))).collect()
});

fn number_in(variable: &str, default: u64) -> u64 {
    env::var(variable).map_or(default, |text| text.parse().expect("the variable has a number"))
}

/// For each fact a test that it is so in all worlds, and one that some mutant breaks it, so that it says something.
macro_rules! facts {
    ($($name:ident: $fact:ident,)*) => {
        $(#[test]
        fn $name() {
            assert_eq!(FINDINGS.broken.get(&Fact::$fact), None);
        })*

        #[test]
        fn each_fact_is_broken_by_a_mutant() {
            for fact in [$(Fact::$fact),*] {
                let is_broken = |findings: &Findings| findings.broken.contains_key(&fact);
                assert!(FINDINGS_OF_MUTANTS.values().any(is_broken), "no mutant breaks {fact:?}");
            }
        }
    };
}

facts! {
    neither_end_takes_what_the_other_says_for_a_mistake: NoMistake,
    everything_arrives_when_the_faults_are_over: Settles,
    messages_arrive_once_and_in_order: Order,
    both_ends_agree_on_the_positions: Agreement,
    no_message_is_lost_without_a_word: NothingLost,
    each_accepted_message_has_one_fate: OneFate,
    acknowledged_message_has_arrived_and_dropped_one_has_not: TrueFate,
    message_is_in_doubt_only_after_a_restart_or_a_clone: DoubtHasCause,
    server_hears_of_exactly_what_is_missing: GapToServer,
    client_hears_of_exactly_what_is_missing: GapToClient,
    gap_is_of_unknown_size_only_after_a_restart_or_a_clone: UnknownGapHasCause,
}

#[test]
fn worlds_have_every_fault() {
    let count = |event| FINDINGS.tally.of(event);
    Event::ALL.into_iter().for_each(|event| println!("{event:?}: {}", count(event)));
    assert_eq!(Event::ALL.into_iter().find(|event| count(*event) == 0), None);
}

macro_rules! mutants {
    ($($name:ident: $mutant:ident,)*) => {$(
        #[test]
        fn $name() {
            let broken = &FINDINGS_OF_MUTANTS[&Mutant::$mutant].broken;
            println!("{broken:#?}");
            assert_ne!(broken.len(), 0);
        }
    )*};
}

mutants! {
    server_that_ignores_link_numbers_is_caught: LinkNumberIgnored,
    client_that_acknowledges_too_early_is_caught: AckTooEarly,
    server_whose_count_falls_on_resume_is_caught: CountFallsOnResume,
    end_that_leaves_out_at_is_caught: AtLeftOut,
    client_that_does_not_use_the_numbers_of_lost_is_caught: NumbersOfLostUnused,
    client_that_sends_doubtful_messages_again_is_caught: DoubtfulSentAgain,
    end_that_forgets_written_messages_is_caught: ForgottenWhenWritten,
    server_that_reads_on_an_old_link_is_caught: OldLinkReadOn,
    client_that_writes_before_its_new_is_answered_is_caught: PayloadBeforeAnswer,
}
