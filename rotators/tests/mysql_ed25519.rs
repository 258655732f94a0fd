//! The mysql rotator and accounts of `ed25519`, at a real MariaDB.

#[path = "../../tests/support/mariadb.rs"]
mod mariadb;
mod support;

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};

use keywheel_protocol::{By, Reason, Reply, Step};
use mariadb::MariaDb;
use serde_json::json;
use support::{Place, in_doubt, no, not_reached, yes};

fn start() -> MariaDb {
    let server = MariaDb::start();
    server.root(
        "INSTALL SONAME 'auth_ed25519'; CREATE FUNCTION ed25519_password RETURNS STRING SONAME 'auth_ed25519.so'; \
         CREATE USER app IDENTIFIED VIA ed25519 USING PASSWORD('marker-1'); \
         CREATE USER signer IDENTIFIED VIA ed25519 USING PASSWORD('of-signer'); \
         GRANT CREATE USER ON *.* TO signer; GRANT SELECT ON mysql.* TO signer",
    );
    server
}

fn by_tcp(server: &MariaDb) -> Place {
    Place::new("mysql", json!({ "host": "127.0.0.1", "port": server.port, "tls": "disabled" }))
}

fn admin(server: &MariaDb) -> (By, &str, &str) {
    (By::Admin, "admin", &server.admin_password)
}

/// An admin that logs in by a signature as well.
const SIGNER: (By, &str, &str) = (By::Admin, "signer", "of-signer");

/// What the server has of an account.
fn created(server: &MariaDb, user: &str) -> String {
    server.root(&format!("SHOW CREATE USER {user}"))
}

#[test]
fn i8_passwords_change_by_signature_and_no_log_of_the_server_shows_them() {
    let server = start();
    let place = by_tcp(&server);
    let long = format!("marker-{}", "x".repeat(200));
    let mut old = "marker-1";
    yes(place.verify("app", old));
    for new in ["marker-2'; \\ \"$1", long.as_str(), " marker-3 "] {
        yes(place.apply("app", new, (By::Account, "app", old)));
        yes(place.verify("app", new));
        no(place.verify("app", old), Reason::Credential);
        let hash = server.root(&format!(
            "SET SESSION sql_mode = 'NO_BACKSLASH_ESCAPES'; SELECT ed25519_password('{}')",
            new.replace('\'', "''")
        ));
        assert!(created(&server, "app").ends_with(&format!("IDENTIFIED VIA ed25519 USING '{hash}'")));
        old = new;
    }
    let note = yes(place.apply("app", old, (By::Account, "app", "marker-1")));
    assert!(note.contains("in force already"), "{note}");
    // By an admin; twice, as after a crash.
    for login in [admin(&server), SIGNER] {
        for _ in 0..2 {
            yes(place.apply("app", "marker-4", login));
        }
        yes(place.verify("app", "marker-4"));
        yes(place.apply("app", "marker-5", login));
        no(place.verify("app", "marker-4"), Reason::Credential);
    }
    assert!(server.login_works("app", "marker-5"), "the server's own client logs in as well");
    assert!(created(&server, "app").contains("VIA ed25519 USING"), "and the method stays");
    let log = server.log();
    assert!(log.contains("SET PASSWORD") && log.contains("ALTER USER"), "the statements are in the logs");
    for marker in ["marker-2", "marker-3", "marker-4", "marker-5", &long] {
        assert!(!log.contains(marker), "{marker}");
    }
}

#[test]
fn two_signatures_are_valid_at_a_time_until_the_old_one_is_taken_away() {
    let server = start();
    let place = by_tcp(&server).credential("strategy", "overlap");
    let mut old = "marker-1";
    for (new, login) in [("marker-2", admin(&server)), ("marker-3", SIGNER)] {
        for _ in 0..2 {
            yes(place.apply("app", new, login));
        }
        for password in [new, old] {
            yes(place.verify("app", password));
            assert!(server.login_works("app", password), "by MariaDB's own client");
        }
        no(place.verify("app", "neither"), Reason::Credential);
        for _ in 0..2 {
            yes(place.retire("app", old, login));
        }
        yes(place.verify("app", new));
        no(place.verify("app", old), Reason::Credential);
        old = new;
    }
    assert!(no(place.retire("app", old, SIGNER), Reason::Unsupported).contains("only password"));
    no(place.apply("app", "marker-4", (By::Account, "app", old)), Reason::Unsupported);
    let methods = ["a", "b", "c", "d"].map(|word| format!("ed25519 USING PASSWORD('{word}')"));
    server.root(&format!("ALTER USER app IDENTIFIED VIA {}", methods.join(" OR ")));
    let said = no(place.apply("app", "marker-4", SIGNER), Reason::Unsupported);
    assert!(said.contains("has 4 passwords"), "{said}");
    let replace = by_tcp(&server);
    assert!(
        no(replace.apply("app", "marker-4", (By::Account, "app", "b")), Reason::Unsupported).contains("4 passwords")
    );
    let log = server.log();
    assert!(!log.contains("marker-2") && !log.contains("marker-3") && !log.contains("marker-4"), "i8");
}

