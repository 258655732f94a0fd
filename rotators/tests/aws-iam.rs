//! The aws-iam rotator against moto, which imitates AWS and does check signatures and policies.

#[path = "../../tests/support/services.rs"]
mod services;
mod support;

use keywheel_protocol::{By, Fields, Login, Reason, Reply, Request, Secret, Step};
use serde_json::json;
use services::Service;
use support::{Place, cutting_off, in_doubt, no, not_reached, yes};

const TOKEN: &str = "kw-abcdefghijklmnopqrstuvwxy";
const NEXT: &str = "kw-zyxwvutsrqponmlkjihgfedcb";

/// Requests that moto takes without a signature: those of [`Aws::start`].
const OPEN: u32 = 8;

struct Aws {
    service: Service,
    app: Fields,
    admin: Fields,
    powerless: Fields,
}

impl Aws {
    fn start() -> Self {
        let service = services::moto(OPEN);
        let [app, admin] = ["app", "keywheel"].map(|user| key(service.iam_user(user)));
        service.iam(&[("Action", "CreateUser"), ("UserName", "other")]);
        let powerless = key(service.iam_key("other"));
        Self { service, app, admin, powerless }
    }

    fn place(&self) -> Place {
        let target = json!({ "host": "127.0.0.1", "port": self.service.port, "tls": "disabled" });
        Place::new("aws-iam", target).credential("account", "app")
    }

    fn by_admin(&self) -> Option<Login> {
        Some(Login { by: By::Admin, fields: self.admin.duplicate() })
    }
}

fn key((id, secret): (String, String)) -> Fields {
    let mut fields = Fields::new();
    fields.insert("access_key_id", Secret::new(id));
    fields.insert("secret_access_key", Secret::new(secret));
    fields
}

fn id(fields: &Fields) -> &str {
    fields.get("access_key_id").expect("an id").expose()
}

fn by(by: By, fields: &Fields) -> Option<Login> {
    Some(Login { by, fields: fields.duplicate() })
}

fn request(place: &Place, step: Step, token: &str, subject: Option<&Fields>, login: Option<Login>) -> Request {
    let subject = subject.map(Fields::duplicate);
    Request { token: Some(token.to_owned()), subject, login, ..place.request(step, None, None) }
}

fn apply(place: &Place, token: &str, login: Option<Login>) -> Reply {
    place.ask(&request(place, Step::Apply, token, None, login))
}

fn verify(place: &Place, subject: &Fields) -> Reply {
    // Looks at a key that is not known yet are cut short.
    let place = place.clone().deadline_ms(4_000);
    place.ask(&request(&place, Step::Verify, TOKEN, Some(subject), None))
}

fn retire(place: &Place, subject: &Fields, login: Option<Login>) -> Reply {
    place.ask(&request(place, Step::Retire, TOKEN, Some(subject), login))
}

#[track_caller]
fn minted(reply: Reply) -> (Fields, String) {
    let Reply::Yes(yes) = reply else { panic!("{reply:?}") };
    (yes.fields.expect("a new key"), yes.note.unwrap_or_default())
}

#[test]
fn keys_turn_over_by_an_admin() {
    let aws = Aws::start();
    let place = aws.place().credential("smtp_region", "eu-central-1");
    yes(verify(&place, &aws.app));
    let note = yes(place.ask(&request(&place, Step::Rehearse, TOKEN, None, aws.by_admin())));
    assert!(note.contains("1 of 2 keys"), "{note}");

    let (first, note) = minted(apply(&place, TOKEN, aws.by_admin()));
    assert_eq!(note, "");
    assert!(first.get("smtp_password").expect("derived").expose().len() == 44);
    // The answer was lost, and the same rotation asks again: the key that nobody got is deleted, and no other.
    let (second, note) = minted(apply(&place, TOKEN, aws.by_admin()));
    assert!(note.contains("was deleted"), "{note}");
    no(verify(&place, &first), Reason::Credential);
    yes(verify(&place, &second));
    yes(verify(&place, &aws.app));

    // Another rotation before the old key is retired finds no room, and touches nothing.
    for step in [Step::Apply, Step::Rehearse] {
        let message = no(place.ask(&request(&place, step, NEXT, None, aws.by_admin())), Reason::Unsupported);
        for key in [&aws.app, &second] {
            assert!(message.contains(&id(key)[id(key).len() - 4..]), "{message}");
        }
        assert!(message.contains("last used 20"), "{message}");
    }
    yes(verify(&place, &aws.app));
    assert_eq!(yes(retire(&place, &aws.app, aws.by_admin())), "");
    assert_eq!(yes(retire(&place, &aws.app, aws.by_admin())), "");
    no(verify(&place, &aws.app), Reason::Credential);
    let (third, _) = minted(apply(&place, NEXT, aws.by_admin()));
    yes(verify(&place, &second));
    yes(verify(&place, &third));
    let log = aws.service.log();
    assert!(log.contains("POST / HTTP"), "the requests are in the log");
    assert!(!log.contains(third.get("secret_access_key").expect("a secret").expose()));
}

