//! What follows when the database is not the one that was served on last: how that is noticed, and what a stamp then shows.
//!
//! A restored database is behind the world. What it believes to be owed may have been answered since, and it does not know; so
//! nothing is sent until the stamps have been read. In doubt it waits for a person (R10).

use std::time::Duration;

use super::Moment;

/// Which state of the database was seen: whose, since which restore or move, and how far along.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sight {
    /// The installation.
    pub installation: [u8; 16],
    /// Drawn anew with each restore and each move.
    pub epoch: [u8; 16],
    /// Counted up by whoever leads.
    pub beat: i64,
}

/// What a database says of itself.
#[derive(Debug, Clone, Copy)]
pub struct Claimed<'a> {
    /// As it was seen now.
    pub sight: Sight,
    /// The epochs before this one.
    pub former: &'a [[u8; 16]],
    /// The server that it was last served from; absent for a file, and before the first start.
    pub server: Option<&'a str>,
}

/// Why a database is taken for restored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Doubt {
    /// Somebody remembers another installation in its place.
    OtherInstallation,
    /// Somebody remembers a restore or a move that it does not know of.
    OtherEpoch,
    /// Somebody remembers a later beat.
    Behind {
        /// By how many beats.
        by: i64,
    },
    /// It lies on another server, in another database, or its tables were made anew: a dump was read in.
    OtherServer,
    /// Its server went on another line of history, and nobody remembers how far the last one had come.
    OtherLine,
}

impl Doubt {
    /// In words, for whoever has to know why nothing is sent.
    pub fn explained(self) -> String {
        match self {
            Self::OtherInstallation => "what lies outside of the database remembers another installation".to_owned(),
            Self::OtherEpoch => "what lies outside of the database remembers a later restore or move".to_owned(),
            Self::Behind { by } => format!("the database is behind what was seen of it by {by} beat(s) of ten seconds"),
            Self::OtherServer => "the database lies on another server or was read in from a dump".to_owned(),
            Self::OtherLine => {
                "its server went on another line of history (a failover or a recovery to a point in time), and nobody \
                 remembers how far the last one had come"
                    .to_owned()
            }
        }
    }
}

/// What comparing a database with what is remembered of it yields.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Judgement {
    /// It is the one that was served on last.
    Same,
    /// It is, by what is remembered, although its server has changed: a failover that lost nothing.
    Elsewhere,
    /// It is not.
    Restored(Doubt),
}

/// Compares a database with what is remembered outside of it, and with the server it lies on now.
///
/// What is remembered of an epoch that the database knows to be past is of no use: whoever remembers it has seen less.
pub fn judge(claimed: &Claimed<'_>, remembered: Option<Sight>, server_now: Option<&str>) -> Judgement {
    let mut known_to_be_whole = false;
    if let Some(remembered) = remembered {
        if remembered.installation != claimed.sight.installation {
            return Judgement::Restored(Doubt::OtherInstallation);
        }
        if remembered.epoch == claimed.sight.epoch {
            let by = remembered.beat.saturating_sub(claimed.sight.beat);
            if by > 0 {
                return Judgement::Restored(Doubt::Behind { by });
            }
            known_to_be_whole = true;
        } else if !claimed.former.contains(&remembered.epoch) {
            return Judgement::Restored(Doubt::OtherEpoch);
        }
    }
    let (Some(before), Some(now)) = (claimed.server, server_now) else { return Judgement::Same };
    if before == now {
        return Judgement::Same;
    }
    // cluster / line of history / database / table
    let but_for_the_line = |server: &str| {
        let parts: Vec<_> =
            server.split('/').enumerate().filter(|(at, _)| *at != 1).map(|(_, part)| part.to_owned()).collect();
        parts
    };
    if but_for_the_line(before) != but_for_the_line(now) {
        return Judgement::Restored(Doubt::OtherServer);
    }
    if known_to_be_whole { Judgement::Elsewhere } else { Judgement::Restored(Doubt::OtherLine) }
}

/// A revocation, as a restored database has it.
#[derive(Debug, Clone, Copy)]
pub struct Debt {
    /// When they left, by the source's clock.
    pub departed_at: Moment,
    /// When it was written down, by our clock.
    pub owed_at: Moment,
    /// Whether that was before the restore, so that the departure was known before the stamp moved.
    pub known_before: bool,
    /// How far the source's clock is off, where that is known.
    pub source_offset: Option<Duration>,
}

/// How much later than it was a stamp may look on our clock: Graph's `Date`, by which its offset is measured, has whole seconds.
const GRAIN: Duration = Duration::from_secs(1);