#[test]
fn an_account_of_several_methods_logs_in_by_each_and_is_not_changed() {
    let server = start();
    let place = by_tcp(&server);
    for methods in [
        "ed25519 USING PASSWORD('signed') OR mysql_native_password USING PASSWORD('native')",
        "mysql_native_password USING PASSWORD('native') OR ed25519 USING PASSWORD('signed')",
    ] {
        server.root(&format!("ALTER USER app IDENTIFIED VIA {methods}"));
        let before = created(&server, "app");
        for password in ["signed", "native"] {
            yes(place.verify("app", password));
            no(place.apply("app", "marker-2", (By::Account, "app", password)), Reason::Unsupported);
        }
        no(place.verify("app", "neither"), Reason::Credential);
        let said = no(place.apply("app", "marker-2", SIGNER), Reason::Unsupported);
        assert!(said.contains("ed25519") && said.contains(" or "), "{said}");
        assert_eq!(created(&server, "app"), before);
    }
}

#[test]
fn accounts_in_turn_are_made_useless_and_useful_again() {
    let server = start();
    server.root("CREATE USER app_b IDENTIFIED VIA ed25519 USING PASSWORD('old-b')");
    let place = by_tcp(&server).credential("accounts", json!(["app", "app_b"]));
    yes(place.apply("app_b", "new-b", SIGNER));
    yes(place.verify("app_b", "new-b"));
    for _ in 0..2 {
        yes(place.retire("app", "marker-1", SIGNER));
    }
    no(place.verify("app", "marker-1"), Reason::Credential);
    yes(place.apply("app", "new-a", SIGNER));
    yes(place.verify("app", "new-a"));
}

#[test]
fn the_settings_of_tls_hold_for_the_connection_that_is_signed_for() {
    let authorities = [(); 2].map(|()| tempfile::tempdir().expect("a folder"));
    let ca_file = authorities[0].path().join("ca.pem");
    let [mut server, mut second] = [(); 2].map(|()| start());
    server.certified(authorities[0].path(), "localhost");
    server.root("ALTER USER app REQUIRE SSL");
    let to = |tls: &str, port: u16| {
        let place = Place::new("mysql", json!({ "host": "localhost", "port": port, "tls": tls }));
        if tls.starts_with("verify") { place.with("ca_file", ca_file.to_str().expect("UTF-8")) } else { place }
    };
    no(to("disabled", server.port).verify("app", "marker-1"), Reason::Credential);
    yes(to("required", server.port).verify("app", "marker-1"));
    yes(to("verify-ca", server.port).verify("app", "marker-1"));
    yes(to("verify-identity", server.port).apply("app", "marker-1", (By::Account, "app", "marker-1")));

    // sqlx is asked for a signature by the server that is meant; the second connection ends at another one.
    let diverted = |tls: &str, second: &MariaDb| to(tls, in_turn([server.port, second.port]));
    second.certified(authorities[0].path(), "elsewhere");
    yes(diverted("required", &second).verify("app", "marker-1"));
    yes(diverted("verify-ca", &second).verify("app", "marker-1"));
    let said = no(diverted("verify-identity", &second).verify("app", "marker-1"), Reason::Unsupported);
    assert!(said.contains("not valid for name"), "{said}");
    second.certified(authorities[1].path(), "localhost");
    yes(diverted("required", &second).verify("app", "marker-1"));
    for tls in ["verify-ca", "verify-identity"] {
        let said = no(diverted(tls, &second).verify("app", "marker-1"), Reason::Unsupported);
        assert!(said.contains("UnknownIssuer") || said.contains("BadSignature"), "{said}");
    }
}

/// A port whose connections end at each of these in turn.
fn in_turn(ports: [u16; 2]) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("its address").port();
    std::thread::spawn(move || {
        for (client, to) in listener.incoming().zip(ports.into_iter().cycle()) {
            let (Ok(client), Ok(server)) = (client, TcpStream::connect(("127.0.0.1", to))) else { return };
            for (from, to) in [(&client, &server), (&server, &client)] {
                let (Ok(mut from), Ok(mut to)) = (from.try_clone(), to.try_clone()) else { return };
                std::thread::spawn(move || {
                    let _ = std::io::copy(&mut from, &mut to);
                    let _ = to.shutdown(std::net::Shutdown::Write);
                });
            }
        }
    });
    port
}