#[test]
fn keys_turn_over_by_themselves() {
    let aws = Aws::start();
    let place = aws.place();
    let (lost, _) = minted(apply(&place, TOKEN, by(By::Account, &aws.app)));
    // That rotation was given up before anyone got the key; the next one clears it away, since the key in use asks.
    let (next, note) = minted(apply(&place, NEXT, by(By::Account, &aws.app)));
    assert!(note.contains("was deleted"), "{note}");
    no(verify(&place, &lost), Reason::Credential);
    yes(verify(&place, &next));
    // Once it was used it is left alone.
    no(apply(&place, "kw-third", by(By::Account, &aws.app)), Reason::Unsupported);
    no(retire(&place, &next, by(By::Account, &next)), Reason::Unsupported);
    assert_eq!(yes(retire(&place, &aws.app, by(By::Account, &next))), "");
    yes(verify(&place, &next));
}

#[test]
fn each_no_says_why_and_makes_no_key() {
    let aws = Aws::start();
    let place = aws.place();
    let with = |id: &str, secret: &str| key((id.to_owned(), secret.to_owned()));
    let wrong = with(id(&aws.admin), "marker-wrong-secret");
    let message = no(apply(&place, TOKEN, by(By::Admin, &wrong)), Reason::Credential);
    assert!(message.contains("SignatureDoesNotMatch") && !message.contains("marker"), "{message}");
    no(verify(&place, &wrong), Reason::Credential);
    let unknown = with("AKIAUNKNOWNUNKNOWN", "marker-wrong-secret");
    assert!(no(apply(&place, TOKEN, by(By::Admin, &unknown)), Reason::Credential).contains("AKIA…NOWN"));
    no(apply(&place.clone().credential("account", "nobody"), TOKEN, aws.by_admin()), Reason::Missing);
    let powerless = no(apply(&place, TOKEN, by(By::Admin, &aws.powerless)), Reason::Privilege);
    assert!(powerless.contains("needs iam:ListAccessKeys on the user app"), "{powerless}");
    no(apply(&place, "", aws.by_admin()), Reason::Unsupported);
    no(apply(&place, TOKEN, None), Reason::Unsupported);
    assert!(no(verify(&place, &aws.admin), Reason::Unsupported).contains("user/keywheel"));
    let note = yes(place.ask(&request(&place, Step::Rehearse, TOKEN, None, aws.by_admin())));
    assert!(note.contains("1 of 2 keys"), "{note}");
    let port = aws.service.port;
    let login = aws.by_admin();
    drop(aws);
    not_reached(apply(&place.with("port", port), TOKEN, login));
}

