//! The postgres rotator against a real server.

mod support;
#[path = "../../tests/support/postgres.rs"]
mod test_server;

use std::io::Write;
use std::net::TcpListener;
use std::os::unix::net::UnixListener;
use std::process::Command;
use std::thread::{sleep, spawn};
use std::time::{Duration, Instant};

use keywheel_protocol::{By, Reason, Reply, Step};
use serde_json::json;
use support::{Place, in_doubt, no, not_reached, reply_of, send, yes};
use test_server::{PgOptions, Postgres};

const ODD: &str = r#"we"ird'; drop role x; --"#;

fn by_tcp(server: &Postgres) -> Place {
    Place::new("postgres", json!({ "host": "127.0.0.1", "port": server.port, "tls": "disable" }))
}

fn admin(server: &Postgres) -> (By, &str, &str) {
    (By::Admin, &server.superuser, &server.superuser_password)
}

#[test]
fn i8_complaint_16_passwords_change_and_the_server_log_shows_none_of_them() {
    let server = Postgres::start(PgOptions { tls: true, log_statement_all: true });
    let plain = by_tcp(&server);
    let tls = plain.clone().with("host", "localhost").with("tls", "verify-full");
    let tls = tls.with("ca_file", server.ca_file.to_str().expect("UTF-8"));
    let long = ["x", "y"].map(|letter| format!("marker-{}", letter.repeat(8 << 10)));
    let news = ["marker-2'; \\ \"$1", long[0].as_str(), long[1].as_str(), " marker-3 "];
    for user in ["app", ODD, "Ünïcode", "UPPER case", &"n".repeat(63)] {
        server.create_login(user, "marker-1");
        let place = if user == ODD { &tls } else { &plain };
        let mut old = "marker-1";
        for new in news {
            yes(place.apply(user, new, (By::Account, user, old)));
            yes(place.verify(user, new));
            no(place.verify(user, old), Reason::Credential);
            old = new;
        }
        // By the admin; twice, as after a crash.
        for _ in 0..2 {
            yes(place.apply(user, "marker-4", admin(&server)));
        }
        yes(place.verify(user, "marker-4"));
        assert!(server.login_works(user, "marker-4"), "psql logs in as well");
    }
    let log = server.log();
    assert!(log.contains("SCRAM-SHA-256$4096:"), "the statements are in the log");
    assert!(!log.contains("marker"), "no password is");
}

#[test]
fn apply_done_twice_by_the_account_itself_is_harmless() {
    let server = Postgres::start(PgOptions::default());
    server.create_login("app", "old");
    let place = by_tcp(&server);
    yes(place.apply("app", "new", (By::Account, "app", "old")));
    let note = yes(place.apply("app", "new", (By::Account, "app", "old")));
    assert!(note.contains("in force already"), "{note}");
    let message = no(place.apply("app", "newer", (By::Account, "app", "old")), Reason::Credential);
    assert!(message.contains("app was refused") && message.contains("28P01"), "{message}");
    yes(place.verify("app", "new"));
}

#[test]
fn a_role_that_becomes_another_at_login_changes_its_own_password() {
    let server = Postgres::start(PgOptions::default());
    server.create_login("app", "old");
    server.admin("CREATE ROLE owner NOLOGIN; GRANT owner TO app; ALTER ROLE app SET role = owner;");
    let place = by_tcp(&server);
    yes(place.apply("app", "new", (By::Account, "app", "old")));
    yes(place.verify("app", "new"));
}

