//! `replace`, by an admin with the least rights: with a password, by a function, by a certificate.

use std::fs;

use keywheel_protocol::{By, Reason, Reply, Step};
use serde_json::json;

use super::support::{Place, no, not_reached, yes};
use super::test_server::Release;
use super::{ADMIN, ADMIN_PASSWORD, OWN_RIGHTS, PAGE, assert_no_secret_in, server};

at_each_release! {
    i8_an_admin_with_the_rights_of_the_page_sets_passwords_and_reaches_no_further
    a_function_sets_what_it_was_made_for_and_nothing_else
    an_admin_known_by_its_certificate_needs_no_password
}

fn i8_an_admin_with_the_rights_of_the_page_sets_passwords_and_reaches_no_further(release: Release) {
    let (server, place) = server(release, "CREATE ROLE billing LOGIN; CREATE ROLE other LOGIN", OWN_RIGHTS);
    server.create_login("app", "marker-first");
    let rehearse = |user| place.ask(&place.request(Step::Rehearse, Some((user, "marker-0")), Some(ADMIN)));
    yes(rehearse("billing"));
    no(place.verify("billing", "marker-0"), Reason::Credential);
    for new in ["marker-1'; \\ \"$1", &format!("marker-{}", "x".repeat(8 << 10)), "marker-2"] {
        for _ in 0..2 {
            yes(place.apply("billing", new, ADMIN));
        }
        yes(place.verify("billing", new));
        assert!(server.login_works("billing", new), "psql logs in as well");
    }
    no(place.verify("billing", "marker-1"), Reason::Credential);
    let Reply::Yes(found) = place.ask(&place.request(Step::Discover, None, Some(ADMIN))) else { panic!("no roles") };
    assert!(found.accounts.expect("accounts").iter().any(|account| account.name == "billing"));
    // The account by itself, over TLS.
    let tls = place.clone().with("host", "localhost").with("tls", "verify-full");
    let tls = tls.with("ca_file", server.ca_file.to_str().expect("UTF-8"));
    yes(tls.apply("app", "marker-second", (By::Account, "app", "marker-first")));
    yes(tls.verify("app", "marker-second"));
    no(tls.verify("app", "marker-first"), Reason::Credential);

    no(place.apply("admin", "marker-3", ADMIN), Reason::Privilege);
    let by_hand = |sql: &str| server.psql_as("keywheel", ADMIN_PASSWORD, sql);
    if server.version() >= 16 {
        for refused in [place.apply("other", "marker-3", ADMIN), rehearse("other")] {
            assert!(no(refused, Reason::Privilege).contains("ADMIN option on the role"));
        }
        for sql in ["SET ROLE billing", "GRANT pg_execute_server_program TO keywheel", "DROP ROLE other"] {
            assert!(by_hand(sql).expect_err(sql).contains("permission denied"), "{sql}");
        }
    } else {
        yes(rehearse("other"));
        by_hand("GRANT pg_execute_server_program TO keywheel").expect("as the page warns");
    }
    // Its own password, when its turn comes.
    yes(place.apply("keywheel", "marker-4", (By::Account, "keywheel", ADMIN_PASSWORD)));
    yes(place.apply("billing", "marker-5", (By::Admin, "keywheel", "marker-4")));
    assert_no_secret_in(&server.log());
}

fn a_function_sets_what_it_was_made_for_and_nothing_else(release: Release) {
    let roles = "CREATE ROLE billing LOGIN; CREATE ROLE shop LOGIN; CREATE ROLE other LOGIN";
    let (server, place) = server(release, roles, "The least right of all");
    let statement = PAGE.split("with `set_statement = \"").nth(1).and_then(|rest| rest.split('"').next());
    let place = place.with("set_statement", statement.expect("a statement"));
    yes(place.apply("billing", "marker-1", ADMIN));
    yes(place.verify("billing", "marker-1"));
    no(place.apply("other", "marker-2", ADMIN), Reason::Unsupported);
    assert_no_secret_in(&server.log());
}

fn an_admin_known_by_its_certificate_needs_no_password(release: Release) {
    let (server, place) = server(release, "CREATE ROLE billing LOGIN; CREATE ROLE other LOGIN", OWN_RIGHTS);
    server.admin("ALTER ROLE keywheel PASSWORD NULL");
    let rule = PAGE.lines().find(|line| line.starts_with("hostssl")).expect("a rule").replace("10.0.0.7", "127.0.0.1");
    let hba = server.data_dir.join("pg_hba.conf");
    let rules = fs::read_to_string(&hba).expect("the rules");
    fs::write(&hba, format!("{rule}\n{}\n{rules}", rule.replace("keywheel", "other"))).expect("written");
    server.reload();

    let file = |name: &str| server.ca_file.with_file_name(name).to_str().expect("UTF-8").to_owned();
    let tls = place.with("host", "localhost").with("tls", "verify-full").with("ca_file", file("ca.pem"));
    let tls = tls.with("admin_user", "keywheel");
    let place = tls.clone().with("client_cert", file("keywheel.pem")).with("client_key", file("keywheel.key"));
    let ask = |place: &Place, step| place.ask(&place.request(step, Some(("billing", "marker-1")), None));
    yes(ask(&place, Step::Rehearse));
    for _ in 0..2 {
        yes(ask(&place, Step::Apply));
    }
    yes(place.verify("billing", "marker-1"));
    assert!(matches!(place.ask(&place.request(Step::Discover, None, None)), Reply::Yes(_)));
    let in_turn = place.clone().credential("accounts", json!(["billing", "other"]));
    yes(ask(&in_turn, Step::Retire));
    no(place.verify("billing", "marker-1"), Reason::Credential);

    // None, one of an authority that the server does not know, one of another name, none of the key.
    assert!(no(ask(&tls, Step::Apply), Reason::Credential).contains("keywheel"));
    let stranger = tls.clone().with("client_cert", file("other-ca.pem")).with("client_key", file("other-ca.key"));
    not_reached(ask(&stranger, Step::Apply));
    let other = place.clone().with("admin_user", "other");
    assert!(no(ask(&other, Step::Apply), Reason::Credential).contains("other"));
    let half = tls.with("client_cert", file("keywheel.pem"));
    no(ask(&half, Step::Apply), Reason::Unsupported);
    no(ask(&place.with("tls", "disable"), Step::Apply), Reason::Credential);
    assert!(server.log().contains("cert"));
}
