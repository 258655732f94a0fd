//! Decisions against a naive evaluator, and what denies.

use proptest::prelude::*;

use super::*;

fn name(text: &str) -> CredentialName {
    text.parse().expect(text)
}

fn grant(name: &str, credentials: &[&str]) -> GrantSpec {
    GrantSpec {
        name: name.to_owned(),
        credentials: credentials.iter().map(|pattern| (*pattern).to_owned()).collect(),
        ..GrantSpec::default()
    }
}

fn grants(specs: Vec<GrantSpec>) -> Grants {
    Grants::new(specs).expect("good grants")
}

fn decided(grants: &Grants, credential: &str, caller: &Caller) -> Option<String> {
    match grants.decide(&name(credential), caller) {
        Decision::Allowed { grant } => Some(grant.to_string()),
        Decision::Denied => None,
    }
}

/// A caller of whom everything is known.
fn known() -> Caller {
    Caller {
        uid: 1000,
        gid: 100,
        groups: Some(vec![100, 27]),
        pid: 4711,
        exe: Some("/usr/bin/app".into()),
        sha256: Some([7; 32]),
        unit: Some("app@1.service".to_owned()),
        invocation: Some("0123".to_owned()),
    }
}

#[test]
fn without_a_grant_everything_is_denied() {
    assert_eq!(decided(&Grants::default(), "a", &known()), None);
    assert_eq!(decided(&grants(vec![]), "a", &Caller::default()), None);
    let others = grants(vec![GrantSpec { anyone: true, ..grant("g", &["b", "a/*", "aa*"]) }]);
    assert_eq!(decided(&others, "a", &known()), None);
    assert_eq!(others.covering(&name("a")), Vec::<String>::new());
    assert_eq!(others.explain(&name("a"), &known()), []);
    assert_eq!(others.needs(&name("a")), Needs::default());
}

/// Each condition absent, held, or not held; each fact of the caller known or not.
#[test]
fn every_combination_of_conditions_is_decided_as_a_naive_evaluator_does() {
    for conditions in 0..3u32.pow(5) {
        let state = |kind: u32| conditions / 3u32.pow(kind) % 3;
        let pick = |kind: u32, good: u32, bad: u32| match state(kind) {
            0 => vec![],
            1 => vec![bad, good],
            _ => vec![bad],
        };
        let units = ["app@*.service", "other.service"];
        let exes = ["/usr/bin/app", "/usr/bin/other"];
        let spec = GrantSpec {
            users: pick(0, 1000, 1001),
            groups: pick(1, 27, 28),
            units: pick(2, 0, 1).into_iter().map(|n| units[n as usize].to_owned()).collect(),
            exes: pick(3, 0, 1).into_iter().map(|n| exes[n as usize].into()).collect(),
            sha256: pick(4, 7, 8).into_iter().map(|n| [n as u8; 32]).collect(),
            anyone: conditions == 0,
            ..grant("g", &["a/*"])
        };
        let grants = grants(vec![spec]);
        assert_eq!(
            grants.needs(&name("a/b")),
            Needs { groups: state(1) > 0, unit: state(2) > 0, exe: state(3) > 0, sha256: state(4) > 0 }
        );
        for unknown in 0..16u32 {
            let is_known = |fact: u32| unknown & 1 << fact == 0;
            let mut caller = known();
            caller.groups = caller.groups.filter(|_| is_known(0));
            caller.unit = caller.unit.filter(|_| is_known(1));
            caller.exe = caller.exe.filter(|_| is_known(2));
            caller.sha256 = caller.sha256.filter(|_| is_known(3));
            let allowed = (0..5).all(|kind| match state(kind) {
                0 => true,
                1 => kind == 0 || is_known(kind - 1),
                _ => false,
            });
            assert_eq!(decided(&grants, "a/b", &caller).is_some(), allowed, "{conditions} {unknown}");
            let verdict = grants.explain(&name("a/b"), &caller).remove(0);
            assert_eq!(verdict.allows, allowed);
            assert_eq!(verdict.conditions.iter().all(|(_, holds)| *holds), allowed, "{verdict:?}");
            let stated = (0..5).filter(|kind| state(*kind) > 0).count();
            assert_eq!(verdict.conditions.len(), stated.max(1));
        }
    }
}

