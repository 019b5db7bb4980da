//! The one table from what happened on the wire to what it means.
//!
//! It is a pure function, and total: every status has a meaning. Its law is that doubt is never resolved in our favour: an
//! answer that is not Microsoft's is not believed, and a request that may have arrived is not said to have failed.
//!
//! What would surprise you: a gateway's HTML page is believed for 429 and 5xx, where it only says "later", and for nothing
//! else. A 404 page of a proxy must not look like a deleted account.

use std::time::Duration;

use crate::custody::Verdict;

/// What became of one request, before it is judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Happened {
    /// No connection stood: no name, no route, refused, too slow. Nothing was sent.
    Unreached,
    /// Whoever answered could not prove to be the host (certificate, protocol). Nothing was sent.
    Impostor,
    /// The request went out, or may have, and no status came back.
    Lost,
    /// A status came back.
    Answered {
        /// The HTTP status.
        status: u16,
        /// What the body was.
        body: Body,
        /// How long the server asks us to stay away.
        retry_after: Option<Duration>,
    },
}

/// What an answer's body was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Body {
    /// Nothing.
    Empty,
    /// JSON, whole.
    Json,
    /// Whole, and neither of these: HTML, text, broken JSON.
    Foreign,
    /// It stopped before its end, or went on past what we read.
    Partial,
}

