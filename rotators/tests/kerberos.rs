//! The kerberos rotator against a real MIT KDC and kadmind.

#[path = "../../tests/support/kdc.rs"]
mod kdc;
mod support;

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::PathBuf;
use std::time::Duration;

use kdc::{ADMIN, Kdc, REALM};
use keywheel_protocol::{By, Lockout, Reason, Reply, Step};
use serde_json::json;
use support::{Place, in_doubt, no, not_reached, yes};

const WWW: &str = "HTTP/www.ex.test";

fn by_password(server: &Kdc) -> Place {
    let place = json!({ "host": "127.0.0.1", "realm": REALM, "port": server.port, "admin_port": server.admin_port });
    Place::new("kerberos", place)
}

fn admin(server: &Kdc) -> (By, &str, &str) {
    (By::Admin, ADMIN, &server.admin_password)
}

/// A service with a random key in a keytab of its own folder, as `ktadd` leaves it.
fn service(server: &Kdc) -> PathBuf {
    server.local(&["addprinc", "-randkey", WWW]);
    let folder = server.at("keytabs");
    fs::create_dir_all(&folder).expect("a folder");
    let path = folder.join("http.keytab");
    server.local(&["ktadd", "-k", path.to_str().expect("UTF-8"), WWW]);
    fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).expect("its mode");
    path
}

fn with_keytab(server: &Kdc, keytab: &PathBuf) -> Place {
    by_password(server).credential("strategy", "overlap").credential("keytab", json!(keytab))
}

#[test]
fn a_keytab_has_the_new_key_beside_the_old_one_and_every_ticket_is_read() {
    let server = Kdc::start();
    let keytab = service(&server);
    let other = "HTTP/other.ex.test";
    server.local(&["addprinc", "-randkey", other]);
    server.local(&["ktadd", "-k", keytab.to_str().expect("UTF-8"), other]);
    server.create("client", "of-client");
    let place = with_keytab(&server, &keytab);
    // ktadd made number 2.
    let old = server.ticket_for("client", "of-client", WWW);
    assert!(server.is_read(&old, WWW, &keytab));
    yes(place.apply(WWW, "marker-one-1", admin(&server)));
    yes(place.verify(WWW, "marker-one-1"));
    assert_eq!((server.numbers(WWW, &keytab), server.numbers_at_kdc(WWW)), (vec![2, 3], vec![3, 2]));
    let new = server.ticket_for("client", "of-client", WWW);
    assert!(server.is_read(&old, WWW, &keytab) && server.is_read(&new, WWW, &keytab));
    assert!(server.keytab_works(WWW, &keytab) && server.keytab_works(other, &keytab));
    // Twice, as after a crash: nothing is added, and no login failed.
    let note = yes(place.apply(WWW, "marker-one-1", admin(&server)));
    assert!(note.contains("in force already"), "{note}");
    assert_eq!((server.numbers(WWW, &keytab), server.numbers_at_kdc(WWW)), (vec![2, 3], vec![3, 2]));
    yes(place.apply(WWW, "marker-two-2", admin(&server)));
    no(place.verify(WWW, "marker-one-1"), Reason::Credential);
    yes(place.verify(WWW, "marker-two-2"));
    assert!(server.is_read(&old, WWW, &keytab) && server.is_read(&new, WWW, &keytab));
    assert!(server.local(&["getprinc", WWW]).contains("Failed password attempts: 0"), "i5");
    let found = fs::metadata(&keytab).expect("there");
    assert_eq!(found.mode() & 0o7777, 0o640);
    let left: Vec<_> = fs::read_dir(server.at("keytabs")).expect("listed").flatten().map(|e| e.file_name()).collect();
    assert_eq!(left, ["http.keytab"]);
}
