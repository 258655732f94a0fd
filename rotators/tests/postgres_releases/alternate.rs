//! `alternate`, by an admin with the least rights.

use keywheel_protocol::{Reason, Step};
use serde_json::json;

use super::support::{Place, no, yes};
use super::test_server::{Postgres, Release};
use super::{ADMIN, ADMIN_PASSWORD, OWN_RIGHTS, assert_no_secret_in, memberships, page, quietly, server};

at_each_release! {
    alternate_makes_the_second_account_by_the_rights_of_the_page
    the_second_account_gets_no_more_of_a_membership_than_the_first_one_has
}

/// An admin, and what a block of the page is about.
fn with_admin(release: Release, before: &str, section: &str) -> (Postgres, Place) {
    let (server, place) = server(release, before, OWN_RIGHTS);
    quietly(&server, &page(section, server.version()));
    (server, place)
}

fn alternate_makes_the_second_account_by_the_rights_of_the_page(release: Release) {
    let (server, place) = with_admin(release, "CREATE ROLE billing", "## `alternate`");
    let place = place.credential("accounts", json!(["app_a", "app_b"]));
    server.admin("CREATE SCHEMA app AUTHORIZATION app; ALTER ROLE app_a CONNECTION LIMIT 7");
    let rehearse = place.request(Step::Rehearse, Some(("app_b", "marker-0")), Some(ADMIN));
    assert!(yes(place.ask(&rehearse)).contains("app_b would be made after app_a"));
    assert_eq!(server.admin("SELECT count(*) FROM pg_roles WHERE rolname = 'app_b'"), "0");
    for turn in ["1", "2"] {
        let (b, a) = (format!("marker-b{turn}"), format!("marker-a{turn}"));
        yes(place.apply("app_b", &b, ADMIN));
        yes(place.verify("app_b", &b));
        let sql = format!("CREATE TABLE app.made_{turn} (x int)");
        server.psql_as("app_b", &b, &sql).expect("it may what app_a may");
        let old = if turn == "1" { ADMIN_PASSWORD } else { "marker-a1" };
        for _ in 0..2 {
            yes(place.retire("app_a", old, ADMIN));
            no(place.verify("app_a", old), Reason::Credential);
        }
        yes(place.apply("app_a", &a, ADMIN));
        yes(place.verify("app_a", &a));
        yes(place.retire("app_b", &b, ADMIN));
    }
    assert_eq!(server.admin("SELECT DISTINCT tableowner FROM pg_tables WHERE schemaname = 'app'"), "app");
    assert_eq!(server.admin("SELECT rolconnlimit FROM pg_roles WHERE rolname = 'app_b'"), "7");
    assert_eq!(memberships(&server, "app_b"), memberships(&server, "app_a"));
    assert_no_secret_in(&server.log());
}

fn the_second_account_gets_no_more_of_a_membership_than_the_first_one_has(release: Release) {
    let (server, place) = with_admin(release, "CREATE ROLE billing", "## `alternate`");
    let place = place.credential("accounts", json!(["app_a", "app_b"]));
    server.admin("CREATE ROLE member_of_app; CREATE ROLE readers; GRANT app TO app_a WITH ADMIN OPTION");
    server.admin("SET ROLE app_a; GRANT app TO member_of_app");
    if server.version() >= 16 {
        server.admin(
            "CREATE ROLE hidden; CREATE ROLE named; CREATE ROLE own;
             GRANT hidden TO app_a WITH INHERIT FALSE; GRANT named TO app_a WITH INHERIT FALSE, SET FALSE;
             GRANT readers TO app_a WITH SET FALSE;
             GRANT hidden, named, readers TO keywheel WITH ADMIN OPTION, INHERIT FALSE, SET FALSE;
             -- As a role that it has made would be: out of the reach of keywheel.
             GRANT own TO app_a WITH ADMIN OPTION, INHERIT FALSE, SET FALSE",
        );
    } else {
        server.admin("GRANT readers TO app_a");
    }
    if server.version() >= 16 {
        server.admin("GRANT own TO app_a WITH INHERIT TRUE");
        // The server's own word is an internal error.
        assert!(no(place.apply("app_b", "marker-0", ADMIN), Reason::Privilege).contains("no possible grantors"));
        server.admin("GRANT own TO app_a WITH INHERIT FALSE");
    }
    let note = yes(place.apply("app_b", "marker-1", ADMIN));
    assert!(note.contains("lacks the admin option in app"), "{note}");
    // That app_a has let someone in is no privilege of its own.
    assert!(!note.contains("is a member of it"), "{note}");
    let of_first = memberships(&server, "app_a");
    let without_own: Vec<_> = of_first.lines().filter(|line| !line.starts_with("own|")).collect();
    assert_eq!(memberships(&server, "app_b").lines().collect::<Vec<_>>(), without_own);
}
