//! Strategies that leave no moment without a valid login, seen by an application that knows nothing of rotations.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::crash::databases::mariadb_target;
use crate::crash::services::{aws_target, hub_target};
use crate::crash::ssh::host;
use crate::kit::{Fetched, Logins, QUICK, by_admin_config, credential, fetch, redis_target, settled};
use crate::support::kdc::{ADMIN, REALM};
use crate::support::redis::Keeps;
use crate::support::{Daemon, Kdc, MariaDb, PgOptions, Postgres, Redis, Setup, Sshd, services};

/// Rotations that the application lives through.
const ROTATIONS: usize = 200;
/// Credentials that they are spread over: the grace of one passes while others are rotated.
const CREDENTIALS: usize = 10;
/// How often the application logs in anew.
const EVERY: Duration = Duration::from_millis(5);

#[test]
fn an_application_of_redis_sees_no_failed_login_through_200_rotations() {
    let server = Redis::start(Keeps::AclFile);
    let mut config = QUICK.to_owned() + &redis_target(&server, "cache", "admin = \"cache/admin\"\nrotations = 10");
    config += &credential("cache/admin", "cache", "account = \"admin\"\nchange_by = \"account\"");
    for index in 0..CREDENTIALS {
        server.root(&["ACL", "SETUSER", &format!("app{index}"), "on", ">unknown", "+ping"]);
        let more = format!("account = \"app{index}\"\ngrace = \"200ms\"");
        config += &credential(&name(index), "cache", &more);
    }
    let daemon = Setup::new().config(config).start();
    daemon.keywheel_ok(&["import", "cache/admin"], &server.admin_password);
    through_rotations(&daemon, |fetched| redis_takes(server.port, fetched));
}

#[test]
fn an_application_of_mariadb_sees_no_failed_login_through_200_rotations() {
    let server = MariaDb::start();
    let mut config = QUICK.to_owned() + &mariadb_target(&server, "admin = \"db/admin\"\nrotations = 10");
    config += &credential("db/admin", "db", "account = \"admin\"\nchange_by = \"account\"");
    for index in 0..CREDENTIALS {
        server.root(&format!("CREATE USER app{index}@'%' IDENTIFIED BY 'unknown'"));
        let more = format!("account = \"app{index}\"\nstrategy = \"overlap\"\ngrace = \"200ms\"");
        config += &credential(&name(index), "db", &more);
    }
    let daemon = Setup::new().config(config).start();
    daemon.keywheel_ok(&["import", "db/admin"], &server.admin_password);
    through_rotations(&daemon, |fetched| server.login_works(&fetched.username, &fetched.password));
}

#[test]
fn complaint_13_an_application_of_postgres_sees_no_failed_login_through_200_rotations_of_two_roles_in_turn() {
    let pg = Postgres::start(PgOptions::default());
    let mut config = by_admin_config(&pg, "account = \"app\"").replace("[target.pg]", "[target.pg]\nrotations = 10");
    for index in 0..CREDENTIALS {
        let (one, two) = (format!("app{index}_a"), format!("app{index}_b"));
        pg.create_login(&one, "unknown");
        pg.create_login(&two, "unknown");
        let more = format!("accounts = [{one:?}, {two:?}]\nstrategy = \"alternate\"\ngrace = \"200ms\"");
        config += &credential(&name(index), "pg", &more);
    }
    let daemon = Setup::new().config(config).start();
    daemon.keywheel_ok(&["import", "pg/admin"], &pg.superuser_password);
    through_rotations(&daemon, |fetched| pg.login_works(&fetched.username, &fetched.password));
}

#[test]
fn an_application_of_ssh_sees_no_failed_login_through_200_rotations_of_its_keys() {
    let server = Sshd::start();
    let (private, public) = server.key_pair("ed25519");
    let mut config = QUICK.to_owned() + &host("ssh-key", &server, "rotations = 10\n");
    for index in 0..CREDENTIALS {
        let account = server.account("unused-Password-1");
        server.authorize(&account, &format!("{public}\n"));
        config += &credential(&name(index), "host", &format!("account = {account:?}\ngrace = \"200ms\""));
    }
    let daemon = Setup::new().config(config).start();
    for index in 0..CREDENTIALS {
        daemon.keywheel_ok(&["import", &name(index), "--field", "private_key"], &private);
    }
    through_rotations(&daemon, |fetched| server.key_logs_in(&fetched.username, &fetched.password));
}