#[test]
fn a_group_holds_as_the_primary_or_a_supplementary_one() {
    let grants = grants(vec![GrantSpec { groups: vec![100], ..grant("g", &["a"]) }]);
    let primary = Caller { gid: 100, ..Caller::default() };
    let supplementary = Caller { gid: 5, groups: Some(vec![6, 100]), ..Caller::default() };
    let neither = Caller { uid: 100, gid: 5, groups: Some(vec![6]), ..Caller::default() };
    assert_eq!(decided(&grants, "a", &primary), Some("g".to_owned()));
    assert_eq!(decided(&grants, "a", &supplementary), Some("g".to_owned()));
    assert_eq!(decided(&grants, "a", &neither), None);
}

#[test]
fn the_most_special_grant_is_told() {
    let anyone = |name: &str, pattern: &str| GrantSpec { anyone: true, ..grant(name, &[pattern]) };
    let grants = grants(vec![
        anyone("all", "**"),
        anyone("part", "billing/*"),
        anyone("part-too", "billing/*"),
        anyone("exact", "billing/db"),
    ]);
    assert_eq!(decided(&grants, "billing/db", &known()), Some("exact".to_owned()));
    assert_eq!(decided(&grants, "billing/dc", &known()), Some("part".to_owned()));
    assert_eq!(decided(&grants, "billing/a/b", &known()), Some("all".to_owned()));
    assert_eq!(grants.covering(&name("billing/db")), ["exact", "part", "part-too", "all"]);
}

#[test]
fn conditions_are_explained_in_words() {
    let spec = GrantSpec {
        users: vec![33, 1000],
        groups: vec![27],
        units: vec!["web.service".to_owned()],
        exes: vec!["/usr/bin/app".into()],
        ..grant("web", &["a"])
    };
    let caller = Caller { exe: None, ..known() };
    let verdict = grants(vec![spec]).explain(&name("a"), &caller).remove(0);
    assert_eq!(
        verdict.conditions,
        [
            ("the user is 33 or 1000; the caller's is 1000".to_owned(), true),
            ("a group is 27; the caller's is 100, 27".to_owned(), true),
            ("the unit is web.service; the caller's is app@1.service".to_owned(), false),
            ("the executable is /usr/bin/app; the caller's is unknown".to_owned(), false),
        ]
    );
}

#[test]
fn what_is_wrong_is_said_with_a_remedy() {
    let anyone = |patterns: &[&str]| GrantSpec { anyone: true, ..grant("g", patterns) };
    for (specs, message) in [
        (vec![anyone(&["a"]), anyone(&["b"])], "there are two grants called \"g\""),
        (vec![anyone(&[])], "the grant \"g\" names no credential"),
        (vec![grant("g", &["a"])], "the grant \"g\" has no condition"),
        (vec![GrantSpec { users: vec![0], ..anyone(&["a"]) }], "is for anyone and has conditions"),
        (vec![anyone(&["a/***"])], "the grant \"g\" names \"a/***\": there is no `***`, only `*` and `**`"),
        (vec![anyone(&["A"])], "names \"A\": a name consists of"),
        (vec![anyone(&["a//b"])], "names \"a//b\": each part of a name"),
        (vec![anyone(&[""])], "a name has 1 to 128 characters"),
        (vec![anyone(&[&"*a".repeat(200)])], "at most 256 characters"),
        (vec![GrantSpec { units: vec!["a b.service".into()], ..grant("g", &["a"]) }], "names the unit \"a b.service\""),
        (vec![GrantSpec { units: vec!["nginx".into()], ..grant("g", &["a"]) }], "names the unit \"nginx\""),
        (
            vec![GrantSpec { exes: vec!["app".into()], ..grant("g", &["a"]) }],
            "the executable app without its full path",
        ),
        (vec![GrantSpec { users: vec![1; 1001], ..grant("g", &["a"]) }], "1001 users are more than 1000"),
    ] {
        let error = Grants::new(specs).expect_err(message);
        assert!(error.to_string().contains(message), "{error} / {message}");
        assert!(error.remedy().is_some_and(|remedy| !remedy.is_empty()));
    }
}