#[test]
fn each_no_says_why_and_changes_nothing() {
    let server = Postgres::start(PgOptions::default());
    for user in ["app", "weak", "locked", "expired"] {
        server.create_login(user, "old");
    }
    server.admin("ALTER ROLE locked NOLOGIN; ALTER ROLE expired VALID UNTIL '2020-01-01'; CREATE DATABASE closed;");
    server.admin("REVOKE CONNECT ON DATABASE closed FROM public;");
    let place = by_tcp(&server);
    let by_admin = admin(&server);

    let wrong = (By::Admin, by_admin.1, "wrong");
    assert!(no(place.apply("app", "new", wrong), Reason::Credential).contains("login of admin"));
    no(place.apply("nobody", "new", by_admin), Reason::Missing);
    assert!(no(place.apply("app", "new", (By::Admin, "weak", "old")), Reason::Privilege).contains("42501"));
    no(place.apply("app", "new", (By::Account, "weak", "old")), Reason::Unsupported);
    assert!(no(place.apply("locked", "new", by_admin), Reason::Locked).contains("ALTER ROLE \"locked\" LOGIN"));
    assert!(no(place.apply("expired", "new", by_admin), Reason::Locked).contains("2020-01-01"));
    assert!(no(place.verify("locked", "old"), Reason::Credential).contains("not permitted to log in"));
    no(place.verify("expired", "old"), Reason::Credential);
    no(place.verify("nobody", "old"), Reason::Credential);
    no(place.apply("app", "nul\0", by_admin), Reason::Unsupported);
    no(place.apply("app", "pässword", by_admin), Reason::Policy);
    no(place.apply("app", "tab\t", by_admin), Reason::Policy);
    no(place.apply("app", "", by_admin), Reason::Policy);
    no(place.apply("app", &"x".repeat(20_000), by_admin), Reason::Policy);
    no(place.apply(&"n".repeat(64), "new", by_admin), Reason::Unsupported);
    no(place.verify("a,b", "x"), Reason::Unsupported);
    let elsewhere = place.clone().credential("database", "closed");
    no(elsewhere.verify("app", "old"), Reason::Privilege);
    no(place.clone().credential("database", "nowhere").verify("app", "old"), Reason::Unsupported);
    for (name, value) in [("tls", "sometimes"), ("port", "0"), ("host", ""), ("ca_file", "")] {
        no(place.clone().with(name, value).verify("app", "old"), Reason::Unsupported);
    }
    yes(place.verify("app", "old"));

    // Modules that check passwords answer like this one.
    server.admin("ALTER SYSTEM SET default_transaction_read_only = on;");
    server.reload();
    assert!(no(place.apply("app", "new", by_admin), Reason::Unsupported).contains("standby"));
}

#[test]
fn a_policy_of_the_server_is_told_from_other_refusals() {
    let server = Postgres::start(PgOptions::default());
    // passwordcheck looks at SCRAM verifiers too: a password that equals the role's name is found out.
    server.admin("ALTER SYSTEM SET shared_preload_libraries = 'passwordcheck';");
    let mut server = server;
    server.stop();
    server.start_again();
    server.create_login("application", "long-enough-1");
    let place = by_tcp(&server);
    let message = no(place.apply("application", "application", admin(&server)), Reason::Policy);
    assert!(message.contains("must not equal user name"), "{message}");
    yes(place.apply("application", "something-else-2", admin(&server)));
}