#[test]
fn an_application_of_jupyterhub_sees_no_failed_login_through_200_rotations_of_its_tokens() {
    let hub = services::jupyterhub();
    let mut config = QUICK.to_owned() + &hub_target(&hub, "rotations = 10") + &credential("hub/admin", "hub", "");
    for index in 0..CREDENTIALS {
        config += &credential(&name(index), "hub", &format!("account = \"app{index}\"\ngrace = \"200ms\""));
    }
    let daemon = Setup::new().config(config).start();
    daemon.keywheel_ok(&["import", "hub/admin", "--field", "key"], services::HUB_TOKEN);
    through_rotations(&daemon, |fetched| hub.login_works(&fetched.username, &fetched.password));
}

#[test]
fn an_application_of_an_imitated_aws_sees_no_failed_login_through_200_rotations_of_its_access_keys() {
    let moto = services::moto(13);
    for index in 0..CREDENTIALS {
        moto.iam(&[("Action", "CreateUser"), ("UserName", &format!("app{index}"))]);
    }
    let (id, secret) = moto.iam_user("keywheel");
    let mut config = QUICK.to_owned() + &aws_target(&moto, "rotations = 10");
    config += &credential("aws/admin", "aws", "account = \"keywheel\"");
    for index in 0..CREDENTIALS {
        config += &credential(&name(index), "aws", &format!("account = \"app{index}\"\ngrace = \"200ms\""));
    }
    let daemon = Setup::new().config(config).start();
    let first = serde_json::json!({ "access_key_id": id, "secret_access_key": secret }).to_string();
    daemon.keywheel_ok(&["import", "aws/admin", "--from-json"], &first);
    through_rotations(&daemon, |fetched| moto.signs(&fetched.username, &fetched.password));
}

#[test]
fn a_service_of_kerberos_reads_every_ticket_through_rotations_and_old_keys_stay_for_the_ticket_life() {
    const SERVICE: &str = "HTTP/www.ex.test";
    let server = Kdc::start();
    server.create("client", "of-client");
    server.local(&["addprinc", "-randkey", "+requires_preauth", SERVICE]);
    std::fs::create_dir(server.at("keytabs")).expect("a folder");
    let keytab = server.at("keytabs/http");
    server.local(&["ktadd", "-k", keytab.to_str().expect("UTF-8"), SERVICE]);
    let target = format!(
        "[target.realm]\nkind = \"kerberos\"\nhost = \"127.0.0.1\"\nrealm = {REALM:?}\nport = {}\nadmin_port = {}\n\
         admin = \"realm/admin\"\nrotations = 10\n",
        server.port, server.admin_port
    );
    let own = format!("account = {ADMIN:?}\nstrategy = \"replace\"\nchange_by = \"account\"");
    // The grace is over at once, and the tickets are not: the rotator says when it can be done.
    let more = format!("account = {SERVICE:?}\nkeytab = {keytab:?}\ngrace = \"0s\"\nticket_life = 4");
    let config = format!(
        "{QUICK}{target}{}{}",
        credential("realm/admin", "realm", &own),
        credential("app/http", "realm", &more)
    );
    let daemon = Setup::new().config(config).start();
    daemon.keywheel_ok(&["import", "realm/admin"], &server.admin_password);
    let over = AtomicBool::new(false);
    let (read, failed) = std::thread::scope(|scope| {
        let client = scope.spawn(|| {
            let (mut read, mut failed) = (0, 0);
            while !over.load(Ordering::Relaxed) {
                let ticket = server.ticket_for("client", "of-client", SERVICE);
                if server.is_read(&ticket, SERVICE, &keytab) { read += 1 } else { failed += 1 }
            }
            (read, failed)
        });
        let ends = Ends(&over);
        daemon.keywheel_ok(&["rotate", "app/http", "--wait"], "");
        daemon.keywheel_ok(&["rotate", "realm/admin", "--wait"], "");
        for _ in 0..3 {
            let began = Instant::now();
            daemon.keywheel_ok(&["rotate", "app/http", "--wait"], "");
            assert_eq!(server.numbers_at_kdc(SERVICE).len(), server.numbers(SERVICE, &keytab).len());
            assert_eq!(daemon.status("app/http")["phase"], "retiring");
            assert_eq!(settled(&daemon, "app/http")["phase"], "resting");
            assert!(began.elapsed() >= Duration::from_secs(3), "{:?}", began.elapsed());
            assert_eq!(server.numbers_at_kdc(SERVICE).len(), 1);
            assert_eq!(server.numbers_at_kdc(SERVICE), server.numbers(SERVICE, &keytab));
        }
        drop(ends);
        client.join().expect("the client")
    });
    println!("{read} tickets read, {failed} not");
    assert!(read > 20 && failed == 0, "{read} read, {failed} not");
    assert!(server.login_works(SERVICE, &fetch(&daemon, "app/http").password));
    let discovered = daemon.keywheel_ok(&["discover", "realm"], "");
    assert!(discovered.contains(SERVICE), "{discovered}");
    daemon.keywheel_ok(&["rotate", "app/http", "--dry-run"], "");
}