/// Whether a person's stamp shows that a revocation was answered by an attempt which the restore forgot.
///
/// * Where the debt was written down before the restore, and a stamp of the person is known from before: the stamp has moved past
///   it, and is not older than the debt (R6). Whatever moved it came after the departure.
/// * Else it has to be later than the departure (or the debt) by the skew bound at least, and the source's clock known to be
///   off by no more than that (R5).
///
/// `graph_offset` is Graph's clock minus ours in microseconds; without it no two of them can be compared, and nothing is shown.
pub fn answered_by_stamp(
    debt: &Debt,
    stamp: Moment,
    known: Option<Moment>,
    graph_offset: Option<i64>,
    skew: Duration,
) -> bool {
    let Some(offset) = graph_offset else { return false };
    let stamp_by_us = Moment(stamp.0.saturating_sub(offset));
    let since = |from: Moment| stamp_by_us >= from && stamp_by_us.since(from) >= skew;
    if debt.known_before {
        return match known {
            Some(known) => stamp > known && stamp_by_us >= debt.owed_at.plus(GRAIN),
            None => since(debt.owed_at),
        };
    }
    debt.source_offset.is_some_and(|off| off <= skew) && since(debt.departed_at)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SKEW: Duration = Duration::from_secs(300);
    const NOW: &str = "7412/00000001/16384/16390";

    fn sight(installation: u8, epoch: u8, beat: i64) -> Sight {
        Sight { installation: [installation; 16], epoch: [epoch; 16], beat }
    }

    fn judged(remembered: Option<Sight>, server: Option<&str>) -> Judgement {
        let claimed = Claimed { sight: sight(1, 2, 100), former: &[[9; 16]], server };
        judge(&claimed, remembered, Some(NOW))
    }

    #[test]
    fn a_database_that_was_served_on_last_is_itself() {
        assert_eq!(judged(None, None), Judgement::Same);
        assert_eq!(judged(None, Some(NOW)), Judgement::Same);
        assert_eq!(judged(Some(sight(1, 2, 100)), Some(NOW)), Judgement::Same);
        assert_eq!(judged(Some(sight(1, 2, 99)), Some(NOW)), Judgement::Same);
        assert_eq!(judged(Some(sight(1, 9, 5000)), Some(NOW)), Judgement::Same, "an epoch that is known to be past");
    }

    #[test]
    fn a_database_behind_what_is_remembered_was_restored() {
        let restored = Judgement::Restored;

        assert_eq!(judged(Some(sight(1, 2, 103)), Some(NOW)), restored(Doubt::Behind { by: 3 }));
        assert_eq!(judged(Some(sight(1, 3, 1)), Some(NOW)), restored(Doubt::OtherEpoch));
        assert_eq!(judged(Some(sight(4, 2, 100)), Some(NOW)), restored(Doubt::OtherInstallation));
    }

    #[test]
    fn a_dump_that_was_read_in_is_told_from_a_failover() {
        let restored = Judgement::Restored;
        let promoted = Some("7412/00000000/16384/16390");
        let whole = Some(sight(1, 2, 100));

        for other in ["7413/00000001/16384/16390", "7412/00000001/16385/16390", "7412/00000001/16384/16391"] {
            assert_eq!(judged(None, Some(other)), restored(Doubt::OtherServer), "{other}");
            assert_eq!(judged(whole, Some(other)), restored(Doubt::OtherServer), "{other}");
        }
        assert_eq!(judged(whole, promoted), Judgement::Elsewhere);
        assert_eq!(judged(None, promoted), restored(Doubt::OtherLine));
        assert_eq!(judged(Some(sight(1, 9, 5000)), promoted), restored(Doubt::OtherLine));
        assert_eq!(judged(Some(sight(1, 2, 101)), promoted), restored(Doubt::Behind { by: 1 }));
    }

    fn at(seconds: i64) -> Moment {
        Moment::from_seconds(seconds)
    }

    fn debt(known_before: bool) -> Debt {
        Debt { departed_at: at(1000), owed_at: at(1010), known_before, source_offset: Some(Duration::from_secs(1)) }
    }

    #[test]
    fn a_debt_from_before_the_restore_is_answered_by_a_stamp_that_moved_since() {
        let answered = |stamp, known| answered_by_stamp(&debt(true), at(stamp), known, Some(0), SKEW);

        assert!(answered(1011, Some(at(500))));
        assert!(!answered(1010, Some(at(500))), "older than the debt");
        assert!(!answered(1500, Some(at(1500))), "it was that before the restore");
        assert!(answered(1310, None));
        assert!(!answered(1309, None), "nothing is known from before, so the skew bound lies between");
    }

    #[test]
    fn a_debt_found_after_the_restore_needs_the_skew_bound_and_a_known_clock() {
        let found = debt(false);
        let answered = |debt: &Debt, stamp| answered_by_stamp(debt, at(stamp), Some(at(1)), Some(0), SKEW);

        assert!(answered(&found, 1300));
        assert!(!answered(&found, 1299));
        assert!(!answered(&Debt { source_offset: None, ..found }, 9000));
        assert!(!answered(&Debt { source_offset: Some(SKEW * 2), ..found }, 9000));
    }

    #[test]
    fn stamps_are_brought_to_our_clock_first_and_without_its_offset_they_show_nothing() {
        let ahead = Some(600_000_000);

        assert!(
            !answered_by_stamp(&debt(true), at(1500), Some(at(500)), ahead, SKEW),
            "Graph's clock is ten minutes ahead"
        );
        assert!(!answered_by_stamp(&debt(true), at(1610), Some(at(500)), ahead, SKEW), "within the second of the debt");
        assert!(answered_by_stamp(&debt(true), at(1611), Some(at(500)), ahead, SKEW));
        assert!(!answered_by_stamp(&debt(true), at(9000), Some(at(500)), None, SKEW));
    }
}