fn any_grant() -> impl Strategy<Value = GrantSpec> {
    let pattern = prop_oneof![
        "[ab]{1,2}(/[ab]{1,2}){0,2}",
        "[ab]?\\*{1,2}",
        "[ab]{1,2}/[ab]?\\*{1,2}",
        "\\*\\*/[ab]",
        "\\*{1,2}[ab/]?[ab]",
        "\\*/\\*"
    ];
    let users = prop::collection::vec(0u32..4, 0..3);
    let groups = prop::collection::vec(0u32..4, 0..2);
    (prop::collection::vec(pattern, 1..4), users, groups).prop_map(|(credentials, users, groups)| GrantSpec {
        anyone: users.is_empty() && groups.is_empty(),
        credentials,
        users,
        groups,
        ..GrantSpec::default()
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_index_finds_what_looking_at_every_grant_finds(
        specs in prop::collection::vec(any_grant(), 0..12),
        credential in "[ab]{1,2}(/[ab]{1,2}){0,2}",
        uid in 0u32..4,
        gid in 0u32..4,
        groups in prop::option::of(prop::collection::vec(0u32..4, 0..3)),
    ) {
        let named = (0..).zip(specs).map(|(n, spec): (usize, GrantSpec)| GrantSpec { name: n.to_string(), ..spec });
        let specs: Vec<GrantSpec> = named.collect();
        let grants = Grants::new(specs.clone()).expect("good grants");
        let caller = Caller { uid, gid, groups, ..Caller::default() };
        let covers = |spec: &GrantSpec| {
            spec.credentials.iter().any(|p| glob::fits(p.as_bytes(), credential.as_bytes(), Some(b'/')))
        };
        let in_group = |group: &u32| *group == gid || caller.groups.iter().flatten().any(|of| of == group);
        let holds = |spec: &GrantSpec| {
            (spec.users.is_empty() || spec.users.contains(&uid))
                && (spec.groups.is_empty() || spec.groups.iter().any(in_group))
        };
        let mut covering: Vec<String> = specs.iter().filter(|s| covers(s)).map(|s| s.name.clone()).collect();
        let allowing: Vec<&str> = specs.iter().filter(|s| covers(s) && holds(s)).map(|s| s.name.as_str()).collect();
        let decision = decided(&grants, &credential, &caller);
        prop_assert_eq!(decision.is_some(), !allowing.is_empty());
        prop_assert!(decision.is_none_or(|grant| allowing.contains(&grant.as_str())));
        let mut found = grants.covering(&name(&credential));
        covering.sort();
        found.sort();
        prop_assert_eq!(found, covering);
    }
}

/// Prints what a decision costs among 10,000 grants; `cargo test --release -- --nocapture` for real figures.
#[test]
fn the_cost_of_a_decision() {
    let specs = (0..10_000u32).map(|n| {
        let patterns = match n % 4 {
            0 => format!("team-{n}/**"),
            1 => format!("team-{}/app-*", n - 1),
            2 => format!("team-{}/app-1/db", n - 2),
            _ => format!("*/shared-{n}"),
        };
        GrantSpec { users: vec![n], ..grant(&n.to_string(), &[&patterns]) }
    });
    let grants = grants(specs.collect());
    for (credential, uid) in [("team-5000/app-1/db", 5000), ("team-5000/app-1/db", 5002), ("team-1/nothing", 0)] {
        let (credential, caller) = (name(credential), Caller { uid, ..Caller::default() });
        let begun = std::time::Instant::now();
        let allowed =
            (0..1000).filter(|_| matches!(grants.decide(&credential, &caller), Decision::Allowed { .. })).count();
        println!("{credential} for {uid}: {:?}, {allowed} of 1000 allowed", begun.elapsed() / 1000);
    }
}

#[test]
fn the_manager_vouches_for_units_alone() {
    let name: CredentialName = "app/db".parse().expect("a name");
    let manager = Caller { uid: 0, unit: Some("app.service".into()), ..Caller::default() };
    let allowed = |spec: GrantSpec| {
        let spec = GrantSpec { name: "g".into(), credentials: vec!["app/*".into()], ..spec };
        let grants = Grants::new(vec![spec]).expect("sound");
        matches!(grants.decide_for_unit(&name, &manager), Decision::Allowed { .. })
    };
    assert!(allowed(GrantSpec { units: vec!["app.service".into()], ..GrantSpec::default() }));
    assert!(!allowed(GrantSpec { units: vec!["other.service".into()], ..GrantSpec::default() }));
    assert!(!allowed(GrantSpec { users: vec![0], ..GrantSpec::default() }));
    assert!(!allowed(GrantSpec { anyone: true, ..GrantSpec::default() }));
    assert!(!allowed(GrantSpec { users: vec![0], units: vec!["app.service".into()], ..GrantSpec::default() }));
}