/// As an old server has it: a certificate that nobody signed, for a name that is not the host's.
#[test]
fn a_servers_own_certificate_pins_it() {
    let server = Postgres::start(PgOptions { tls: true, log_statement_all: false });
    server.create_login("app", "pw");
    let known = tempfile::tempdir().expect("a folder");
    let known = known.path().join("known.pem");
    let own_certificate = || {
        let folder = tempfile::tempdir().expect("a folder");
        let mut openssl = std::process::Command::new("openssl");
        openssl.args(["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "3", "-subj", "/CN=old-box"]);
        openssl.args(["-addext", "basicConstraints=critical,CA:FALSE", "-keyout", "server.key", "-out", "server.pem"]);
        assert!(openssl.current_dir(folder.path()).output().expect("openssl runs").status.success());
        for name in ["server.key", "server.pem"] {
            // Into the file that is there: it stays the server's own.
            let made = std::fs::read(folder.path().join(name)).expect("made");
            std::fs::write(server.ca_file.with_file_name(name), made).expect("written");
        }
        server.reload();
        folder
    };
    let made = own_certificate();
    std::fs::copy(made.path().join("server.pem"), &known).expect("copied");
    let place = by_tcp(&server).with("tls", "verify-ca").with("ca_file", known.to_str().expect("UTF-8"));
    yes(place.verify("app", "pw"));
    not_reached(place.clone().with("tls", "verify-full").verify("app", "pw"));
    // Another one of the same name.
    own_certificate();
    not_reached(place.verify("app", "pw"));
}

#[test]
fn tls_is_verified_as_libpq_names_it() {
    let server = Postgres::start(PgOptions { tls: true, log_statement_all: false });
    server.create_login("app", "pw");
    let ca = server.ca_file.to_str().expect("UTF-8");
    let other = server.ca_file.with_file_name("other-ca.pem");
    let other = other.to_str().expect("UTF-8");
    let place = by_tcp(&server);
    let with = |host: &str, tls: &str, ca: Option<&str>| {
        let place = place.clone().with("host", host).with("tls", tls);
        ca.map_or(place.clone(), |ca| place.with("ca_file", ca)).verify("app", "pw")
    };
    for (host, tls, ca) in [
        ("127.0.0.1", "disable", None),
        ("127.0.0.1", "prefer", None),
        ("127.0.0.1", "require", None),
        ("127.0.0.1", "require", Some(ca)),
        ("localhost", "verify-ca", Some(ca)),
        ("localhost", "verify-full", Some(ca)),
        ("127.0.0.1", "verify-full", Some(ca)),
    ] {
        yes(with(host, tls, ca));
    }
    for (tls, authority) in
        [("require", Some(other)), ("verify-ca", Some(other)), ("verify-full", Some(other)), ("verify-full", None)]
    {
        let message = not_reached(with("localhost", tls, authority));
        assert!(message.contains("UnknownIssuer"), "{tls}: {message}");
    }
    assert!(no(with("localhost", "verify-ca", None), Reason::Unsupported).contains("needs a ca_file"));
    assert!(no(with("localhost", "verify-full", Some("/nowhere.pem")), Reason::Unsupported).contains("/nowhere.pem"));

    // A name that the certificate does not have: verify-ca does not mind, verify-full does.
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").expect("a host name");
    let name = name.trim();
    if std::net::ToSocketAddrs::to_socket_addrs(&(name, 0)).is_ok_and(|mut all| all.any(|a| a.ip().is_loopback())) {
        let relay = relay_to(name, server.port);
        let by_name = |tls: &str| {
            let place = place.clone().with("host", name).with("port", relay).with("tls", tls).with("ca_file", ca);
            place.verify("app", "pw")
        };
        yes(by_name("verify-ca"));
        assert!(not_reached(by_name("verify-full")).contains("not valid for name"));
    }

    // A server without TLS: only the modes that allow it get through.
    let plain = Postgres::start(PgOptions::default());
    plain.create_login("app", "pw");
    let place = by_tcp(&plain);
    let message = not_reached(place.clone().with("tls", "require").verify("app", "pw"));
    assert!(message.contains("does not support TLS"), "{message}");
    assert!(!plain.log().contains("user=app"), "no login was tried in the clear");
    yes(place.with("tls", "prefer").verify("app", "pw"));
    assert!(plain.log().contains("user=app"));
}

/// A port of this host's own name that leads to the server.
fn relay_to(name: &str, port: u16) -> u16 {
    let listener = TcpListener::bind((name, 0)).expect("a port");
    let own = listener.local_addr().expect("its address").port();
    spawn(move || {
        for client in listener.incoming().flatten() {
            let Ok(server) = std::net::TcpStream::connect(("127.0.0.1", port)) else { continue };
            for (from, to) in [(client.try_clone(), server.try_clone()), (Ok(server), Ok(client))] {
                let (Ok(mut from), Ok(mut to)) = (from, to) else { continue };
                spawn(move || {
                    let _ = std::io::copy(&mut from, &mut to);
                    let _ = to.shutdown(std::net::Shutdown::Write);
                });
            }
        }
    });
    own
}

#[test]
fn a_unix_socket_is_reached_from_inside_the_cage() {
    let server = Postgres::start(PgOptions::default());
    server.create_login("app", "old");
    let place = by_tcp(&server).with("host", server.socket_dir.to_str().expect("UTF-8")).with("tls", "verify-full");
    yes(place.apply("app", "new", (By::Account, "app", "old")));
    yes(place.verify("app", "new"));
    no(place.verify("app", "old"), Reason::Credential);
}

#[test]
fn i3_a_server_that_cannot_be_asked_is_not_reached() {
    let mut server = Postgres::start(PgOptions::default());
    server.create_login("app", "old");
    let by_account = (By::Account, "app", "old");
    let place = by_tcp(&server).deadline_ms(2_000);

    // Full.
    server.admin("ALTER ROLE app CONNECTION LIMIT 0;");
    assert!(not_reached(place.apply("app", "new", by_account)).contains("53300"));
    // Down, by TCP and by socket, and a name that nobody has.
    let socket = server.socket_dir.to_str().expect("UTF-8").to_owned();
    server.stop();
    for host in ["127.0.0.1", socket.as_str(), "no-such-host.invalid"] {
        let place = place.clone().with("host", host);
        not_reached(place.apply("app", "new", by_account));
        not_reached(place.verify("app", "old"));
        not_reached(place.retire("app", "old", by_account).into_retired());
    }
    // Takes connections and is silent; takes them and hangs up.
    let silent = TcpListener::bind("127.0.0.1:0").expect("a port");
    let quick = TcpListener::bind("127.0.0.1:0").expect("a port");
    let folder = tempfile::tempdir().expect("a folder");
    let silent_socket = UnixListener::bind(folder.path().join(".s.PGSQL.5432")).expect("a socket");
    let port = |listener: &TcpListener| listener.local_addr().expect("its address").port();
    let (silent_port, quick_port) = (port(&silent), port(&quick));
    spawn(move || quick.incoming().for_each(drop));
    let start = Instant::now();
    for tls in ["disable", "verify-full"] {
        let place = place.clone().with("tls", tls);
        not_reached(place.clone().with("port", silent_port).apply("app", "new", by_account));
        not_reached(place.clone().with("port", quick_port).apply("app", "new", by_account));
    }
    let by_socket = place.clone().with("host", folder.path().to_str().expect("UTF-8")).with("port", 5432);
    assert!(not_reached(by_socket.verify("app", "old")).contains("in time"));
    assert!(start.elapsed() < Duration::from_secs(7), "each within its own deadline of 2 s");
    drop((silent, silent_socket));

    // Not PostgreSQL at all.
    let odd = TcpListener::bind("127.0.0.1:0").expect("a port");
    let odd_port = port(&odd);
    spawn(move || {
        let mut clients = Vec::new();
        for mut client in odd.incoming().flatten() {
            let _ = client.write_all(b"SSH-2.0-OpenSSH_9.2\r\n");
            clients.push(client);
        }
    });
    let place_of_odd = place.clone().with("port", odd_port);
    not_reached(place_of_odd.clone().with("tls", "verify-full").apply("app", "new", by_account));
    // Without TLS the client library takes the greeting for a length and dies of it: no answer, but no harm either.
    let request = place_of_odd.request(Step::Apply, Some(("app", "new")), Some(by_account));
    let output = place_of_odd.run(&request);
    assert!(!output.status.success() && output.stdout.is_empty());
    server.start_again();
    server.admin("ALTER ROLE app CONNECTION LIMIT -1;");
    yes(place.verify("app", "old"));
}

trait IntoRetired {
    fn into_retired(self) -> Reply;
}

impl IntoRetired for Reply {
    /// Under `replace` a retire touches nothing and says yes; for the loop above that counts as not reached.
    fn into_retired(self) -> Reply {
        if matches!(self, Reply::Yes(_)) { Reply::not_reached("not needed") } else { self }
    }
}

#[test]
fn i3_a_change_that_was_sent_and_not_answered_is_in_doubt() {
    let mut server = Postgres::start(PgOptions::default());
    server.create_login("app", "old");
    let by_admin = (By::Admin, server.superuser.clone(), server.superuser_password.clone());
    let by_admin = (by_admin.0, by_admin.1.as_str(), by_admin.2.as_str());
    let lock = |server: &Postgres| {
        // Logins read the table of roles too: the worker must have logged in before the lock is taken.
        let psql = std::process::Command::new("psql")
            .args(["-X", "-h", "127.0.0.1", "-p", &server.port.to_string(), "-U", &server.superuser, "-d", "postgres"])
            .args(["-c", "BEGIN; LOCK TABLE pg_authid IN SHARE MODE; SELECT pg_sleep(60)"])
            .env("PGPASSWORD", &server.superuser_password)
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null())
            .spawn();
        let waiting =
            "SELECT count(*) FROM pg_locks WHERE relation = 'pg_authid'::regclass AND mode = 'ShareLock' AND granted";
        until(|| server.admin(waiting) == "1");
        psql.expect("psql starts")
    };
    let is_waiting = |server: &Postgres| {
        server
            .admin("SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE 'ALTER ROLE%'")
            == "1"
    };

    // The server gives up a statement that waits before this side does: known not to have happened.
    let mut locker = lock(&server);
    let place = by_tcp(&server).deadline_ms(3_000);
    let message = not_reached(place.apply("app", "new-0", by_admin));
    assert!(message.contains("57014") && message.contains("nothing was changed"), "{message}");

    // The server's process is stopped in the middle: no answer in time.
    let place = place.deadline_ms(4_000);
    let mut worker = place.start();
    send(&mut worker, &place.request(Step::Apply, Some(("app", "new-1")), Some(by_admin)));
    until(|| is_waiting(&server));
    let backend =
        server.admin("SELECT pid FROM pg_stat_activity WHERE query LIKE 'ALTER ROLE%' AND pid <> pg_backend_pid()");
    signal("-STOP", &backend);
    let start = Instant::now();
    assert!(in_doubt(reply_of(worker)).contains("in time"));
    assert!(start.elapsed() < Duration::from_secs(4));
    signal("-CONT", &backend);

    // An operator ends the connection in the middle.
    let place = place.deadline_ms(20_000);
    let mut worker = place.start();
    send(&mut worker, &place.request(Step::Apply, Some(("app", "new-2")), Some(by_admin)));
    until(|| is_waiting(&server));
    server.admin("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE 'ALTER ROLE%'");
    assert!(in_doubt(reply_of(worker)).contains("57P01"));

    // The server is killed in the middle.
    let mut worker = place.start();
    send(&mut worker, &place.request(Step::Apply, Some(("app", "new-3")), Some(by_admin)));
    until(|| is_waiting(&server));
    server.kill9();
    in_doubt(reply_of(worker));
    let _ = locker.kill();
    let _ = locker.wait();

    // In each case what follows is a verify, and here it finds the old password in force.
    server.start_again();
    let still = ["old", "new-0", "new-1", "new-2", "new-3"].map(|password| server.login_works("app", password));
    assert_eq!(still, [true, false, false, false, false]);
}

fn signal(signal: &str, pid: &str) {
    assert!(std::process::Command::new("kill").args([signal, pid]).status().expect("kill runs").success());
}

#[track_caller]
fn until(mut done: impl FnMut() -> bool) {
    let start = Instant::now();
    while !done() {
        assert!(start.elapsed() < Duration::from_secs(20), "it does not happen");
        sleep(Duration::from_millis(20));
    }
}

#[test]
fn alternate_makes_the_second_account_after_the_first() {
    let server = Postgres::start(PgOptions::default());
    server.create_login("app_a", "a-1");
    server.admin(
        "CREATE ROLE app_owner; CREATE ROLE \"odd \"\"group\"; CREATE DATABASE other;
         GRANT app_owner, \"odd \"\"group\" TO app_a; GRANT app_owner TO app_a WITH ADMIN OPTION;
         ALTER ROLE app_a NOINHERIT CONNECTION LIMIT 7 CREATEDB;
         ALTER ROLE app_a SET search_path TO '$user', \"My Schema\", public;
         ALTER ROLE app_a SET work_mem = '5MB';
         ALTER ROLE app_a SET \"my.tenant\" = 'it''s \\ 7';
         ALTER ROLE app_a SET role = 'app_owner';
         ALTER ROLE app_a IN DATABASE other SET statement_timeout = 1234;
         CREATE TABLE of_a (x int); ALTER TABLE of_a OWNER TO app_a;
         CREATE TABLE of_admin (x int); GRANT SELECT ON of_admin TO app_a;",
    );
    // What a role sets for itself must not become a statement of the admin's.
    server.admin("ALTER ROLE app_a IN DATABASE other SET search_path = 'x;ALTER/**/ROLE/**/app_a/**/SUPERUSER'");
    let place = by_tcp(&server).credential("accounts", json!(["app_a", "app_b"]));
    let note = yes(place.apply("app_b", "b-1", admin(&server)));
    for part in ["CREATEDB", "admin option in app_owner", "of its own on 1;", "owns 1 objects"] {
        assert!(note.contains(part), "{part}: {note}");
    }
    yes(place.verify("app_b", "b-1"));
    yes(place.verify("app_a", "a-1"));
    let facts = |role: &str| {
        server.admin(&format!(
            "SELECT rolinherit, rolconnlimit, rolsuper FROM pg_roles WHERE rolname = '{role}';
             SELECT roleid::regrole FROM pg_auth_members WHERE member = '{role}'::regrole ORDER BY 1;
             SELECT setdatabase, setconfig FROM pg_db_role_setting WHERE setrole = '{role}'::regrole ORDER BY 1;"
        ))
    };
    assert_eq!(facts("app_b").replace("app_a\n", ""), facts("app_a"));
    assert!(facts("app_b").contains("work_mem=5MB") && facts("app_b").contains("f|7|f"));

    // Again, as after a crash: the role stands and gets the same password.
    yes(place.apply("app_b", "b-1", admin(&server)));
    yes(place.verify("app_b", "b-1"));

    // The first account is out of turn now; retired twice.
    for _ in 0..2 {
        yes(place.retire("app_a", "a-1", admin(&server)));
        no(place.verify("app_a", "a-1"), Reason::Credential);
    }
    // A late retire of an old version does not touch the next one.
    yes(place.apply("app_a", "a-2", admin(&server)));
    yes(place.retire("app_a", "a-1", admin(&server)));
    yes(place.verify("app_a", "a-2"));
    no(place.retire("app_a", "a-2", (By::Account, "app_a", "a-2")), Reason::Unsupported);
    no(place.retire("admin", "x", admin(&server)), Reason::Unsupported);
    // Under `replace` the one account is left alone.
    yes(by_tcp(&server).credential("account", "app_a").retire("app_a", "a-2", admin(&server)));
    yes(place.verify("app_a", "a-2"));

    let place = by_tcp(&server).credential("accounts", json!(["ghost_a", "ghost_b"]));
    no(place.apply("ghost_b", "x", admin(&server)), Reason::Missing);
    no(by_tcp(&server).apply("app_c", "x", admin(&server)), Reason::Missing);
}

#[test]
fn the_second_account_shares_what_the_first_one_owns_and_was_granted() {
    let server = Postgres::start(PgOptions::default());
    server.create_login("app_a", "a-1");
    server.admin(
        "CREATE SCHEMA app AUTHORIZATION app_a; CREATE TABLE app.own (x int); ALTER TABLE app.own OWNER TO app_a;
         CREATE TABLE lent (x int); GRANT SELECT ON lent TO app_a;",
    );
    let place = by_tcp(&server).credential("accounts", json!(["app_a", "app_b"]));
    let rehearsed = place.ask(&place.request(Step::Rehearse, Some(("app_b", "b-0")), Some(admin(&server))));
    assert!(yes(rehearsed).contains("app_b would be made after app_a"));
    assert_eq!(
        server.admin("SELECT count(*) FROM pg_roles WHERE rolname = 'app_b'"),
        "0",
        "a rehearsal changes nothing"
    );
    let note = yes(place.apply("app_b", "b-1", admin(&server)));
    assert!(note.contains("is a member of it") && !note.contains("lacks"), "{note}");
    let as_b = |sql: &str| server.psql_as("app_b", "b-1", sql).expect("done");
    assert_eq!(as_b("INSERT INTO app.own VALUES (1); SELECT count(*) FROM lent; CREATE TABLE app.new (x int)"), "0");
    assert_eq!(server.admin("SELECT relowner::regrole FROM pg_class WHERE relname = 'new'"), "app_a");
    yes(place.retire("app_a", "a-1", admin(&server)));
    assert_eq!(as_b("SELECT count(*) FROM app.own"), "1", "its parent has no password and is a parent still");
}

#[test]
fn a_policy_for_the_first_account_is_one_for_the_second() {
    let server = Postgres::start(PgOptions::default());
    server.create_login("app_a", "a-1");
    server.admin(
        "CREATE ROLE app; GRANT app TO app_a; CREATE TABLE own (x int); INSERT INTO own VALUES (1); GRANT SELECT ON own TO app;
         ALTER TABLE own ENABLE ROW LEVEL SECURITY; CREATE POLICY of_a ON own TO app_a USING (true)",
    );
    let place = by_tcp(&server).credential("accounts", json!(["app_a", "app_b"]));
    yes(place.apply("app_b", "b-1", admin(&server)));
    assert_eq!(server.psql_as("app_b", "b-1", "SELECT count(*) FROM own").expect("allowed"), "1");
}

#[test]
fn a_rehearsal_predicts_each_no_and_changes_nothing() {
    let server = Postgres::start(PgOptions::default());
    server.create_login("app", "old");
    server.create_login("other", "other-1");
    server.create_login("weak_admin", "weak-1");
    let place = by_tcp(&server);
    let verifier = || server.admin("SELECT rolpassword FROM pg_authid WHERE rolname = 'app'");
    let before = verifier();
    let rehearse = |subject, login| place.ask(&place.request(Step::Rehearse, Some((subject, "new")), Some(login)));
    yes(rehearse("app", admin(&server)));
    yes(rehearse("app", (By::Account, "app", "old")));
    no(rehearse("app", (By::Account, "app", "wrong")), Reason::Credential);
    no(rehearse("app", (By::Admin, "weak_admin", "weak-1")), Reason::Privilege);
    no(rehearse("nobody", admin(&server)), Reason::Missing);
    server.admin("ALTER ROLE app NOLOGIN");
    no(rehearse("app", admin(&server)), Reason::Locked);
    server.admin("ALTER ROLE app LOGIN; ALTER SYSTEM SET default_transaction_read_only = on; SELECT pg_reload_conf()");
    until(|| server.admin("SHOW default_transaction_read_only") == "on");
    let said = no(rehearse("app", admin(&server)), Reason::Unsupported);
    assert!(said.contains("read-only") || said.contains("standby"), "{said}");
    assert_eq!(verifier(), before);
    assert!(server.login_works("app", "old"));
}

#[test]
fn an_admin_known_by_its_socket_peer_needs_no_password() {
    let server = Postgres::start(PgOptions::default());
    server.create_login("app", "unknown");
    server.admin("CREATE ROLE keywheel LOGIN");
    server.delegate("keywheel", "app");
    let hba = server.data_dir.join("pg_hba.conf");
    let rules = std::fs::read_to_string(&hba).expect("the rules");
    std::fs::write(&hba, format!("local all keywheel peer map=ops\n{rules}")).expect("written");
    let user = Command::new("id").arg("-un").output().expect("id").stdout;
    let user = String::from_utf8(user).expect("a name");
    // A server that was unpacked runs where this user is called nobody.
    let map = format!("ops {} keywheel\nops nobody keywheel\n", user.trim());
    std::fs::write(server.data_dir.join("pg_ident.conf"), map).expect("written");
    server.admin("SELECT pg_reload_conf()");
    let folder = server.socket_dir.display().to_string();
    let place = by_tcp(&server).with("host", folder).with("admin_user", "keywheel");
    let apply = |password| place.ask(&place.request(Step::Apply, Some(("app", password)), None));
    until(|| matches!(apply("first"), Reply::Yes(_)));
    yes(apply("second"));
    yes(place.verify("app", "second"));
    no(place.verify("app", "first"), Reason::Credential);
    let reply = place.ask(&place.request(Step::Discover, None, None));
    assert!(matches!(reply, Reply::Yes(_)), "{reply:?}");
}

#[test]
fn statements_of_the_operator_replace_the_usual_ones() {
    let server = Postgres::start(PgOptions::default());
    server.create_login("we\"ird'", "old");
    server.create_login("setter", "setter-1");
    server.admin(
        "CREATE FUNCTION public.set_password(who text, verifier text) RETURNS void LANGUAGE plpgsql SECURITY DEFINER
         SET search_path = '' AS $$ BEGIN EXECUTE pg_catalog.format('ALTER ROLE %I PASSWORD %L', who, verifier); END $$;
         REVOKE ALL ON FUNCTION public.set_password(text, text) FROM PUBLIC;
         GRANT EXECUTE ON FUNCTION public.set_password(text, text) TO setter;",
    );
    let setter = (By::Admin, "setter", "setter-1");
    no(by_tcp(&server).apply("we\"ird'", "new", setter), Reason::Privilege);
    let place = by_tcp(&server).with("set_statement", "SELECT public.set_password({name}, {verifier})");
    yes(place.apply("we\"ird'", "new", setter));
    yes(place.verify("we\"ird'", "new"));
    let place = by_tcp(&server).with("set_statement", "ALTER ROLE {role} PASSWORD {password}");
    assert!(no(place.apply("we\"ird'", "x", setter), Reason::Unsupported).contains("{password} has no meaning"));
}

#[test]
fn a_login_is_proved_in_each_database_that_is_named() {
    let server = Postgres::start(PgOptions::default());
    server.create_login("app", "old");
    server.admin("CREATE DATABASE shut");
    server.admin("REVOKE CONNECT ON DATABASE shut FROM PUBLIC");
    let place = by_tcp(&server).credential("also", "template1, shut");
    assert!(no(place.verify("app", "old"), Reason::Privilege).contains("shut"));
    server.admin("GRANT CONNECT ON DATABASE shut TO app");
    yes(place.verify("app", "old"));
}

#[test]
fn discover_lists_the_roles_and_what_the_server_knows_of_them() {
    let server = Postgres::start(PgOptions::default());
    server.admin(
        "CREATE ROLE team; CREATE ROLE app LOGIN CONNECTION LIMIT 3 VALID UNTIL '2020-01-01 00:00+00'; GRANT team TO app;",
    );
    let place = by_tcp(&server);
    let reply = place.ask(&place.request(Step::Discover, None, Some(admin(&server))));
    let Reply::Yes(answer) = reply else { panic!("{reply:?}") };
    let accounts = answer.accounts.expect("accounts");
    let names: Vec<_> = accounts.iter().map(|account| account.name.as_str()).collect();
    assert_eq!(names, ["admin", "app", "team"]);
    assert_eq!(accounts[0].facts["superuser"], true);
    let app = serde_json::Value::Object(accounts[1].facts.clone());
    assert_eq!(app["can_login"], true);
    assert_eq!(app["expired"], true);
    assert_eq!(app["connection_limit"], 3);
    assert_eq!(app["member_of"], json!(["team"]));
    assert_eq!(accounts[2].facts["can_login"], false);
}