#[test]
fn a_rehearsal_predicts_each_no_and_changes_nothing() {
    let aws = Aws::start();
    let place = aws.place();
    let foretold = |place: &Place, token: &str, login: Option<Login>, expected| {
        for step in [Step::Rehearse, Step::Apply] {
            let login = login.as_ref().map(|login| Login { by: login.by, fields: login.fields.duplicate() });
            no(place.ask(&request(place, step, token, None, login)), expected);
        }
    };
    let with = |id: &str| key((id.to_owned(), "marker-wrong-secret".to_owned()));
    foretold(&place, TOKEN, by(By::Admin, &with(id(&aws.admin))), Reason::Credential);
    foretold(&place, TOKEN, by(By::Admin, &with("AKIAUNKNOWNUNKNOWN")), Reason::Credential);
    foretold(&place, TOKEN, by(By::Admin, &aws.powerless), Reason::Privilege);
    foretold(&place, TOKEN, None, Reason::Unsupported);
    foretold(&place.clone().credential("account", "nobody"), TOKEN, aws.by_admin(), Reason::Missing);
    let count = || yes(place.ask(&request(&place, Step::Rehearse, TOKEN, None, aws.by_admin())));
    assert!(count().contains("1 of 2 keys"), "none was made");
    // Whether the login may make a key shows only when it makes one, and the note says so.
    assert!(count().contains("shows only then"));
    // No room: both keys are in use, and neither is this rotation's.
    let (second, _) = minted(apply(&place, TOKEN, aws.by_admin()));
    for used in [&aws.app, &second] {
        yes(verify(&place, used));
    }
    foretold(&place, NEXT, aws.by_admin(), Reason::Unsupported);
    for used in [&aws.app, &second] {
        yes(verify(&place, used));
    }
}

#[test]
fn i3_a_made_key_whose_answer_is_lost_is_in_doubt_and_cleared_up() {
    let aws = Aws::start();
    let place = aws.place();
    let cut = cutting_off("CreateAccessKey", aws.service.port);
    in_doubt(apply(&place.clone().with("port", cut), TOKEN, aws.by_admin()));
    let (new, note) = minted(apply(&place, TOKEN, aws.by_admin()));
    assert!(note.contains("was deleted"), "{note}");
    yes(verify(&place, &new));
    yes(verify(&place, &aws.app));
}

#[test]
fn discover_lists_the_users() {
    let aws = Aws::start();
    let discover = |place: &Place, login| place.ask(&request(place, Step::Discover, TOKEN, None, login));
    no(discover(&aws.place(), aws.by_admin()), Reason::Privilege);
    // As if it were allowed: policies are not looked at in the beginning.
    let service = services::moto(100);
    let login = key(service.iam_user("app"));
    let place = aws.place().with("port", service.port);
    let Reply::Yes(found) = discover(&place, by(By::Admin, &login)) else { panic!("refused") };
    let accounts = found.accounts.expect("accounts");
    let [app] = accounts.as_slice() else { panic!("{accounts:?}") };
    assert!(app.name == "app" && app.facts.contains_key("created"), "{app:?}");
}

#[cfg(feature = "failpoints")]
#[test]
fn i1_a_worker_that_dies_leaves_no_second_key() {
    use std::os::unix::process::ExitStatusExt;
    let aws = Aws::start();
    let place = aws.place();
    let dies = |point: &str, request: &Request| {
        let output = place.clone().option("--failpoint").option(point).run(request);
        assert_eq!((output.status.signal(), output.stdout.is_empty()), (Some(9), true), "{point}");
    };
    for (point, left) in [("worker.apply.before", 0), ("worker.apply.after", 1)] {
        let token = format!("kw-{}", point.replace('.', "-"));
        dies(point, &request(&place, Step::Apply, &token, None, aws.by_admin()));
        let (new, note) = minted(apply(&place, &token, aws.by_admin()));
        assert_eq!(note.starts_with("the key AKIA"), left == 1, "{note}");
        yes(verify(&place, &new));
        // Dead before it could say that the key is gone; then nothing is left to do.
        dies("worker.retire.after", &request(&place, Step::Retire, &token, Some(&new), aws.by_admin()));
        no(verify(&place, &new), Reason::Credential);
        assert_eq!(yes(retire(&place, &new, aws.by_admin())), "");
    }
    // The one that was there first is the only one.
    let note = yes(place.ask(&request(&place, Step::Rehearse, TOKEN, None, aws.by_admin())));
    assert!(note.contains("1 of 2 keys"), "{note}");
    yes(verify(&place, &aws.app));
}