/// What it means (G1–G11).
pub(crate) fn verdict(happened: Happened) -> Verdict {
    match happened {
        Happened::Unreached => Verdict::Unavailable(None),
        Happened::Impostor => Verdict::Misled,
        Happened::Lost => Verdict::Ambiguous,
        Happened::Answered { status, body, retry_after } => match (status, body) {
            (429, _) => Verdict::Throttled(retry_after),
            (408 | 425 | 500..=599, _) => Verdict::Unavailable(retry_after),
            (200..=299, Body::Empty | Body::Json) => Verdict::Accepted,
            (200..=299 | 400..=499, Body::Foreign) => Verdict::Misled,
            (401, _) => Verdict::Credentials,
            (200..=299 | 400..=499, Body::Partial) => Verdict::Ambiguous,
            (403, _) => Verdict::Forbidden,
            (404, _) => Verdict::Unfound,
            (409 | 412 | 423, _) => Verdict::Unavailable(retry_after),
            (400..=499, _) => Verdict::Refused,
            // Redirects (G9), and numbers that HTTP does not have.
            (_, _) => Verdict::Misled,
        },
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rstest::rstest;

    use super::*;

    const HALF_A_MINUTE: Option<Duration> = Some(Duration::from_secs(30));

    #[rstest]
    #[case::g1(200, Verdict::Accepted)]
    #[case::g1_created(201, Verdict::Accepted)]
    #[case::g1_accepted(202, Verdict::Accepted)]
    #[case::g1_no_content(204, Verdict::Accepted)]
    #[case::g9_choices(300, Verdict::Misled)]
    #[case::g9_moved(301, Verdict::Misled)]
    #[case::g9_found(302, Verdict::Misled)]
    #[case::g9_see_other(303, Verdict::Misled)]
    #[case::g9_not_modified(304, Verdict::Misled)]
    #[case::g9_temporary(307, Verdict::Misled)]
    #[case::g9_permanent(308, Verdict::Misled)]
    #[case::g11_bad(400, Verdict::Refused)]
    #[case::g2(401, Verdict::Credentials)]
    #[case::g11_payment(402, Verdict::Refused)]
    #[case::g3(403, Verdict::Forbidden)]
    #[case::g4(404, Verdict::Unfound)]
    #[case::g11_method(405, Verdict::Refused)]
    #[case::g6_request_timeout(408, Verdict::Unavailable(HALF_A_MINUTE))]
    #[case::g6_conflict(409, Verdict::Unavailable(HALF_A_MINUTE))]
    #[case::g11_gone(410, Verdict::Refused)]
    #[case::g6_precondition(412, Verdict::Unavailable(HALF_A_MINUTE))]
    #[case::g11_unprocessable(422, Verdict::Refused)]
    #[case::g6_locked(423, Verdict::Unavailable(HALF_A_MINUTE))]
    #[case::g11_dependency(424, Verdict::Refused)]
    #[case::g6_early(425, Verdict::Unavailable(HALF_A_MINUTE))]
    #[case::g5(429, Verdict::Throttled(HALF_A_MINUTE))]
    #[case::g6_internal(500, Verdict::Unavailable(HALF_A_MINUTE))]
    #[case::g6_bad_gateway(502, Verdict::Unavailable(HALF_A_MINUTE))]
    #[case::g6_unavailable(503, Verdict::Unavailable(HALF_A_MINUTE))]
    #[case::g6_gateway_timeout(504, Verdict::Unavailable(HALF_A_MINUTE))]
    #[case::g6_bandwidth(509, Verdict::Unavailable(HALF_A_MINUTE))]
    #[case::no_such_number(799, Verdict::Misled)]
    fn a_status_has_one_meaning(#[case] status: u16, #[case] means: Verdict) {
        let answered = |body| verdict(Happened::Answered { status, body, retry_after: HALF_A_MINUTE });

        assert_eq!(answered(Body::Json), means);
        assert_eq!(answered(Body::Empty), means);
    }

    #[rstest]
    #[case::g10_sign_in_page(200, Body::Foreign, Verdict::Misled)]
    #[case::g10_proxy_forbids(403, Body::Foreign, Verdict::Misled)]
    #[case::g10_proxy_finds_nothing(404, Body::Foreign, Verdict::Misled)]
    #[case::g10_proxy_wants_a_login(401, Body::Foreign, Verdict::Misled)]
    #[case::a_gateway_page_says_later(502, Body::Foreign, Verdict::Unavailable(None))]
    #[case::a_throttle_page_says_later(429, Body::Foreign, Verdict::Throttled(None))]
    #[case::g8_cut_short(200, Body::Partial, Verdict::Ambiguous)]
    #[case::g8_a_refusal_cut_short(403, Body::Partial, Verdict::Ambiguous)]
    #[case::g8_nobody_cut_short(404, Body::Partial, Verdict::Ambiguous)]
    #[case::g2_needs_no_body(401, Body::Partial, Verdict::Credentials)]
    #[case::g6_needs_no_body(503, Body::Partial, Verdict::Unavailable(None))]
    #[case::g9_whatever_it_says(302, Body::Partial, Verdict::Misled)]
    fn a_body_counts_where_belief_is_needed(#[case] status: u16, #[case] body: Body, #[case] means: Verdict) {
        assert_eq!(verdict(Happened::Answered { status, body, retry_after: None }), means);
    }

    #[rstest]
    #[case::g7(Happened::Unreached, Verdict::Unavailable(None))]
    #[case::g10(Happened::Impostor, Verdict::Misled)]
    #[case::g8(Happened::Lost, Verdict::Ambiguous)]
    fn no_answer_has_a_meaning_too(#[case] happened: Happened, #[case] means: Verdict) {
        assert_eq!(verdict(happened), means);
    }

    fn bodies() -> impl Strategy<Value = Body> {
        prop_oneof![Just(Body::Empty), Just(Body::Json), Just(Body::Foreign), Just(Body::Partial)]
    }

    proptest! {
        #[test]
        fn only_a_whole_2xx_of_the_directory_is_success(status: u16, body in bodies()) {
            let means = verdict(Happened::Answered { status, body, retry_after: None });
            let whole = matches!(body, Body::Empty | Body::Json);

            prop_assert_eq!(means == Verdict::Accepted, whole && (200..300).contains(&status));
        }

        #[test]
        fn a_page_never_says_that_a_person_is_gone_or_out_of_bounds(status: u16) {
            let means = verdict(Happened::Answered { status, body: Body::Foreign, retry_after: None });

            prop_assert!(!matches!(means, Verdict::Unfound | Verdict::Forbidden | Verdict::Refused | Verdict::Credentials));
        }
    }
}
