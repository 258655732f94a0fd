//! Secrets for which keywheel itself is the authority: session keys, HMAC keys, secrets of webhooks.
//!
//! There is no target: whoever checks by such a key fetches it as well, the version before beside it. So every step is
//! done as soon as it is asked for, and the proof of a version is that it is in the store.

use keywheel_protocol::{Description, Makes, Origin, Overlap, Reason, Reply, Request, Step, Strategy, Yes};

/// What the rotator says of itself.
pub(crate) fn describe() -> Description {
    Description {
        kind: "local".to_owned(),
        summary: "Keys that nothing but their holders knows: keywheel is the authority".to_owned(),
        origin: Origin::Ours,
        overlap: Overlap::Replaces,
        makes: Makes::Password,
        needs_login: false,
        strategies: vec![Strategy::Overlap, Strategy::Replace],
        steps: vec![Step::Describe, Step::Apply, Step::Verify, Step::Retire, Step::Discover, Step::Rehearse],
        target: vec![],
        credential: vec![],
    }
}

/// Performs one step.
pub(crate) fn answer(request: &Request) -> Reply {
    match request.step {
        Step::Apply | Step::Verify | Step::Rehearse if request.subject.is_none() => {
            Reply::no(Reason::Unsupported, "the request has no subject, which this step needs")
        }
        Step::Apply | Step::Verify | Step::Rehearse | Step::Retire => Reply::yes(),
        Step::Discover => Reply::Yes(Yes { accounts: Some(Vec::new()), ..Yes::default() }),
        Step::Describe => Reply::no(Reason::Unsupported, "this kind does not answer that step"),
    }
}

#[cfg(test)]
mod tests {
    use keywheel_protocol::{Fields, Secret};

    use super::*;

    #[test]
    fn every_step_but_one_without_a_secret_is_done_at_once() {
        let request = |step, subject| Request {
            step,
            target: serde_json::Map::new(),
            credential: serde_json::Map::new(),
            token: None,
            subject,
            login: None,
            deadline_ms: 1_000,
        };
        let key = || Some(Fields::login("signer", Secret::new("marker".to_owned())));
        for step in [Step::Apply, Step::Verify, Step::Rehearse, Step::Retire] {
            assert!(matches!(answer(&request(step, key())), Reply::Yes(_)), "{step:?}");
        }
        assert!(matches!(answer(&request(Step::Apply, None)), Reply::No { reason: Reason::Unsupported, .. }));
    }
}
