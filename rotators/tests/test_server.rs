//! The PostgreSQL that the other tests lean on behaves as its documentation says.

#[path = "../../tests/support/postgres.rs"]
mod postgres;

use postgres::{PgOptions, Postgres};

#[test]
fn the_test_server_starts_stops_dies_and_comes_back() {
    let mut server = Postgres::start(PgOptions { tls: true, log_statement_all: true });
    server.create_login("app", "first-'password'");
    assert!(server.login_works("app", "first-'password'"));
    assert!(!server.login_works("app", "wrong"));
    assert_eq!(server.admin("SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()"), "t");
    assert!(!server.log().contains("first-"), "the support code itself logs no password");
    server.stop();
    assert!(!server.login_works("app", "first-'password'"));
    server.start_again();
    server.kill9();
    server.start_again();
    assert!(server.login_works("app", "first-'password'"));
    let (data, port) = (server.data_dir.clone(), server.port);
    drop(server);
    assert!(!data.exists());
    assert!(std::net::TcpStream::connect(("127.0.0.1", port)).is_err());
}
