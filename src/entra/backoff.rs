//! Waits that grow, with full jitter.

use std::time::Duration;

/// A wait drawn evenly from zero to `first` doubled `failures` times, at most `longest`, and never under `least`.
///
/// `chance` is from 0 up to 1. The floor keeps an unlucky draw from becoming a hot loop.
pub(crate) fn full_jitter(first: Duration, failures: u32, longest: Duration, least: Duration, chance: f64) -> Duration {
    let ceiling = first.saturating_mul(1_u32.checked_shl(failures).unwrap_or(u32::MAX)).min(longest);
    ceiling.mul_f64(chance.clamp(0.0, 1.0)).max(least)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);
    const FIVE_MINUTES: Duration = Duration::from_mins(5);

    #[test]
    fn the_ceiling_doubles_and_stops() {
        let ceilings: Vec<u64> =
            [0, 1, 2, 8, 9, 40].map(|n| full_jitter(SECOND, n, FIVE_MINUTES, SECOND, 1.0).as_secs()).to_vec();

        assert_eq!(ceilings, [1, 2, 4, 256, 300, 300]);
    }

    proptest! {
        #[test]
        fn a_wait_stays_between_its_ends(failures: u32, chance in 0.0_f64..1.0) {
            let wait = full_jitter(SECOND, failures, FIVE_MINUTES, SECOND, chance);

            prop_assert!(wait >= SECOND && wait <= FIVE_MINUTES);
        }
    }
}
