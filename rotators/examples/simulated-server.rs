//! One of the simulated servers of the tests, as a program: the tests of the whole product must not link what it is made of.
//!
//! Prints where it is as a line of JSON. Each further line that it reads, an account and a password, is answered by whether
//! that opens it. Ends with its input.
#![allow(clippy::print_stdout, reason = "that is how it is asked")]

#[path = "../tests/support/certificate.rs"]
mod certificate;
#[path = "../tests/support/mongod.rs"]
mod mongod;
#[path = "../tests/support/sqlserver.rs"]
mod sqlserver;

use std::io::BufRead;
use std::path::Path;

use mongod::Mongod;
use serde_json::json;
use sqlserver::{SqlServer, Tls};

/// The account beside the admin, and its password.
const APP: (&str, &str) = ("app", "First-of-app-1");

fn main() {
    match std::env::args().nth(1).as_deref() {
        Some("mongodb") => {
            let server = Mongod::start();
            server.create("shop", APP.0, APP.1, &[("changes_itself", "shop")]);
            serve(server.port, &server.ca_file(), &server.admin_password, |user, password| {
                let database = if user == APP.0 { "shop" } else { "admin" };
                server.takes(database, user, password, "SCRAM-SHA-256")
            });
        }
        Some("mssql") => {
            let server = SqlServer::start(Tls::Inside);
            server.create(APP.0, APP.1, |_| {});
            serve(server.port, &server.ca_file(), &server.admin_password, |user, password| {
                server.takes(user, password)
            });
        }
        other => panic!("mongodb or mssql, not {other:?}"),
    }
}

fn serve(port: u16, ca_file: &Path, admin_password: &str, takes: impl Fn(&str, &str) -> bool) {
    println!("{}", json!({ "port": port, "ca_file": ca_file, "admin_password": admin_password, "app": APP }));
    for line in std::io::stdin().lock().lines() {
        let (user, password): (String, String) =
            serde_json::from_str(&line.expect("a line")).expect("an account and a password");
        println!("{}", takes(&user, &password));
    }
}