fn name(index: usize) -> String {
    format!("turn/app{index}")
}

/// Rotates all of them again and again while the application fetches one after the other and logs in.
fn through_rotations(daemon: &Daemon, logs_in: impl Fn(&Fetched) -> bool + Sync) {
    let names: Vec<String> = (0..CREDENTIALS).map(name).collect();
    let all_at_once = || {
        let words: Vec<&str> = ["rotate", "--wait"].into_iter().chain(names.iter().map(String::as_str)).collect();
        daemon.keywheel_ok(&words, "");
        names.iter().for_each(|name| drop(settled(daemon, name)));
    };
    all_at_once();
    let began = Instant::now();
    let first: u64 = names.iter().map(|name| fetch(daemon, name).version).sum();
    let over = AtomicBool::new(false);
    let (logins, failed) = std::thread::scope(|scope| {
        let application = scope.spawn(|| {
            let (mut logins, mut failed) = (0_usize, Vec::new());
            while !over.load(Ordering::Relaxed) {
                let name = &names[logins % names.len()];
                let fetched = fetch(daemon, name);
                logins += 1;
                if !logs_in(&fetched) {
                    failed.push(format!("{name} version {}", fetched.version));
                }
                std::thread::sleep(EVERY);
            }
            (logins, failed)
        });
        let rotations = Ends(&over);
        (0..ROTATIONS / CREDENTIALS).for_each(|_| all_at_once());
        drop(rotations);
        application.join().expect("the application")
    });
    let rotations = names.iter().map(|name| fetch(daemon, name).version).sum::<u64>() - first;
    println!("{rotations} rotations, {logins} logins, {} failed; {:?}", failed.len(), began.elapsed());
    // The clients of some servers are programs, which a busy machine starts slowly.
    assert!(rotations >= ROTATIONS as u64 && logins > ROTATIONS / 10, "{rotations} rotations, {logins} logins");
    assert!(failed.is_empty(), "these logins failed: {failed:?}");
}

/// Ends the application when the rotations end, whatever ended them.
pub(crate) struct Ends<'a>(pub(crate) &'a AtomicBool);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// A login as a client library makes it.
fn redis_takes(port: u16, fetched: &Fetched) -> bool {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).expect("connected");
    let (user, password) = (&fetched.username, &fetched.password);
    let auth = format!("*3\r\n$4\r\nAUTH\r\n${}\r\n{user}\r\n${}\r\n{password}\r\n", user.len(), password.len());
    stream.write_all(auth.as_bytes()).expect("sent");
    let mut answer = String::new();
    BufReader::new(stream).read_line(&mut answer).expect("answered");
    answer == "+OK\r\n"
}