#[test]
fn connections_end_without_a_warning_in_the_log_of_the_server() {
    let server = start();
    server.root("CREATE USER native IDENTIFIED BY 'marker-1'");
    let place = by_tcp(&server);
    for user in ["app", "native"] {
        yes(place.verify(user, "marker-1"));
        yes(place.apply(user, "marker-2", SIGNER));
        no(place.verify(user, "marker-1"), Reason::Credential);
    }
    let log = server.log();
    assert!(log.contains("Access denied for user 'app'") && !log.contains("reading communication packets"), "{log}");
}

#[test]
fn a_unix_socket_is_reached_by_signature_from_inside_the_cage() {
    let server = start();
    let place = Place::new("mysql", json!({ "host": server.socket.to_str().expect("UTF-8") }));
    yes(place.apply("app", "marker-2", (By::Account, "app", "marker-1")));
    yes(place.verify("app", "marker-2"));
}

#[test]
fn i5_a_refused_signature_counts_once_against_the_lock_out() {
    let server = start();
    server.root("SET GLOBAL max_password_errors = 2");
    let place = by_tcp(&server);
    for _ in 0..3 {
        no(place.verify("app", "wrong"), Reason::Credential);
        yes(place.verify("app", "marker-1"));
    }
    for _ in 0..2 {
        no(place.verify("app", "wrong"), Reason::Credential);
    }
    no(place.verify("app", "marker-1"), Reason::Locked);
}

#[test]
fn a_rehearsal_and_a_discovery_by_signature_say_what_apply_would() {
    let server = start();
    let place = by_tcp(&server);
    let before = created(&server, "app");
    let rehearse =
        |place: &Place, login| place.ask(&place.request(Step::Rehearse, Some(("app", "aA1-marker-new")), Some(login)));
    for login in [SIGNER, admin(&server), (By::Account, "app", "marker-1")] {
        yes(rehearse(&place, login));
    }
    yes(rehearse(&place.clone().credential("strategy", "overlap"), SIGNER));
    no(rehearse(&place, (By::Admin, "signer", "wrong")), Reason::Credential);
    no(rehearse(&place, (By::Admin, "app", "marker-1")), Reason::Privilege);
    let reply = place.ask(&place.request(Step::Discover, None, Some(SIGNER)));
    let Reply::Yes(found) = reply else { panic!("{reply:?}") };
    let accounts = found.accounts.expect("accounts");
    let app = accounts.iter().find(|account| account.name == "app").expect("app");
    assert_eq!(app.facts["plugin"], "ed25519");
    // A server that checks passwords takes no hash of this method either.
    server.root("INSTALL SONAME 'simple_password_check'");
    for login in [SIGNER, (By::Account, "app", "marker-1")] {
        let said = no(rehearse(&place, login), Reason::Unsupported);
        assert!(said.contains("clear_text = true"), "{said}");
        assert_eq!(no(place.apply("app", "aA1-marker-new", login), Reason::Unsupported), said);
    }
    assert_eq!(created(&server, "app"), before);
    let clear = place.with("clear_text", true);
    no(clear.apply("app", "weak", SIGNER), Reason::Policy);
    yes(clear.apply("app", "aA1-marker-new", SIGNER));
    yes(clear.apply("app", "aA1-marker-newer", (By::Account, "app", "aA1-marker-new")));
    yes(clear.verify("app", "aA1-marker-newer"));
    assert!(created(&server, "app").contains("VIA ed25519 USING"), "the method stays");
}

#[test]
fn i3_a_change_that_was_sent_and_not_answered_is_in_doubt() {
    let server = start();
    let place = by_tcp(&server).with("port", cut_off_after(b"SET PASSWORD", server.port));
    in_doubt(place.apply("app", "marker-2", (By::Account, "app", "marker-1")));
    let place = by_tcp(&server);
    yes(place.verify("app", "marker-2"));
    // Before the statement, nothing can have changed.
    let place = place.with("port", cut_off_after(b"client_ed25519", server.port));
    not_reached(place.apply("app", "marker-3", (By::Account, "app", "marker-2")));
}

/// A port that passes everything on, until these bytes have gone to the server; no answer comes back from then on.
fn cut_off_after(words: &'static [u8], to: u16) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("its address").port();
    std::thread::spawn(move || {
        for client in listener.incoming() {
            let (Ok(mut client), Ok(mut server)) = (client, TcpStream::connect(("127.0.0.1", to))) else { return };
            let (Ok(mut answers), Ok(mut asker)) = (server.try_clone(), client.try_clone()) else { return };
            std::thread::spawn(move || std::io::copy(&mut answers, &mut asker));
            std::thread::spawn(move || {
                let mut buffer = [0; 4096];
                while let Ok(read @ 1..) = client.read(&mut buffer) {
                    let sent = &buffer[..read];
                    let last = sent.windows(words.len()).any(|window| window == words);
                    if last {
                        let _ = client.shutdown(std::net::Shutdown::Both);
                    }
                    if server.write_all(sent).is_err() || last {
                        return;
                    }
                }
            });
        }
    });
    port
}
