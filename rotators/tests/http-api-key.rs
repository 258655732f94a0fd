//! The http-api-key rotator against real services.

#[path = "../../tests/support/services.rs"]
mod services;
mod support;

use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Command, Stdio};

use keywheel_protocol::{By, Fields, Login, Reason, Reply, Request, Secret, Step};
use serde_json::{Value, json};
use services::{HUB_TOKEN, HUB_USERS_TOKEN, HUB_WEAK_TOKEN, Service};
use support::{Place, in_doubt, no, not_reached, yes};

const TOKEN: &str = "kw-abcdefghijklmnopqrstuvwxy";

fn secret(fields: &[(&str, &str)]) -> Fields {
    let mut secret = Fields::new();
    for (name, value) in fields {
        secret.insert(name, Secret::new((*value).to_owned()));
    }
    secret
}

fn by(by: By, fields: &Fields) -> Option<Login> {
    Some(Login { by, fields: fields.duplicate() })
}

fn place(service: &Service, file: &str, account: &str) -> Place {
    let file = format!("{}/services/{file}", env!("CARGO_MANIFEST_DIR"));
    let target = json!({ "host": "127.0.0.1", "port": service.port, "tls": "disabled", "service": file });
    Place::new("http-api-key", target).credential("account", account)
}

fn request(place: &Place, step: Step, token: &str, subject: Option<&Fields>, login: Option<Login>) -> Request {
    let subject = subject.map(Fields::duplicate);
    Request { token: Some(token.to_owned()), subject, login, ..place.request(step, None, None) }
}

fn apply(place: &Place, token: &str, login: Option<Login>) -> Reply {
    place.ask(&request(place, Step::Apply, token, None, login))
}

fn verify(place: &Place, subject: &Fields) -> Reply {
    place.ask(&request(place, Step::Verify, TOKEN, Some(subject), None))
}

fn retire(place: &Place, subject: &Fields, login: Option<Login>) -> Reply {
    place.ask(&request(place, Step::Retire, TOKEN, Some(subject), login))
}

#[track_caller]
fn minted(reply: Reply) -> (Fields, String) {
    let Reply::Yes(yes) = reply else { panic!("{reply:?}") };
    (yes.fields.expect("a new key"), yes.note.unwrap_or_default())
}

fn hub_tokens(hub: &Service) -> Vec<String> {
    let header = format!("Authorization: token {HUB_TOKEN}");
    let (status, body) = hub.curl(&["--header", &header, "/hub/api/users/app/tokens"]);
    assert_eq!(status, 200, "{body}");
    let answer: Value = serde_json::from_str(&body).expect("JSON");
    let tokens = answer["api_tokens"].as_array().expect("a list");
    tokens.iter().map(|token| token["note"].as_str().unwrap_or_default().to_owned()).collect()
}

#[test]
fn jupyterhub_tokens_turn_over_by_a_service_and_by_themselves() {
    let hub = services::jupyterhub();
    let place = place(&hub, "jupyterhub.toml", "app");
    let admin = secret(&[("password", HUB_TOKEN)]);
    let note = yes(place.ask(&request(&place, Step::Rehearse, TOKEN, None, by(By::Admin, &admin))));
    assert!(note.contains("0 now"), "{note}");

    let (first, note) = minted(apply(&place, TOKEN, by(By::Admin, &admin)));
    assert_eq!((note.as_str(), hub_tokens(&hub)), ("", vec![TOKEN.to_owned()]));
    assert_eq!(first.get("token").expect("a label").expose(), TOKEN);
    yes(verify(&place, &first));
    // The answer was lost, and the same rotation asks again: there is one key still, and it is another one.
    let (second, note) = minted(apply(&place, TOKEN, by(By::Admin, &admin)));
    assert!(note.contains("was revoked"), "{note}");
    assert_eq!(hub_tokens(&hub), [TOKEN]);
    yes(verify(&place, &second));
    no(verify(&place, &first), Reason::Credential);

    // The key makes the next one by itself; both work until the old one is retired.
    let next = "kw-zyxwvutsrqponmlkjihgfedcb";
    let (third, _) = minted(apply(&place, next, by(By::Account, &second)));
    yes(verify(&place, &second));
    yes(verify(&place, &third));
    no(retire(&place, &third, by(By::Account, &third)), Reason::Unsupported);
    // Twice, as after a crash, and one that was revoked long ago.
    for old in [&second, &second, &first] {
        assert_eq!(yes(retire(&place, old, by(By::Account, &third))), "");
    }
    no(verify(&place, &second), Reason::Credential);
    yes(verify(&place, &third));
    assert_eq!(hub_tokens(&hub), [next]);

    let log = hub.log();
    assert!(log.contains("/hub/api/users/app/tokens"), "the requests are in the log");
    for key in [&first, &second, &third] {
        assert!(!log.contains(key.get("key").expect("a key").expose()), "no key is");
    }
    assert!(!log.contains(HUB_TOKEN));
}

/// In one test, since a hub takes some seconds to start.
#[test]
fn keys_of_a_hub() {
    let hub = services::jupyterhub();
    pages_that_name_the_next_one_are_all_read_and_a_list_that_is_cut_off_is_refused(&hub);
    a_rehearsal_predicts_each_no_and_makes_no_key(&hub);
    each_no_says_why_and_makes_no_key(hub);
}

fn a_rehearsal_predicts_each_no_and_makes_no_key(hub: &Service) {
    let place = place(hub, "jupyterhub.toml", "app");
    let admin = secret(&[("key", HUB_TOKEN)]);
    let described = |name: &str, passage: &str, instead: &str| {
        let text = fs::read_to_string(place.target["service"].as_str().expect("a path")).expect("the file");
        assert!(text.contains(passage), "{passage}");
        place.clone().with("service", hub.file(name, &text.replace(passage, instead)).display().to_string())
    };
    let foretold = |place: &Place, login: Option<&Fields>, expected| {
        for step in [Step::Rehearse, Step::Apply] {
            no(place.ask(&request(place, step, TOKEN, None, login.and_then(|login| by(By::Admin, login)))), expected);
        }
    };
    foretold(&place, Some(&secret(&[("key", "wrong")])), Reason::Credential);
    foretold(&place, Some(&secret(&[("key", HUB_WEAK_TOKEN)])), Reason::Privilege);
    foretold(&place, Some(&secret(&[("other", "x")])), Reason::Unsupported);
    foretold(&place, None, Reason::Unsupported);
    for (account, reason) in [("other", Reason::Missing), ("..", Reason::Unsupported)] {
        foretold(&place.clone().credential("account", account), Some(&admin), reason);
    }
    foretold(&place.clone().with("service", "/nowhere.toml"), Some(&admin), Reason::Unsupported);
    foretold(&described("a", "{account}", "{acount}"), Some(&admin), Reason::Unsupported);
    foretold(&described("b", "/api_tokens", "/nothing"), Some(&admin), Reason::Unsupported);
    foretold(&described("c", "[prove]", "[proof]"), Some(&admin), Reason::Unsupported);
    assert!(hub_tokens(hub).is_empty());
}

fn each_no_says_why_and_makes_no_key(hub: Service) {
    let place = place(&hub, "jupyterhub.toml", "app");
    let admin = secret(&[("key", HUB_TOKEN)]);
    let wrong = secret(&[("key", "wrong")]);
    let weak = secret(&[("key", HUB_WEAK_TOKEN)]);
    for step in [Step::Apply, Step::Rehearse] {
        let ask = |login| place.ask(&request(&place, step, TOKEN, None, login));
        assert!(no(ask(by(By::Admin, &wrong)), Reason::Credential).contains("Missing or invalid"));
        assert!(no(ask(by(By::Admin, &weak)), Reason::Privilege).contains("read:tokens"));
        no(ask(None), Reason::Unsupported);
        assert!(no(ask(by(By::Admin, &secret(&[("other", "x")]))), Reason::Unsupported).contains("{login}"));
    }
    let place_of = |account: &str| place.clone().credential("account", account);
    // The service may see the tokens of app only.
    no(apply(&place_of("other"), TOKEN, by(By::Admin, &admin)), Reason::Missing);
    no(apply(&place_of(".."), TOKEN, by(By::Admin, &admin)), Reason::Unsupported);
    no(apply(&place, "", by(By::Admin, &admin)), Reason::Unsupported);
    assert!(hub_tokens(&hub).is_empty());

    let (key, _) = minted(apply(&place, TOKEN, by(By::Admin, &admin)));
    assert!(no(verify(&place_of("other"), &key), Reason::Unsupported).contains("belongs to \"app\""));
    no(verify(&place, &secret(&[("password", "x")])), Reason::Unsupported);
    let nameless = secret(&[("key", key.get("key").expect("a key").expose())]);
    assert!(no(retire(&place, &nameless, by(By::Admin, &admin)), Reason::Unsupported).contains("key_id"));
    yes(verify(&place, &key));

    let file = |name: &str, old: &str, new: &str| {
        let text =
            std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/services/jupyterhub.toml")).expect("read");
        assert!(text.contains(old));
        hub.file(name, &text.replace(old, new)).to_str().expect("UTF-8").to_owned()
    };
    let described = |path: String| apply(&place.clone().with("service", path), "kw-second", by(By::Admin, &admin));
    assert!(no(described(file("a", "{account}", "{acount}")), Reason::Unsupported).contains("{acount}"));
    assert!(no(described(file("b", "/api_tokens", "/nothing")), Reason::Unsupported).contains("list.items"));
    assert!(no(described(file("c", "[prove]", "[proof]")), Reason::Unsupported).contains("pro"));
    assert_eq!(hub_tokens(&hub), [TOKEN]);
    // A key that was made and can't be read is in doubt; asked again with the file put right, it is replaced.
    assert!(in_doubt(described(file("d", "key = \"/token\"", "key = \"/tokan\""))).contains("create.key"));
    assert_eq!(hub_tokens(&hub), [TOKEN, "kw-second"]);
    minted(apply(&place, "kw-second", by(By::Admin, &admin)));
    assert_eq!(hub_tokens(&hub), [TOKEN, "kw-second"]);

    let port = hub.port;
    drop(hub);
    not_reached(apply(&place.with("port", port), TOKEN, by(By::Admin, &admin)));
}

#[test]
fn synapse_access_tokens_turn_over() {
    let synapse = services::synapse();
    let url = format!("http://127.0.0.1:{}", synapse.port);
    let register = |user: &str, password: &str, admin: &str| {
        let arguments = ["-c", "synapse.yaml", "-u", user, "-p", password, admin, url.as_str()];
        synapse.run("register_new_matrix_user", &arguments);
    };
    register("app", "marker-app", "--no-admin");
    register("root", "marker-root", "--admin");
    let login = json!({ "type": "m.login.password", "identifier": { "type": "m.id.user", "user": "root" }, "password": "marker-root" });
    let (status, body) = synapse.curl(&["--data", &login.to_string(), "/_matrix/client/v3/login"]);
    assert_eq!(status, 200, "{body}");
    let answer: Value = serde_json::from_str(&body).expect("JSON");
    let token = answer["access_token"].as_str().expect("a token");

    let place = place(&synapse, "synapse.toml", "@app:test.example");
    let admin = secret(&[("key", token), ("password", "marker-app")]);
    let (first, _) = minted(apply(&place, TOKEN, by(By::Admin, &admin)));
    yes(verify(&place, &first));
    assert_eq!(first.get("key_id").expect("an id").expose(), TOKEN, "the device bears the token");
    let (again, note) = minted(apply(&place, TOKEN, by(By::Admin, &admin)));
    assert!(note.contains("was revoked"), "{note}");
    no(verify(&place, &first), Reason::Credential);
    let (second, _) = minted(apply(&place, "kw-second", by(By::Admin, &admin)));
    assert_eq!(yes(retire(&place, &again, by(By::Admin, &admin))), "");
    assert_eq!(yes(retire(&place, &again, by(By::Admin, &admin))), "");
    no(verify(&place, &again), Reason::Credential);
    yes(verify(&place, &second));
    // Its accounts, one to a page: each says what to ask the next one by.
    let text = HUB_USERS
        .replace("token {login}", "Bearer {login.key}")
        .replace("\"/_pagination/next/url\"", "\"/next_token\"");
    let text =
        text.replace("/hub/api/users?limit=2", "/_synapse/admin/v2/users?limit=1").replace("\"/items\"", "\"/users\"");
    let further = "next_request = \"GET /_synapse/admin/v2/users?limit=1&from={next}\"\n[create]";
    let accounts = |name: &str, text: &str| {
        let place = place.clone().with("service", synapse.file(name, text).display().to_string());
        place.ask(&request(&place, Step::Rehearse, TOKEN, None, by(By::Admin, &admin)))
    };
    assert!(yes(accounts("accounts.toml", &text.replace("[create]", further))).contains("2 now"));
    no(accounts("cut.toml", &text.replace("next = \"/next_token\"", "")), Reason::Unsupported);
    // A wrong password for the account is found when the key is made; the admin's token was right.
    let wrong = secret(&[("key", token), ("password", "wrong")]);
    no(apply(&place, "kw-third", by(By::Admin, &wrong)), Reason::Privilege);
    no(apply(&place, "kw-third", by(By::Admin, &secret(&[("key", "x"), ("password", "x")]))), Reason::Credential);
    let log = synapse.log();
    assert!(log.contains("/_matrix/client/v3/login"));
    for hidden in ["marker-app", second.get("key").expect("a key").expose()] {
        assert!(!log.contains(hidden), "a secret is in the log");
    }
}

#[test]
fn secrets_of_oauth_clients_turn_over_and_a_lost_one_is_found_on_whatever_page() {
    let (server, key) = services::glewlwyd();
    let admin = secret(&[("key", &key)]);
    let place = place(&server, "glewlwyd.toml", "app").credential("extra", "g_profile");
    let file = fs::read_to_string(place.target["service"].as_str().expect("a path")).expect("the file");
    let by_two = server.file("by-two.toml", &file.replace("limit=100", "limit=2")).display().to_string();
    let by_two = place.clone().with("service", by_two);
    let seen = |place: &Place| yes(place.ask(&request(place, Step::Rehearse, TOKEN, None, by(By::Admin, &admin))));
    let tokens = ["kw-one", "kw-two", "kw-three", "kw-four", "kw-five"];
    let lost = tokens.map(|token| minted(apply(&by_two, token, by(By::Admin, &admin))).0);
    for place in [&place, &by_two] {
        assert!(seen(place).contains("5 now"));
    }
    for (token, lost) in tokens.iter().zip(&lost) {
        yes(verify(&place, lost));
        let (_, note) = minted(apply(&by_two, token, by(By::Admin, &admin)));
        assert!(note.starts_with("1 key of an earlier try"), "{note}");
        no(verify(&place, lost), Reason::Credential);
    }
    assert!(seen(&by_two).contains("5 now"));

    let (first, note) = minted(apply(&place, TOKEN, by(By::Admin, &admin)));
    assert_eq!(note, "");
    yes(verify(&place, &first));
    let (next, _) = minted(apply(&place, "kw-next", by(By::Admin, &admin)));
    for _ in 0..2 {
        assert_eq!(yes(retire(&place, &first, by(By::Admin, &admin))), "");
    }
    no(verify(&place, &first), Reason::Credential);
    yes(verify(&place, &next));
    no(apply(&place, TOKEN, by(By::Admin, &secret(&[("key", "wrong")]))), Reason::Credential);
    let log = server.log();
    assert!(log.contains("Client") && log.contains("removed"), "what was done is in the log");
    for secret in [&key, next.get("key").expect("a secret").expose()] {
        assert!(!log.contains(secret), "no secret is");
    }
}

/// A service that lists its users in pages: they are taken for keys here.
const HUB_USERS: &str = r#"
[login]
headers = { Authorization = "token {login}" }
[list]
request = "GET /hub/api/users?limit=2"
headers = { Accept = "application/jupyterhub-pagination+json" }
items = "/items"
id = "/name"
label = "/name"
next = "/_pagination/next/url"
[create]
request = "POST /hub/api/users/{token}"
key = "/name"
id = "/name"
[revoke]
request = "DELETE /hub/api/users/{id}"
[prove]
request = "GET /hub/api/user"
"#;

fn pages_that_name_the_next_one_are_all_read_and_a_list_that_is_cut_off_is_refused(hub: &Service) {
    let admin = secret(&[("key", HUB_USERS_TOKEN)]);
    let described =
        |name: &str, text: &str| place(hub, "", "app").with("service", hub.file(name, text).display().to_string());
    let place = described("users.toml", HUB_USERS);
    let tokens = ["kw-one", "kw-two", "kw-three"];
    for again in [false, true] {
        for token in tokens {
            let (_, note) = minted(apply(&place, token, by(By::Admin, &admin)));
            assert_eq!(note.starts_with("1 key of an earlier try"), again, "{note}");
        }
    }
    let seen = |place: &Place| place.ask(&request(place, Step::Rehearse, TOKEN, None, by(By::Admin, &admin)));
    // Three, and the two that were there.
    assert!(yes(seen(&place)).contains("5 now"));
    let next = "next = \"/_pagination/next/url\"";
    let by_offset = HUB_USERS.replace(next, "").replace("limit=2", "limit=2&offset={offset}");
    assert!(yes(seen(&described("offset.toml", &by_offset))).contains("5 now"));
    let again = HUB_USERS.replace(next, "").replace("limit=2", "limit=2&ignored={page}");
    assert!(no(seen(&described("again.toml", &again)), Reason::Unsupported).contains("the same keys again on page 2"));
    for (name, instead) in [("silent.toml", ""), ("wrong.toml", "next = \"/pagination/next\"")] {
        let cut = described(name, &HUB_USERS.replace(next, instead));
        for reply in [seen(&cut), apply(&cut, "kw-four", by(By::Admin, &admin))] {
            let said = no(reply, Reason::Unsupported);
            assert!(said.contains("goes on after 2 keys") && said.contains("list.next"), "{said}");
        }
    }
    assert!(yes(seen(&place)).contains("5 now"), "none was made");
}

#[test]
fn old_versions_of_tls_are_not_spoken() {
    let folder = tempfile::tempdir().expect("a folder");
    let openssl = |arguments: &str| {
        let mut openssl = Command::new("openssl");
        openssl.current_dir(folder.path()).args(arguments.split(' ')).stdin(Stdio::null()).stderr(Stdio::null());
        openssl.stdout(Stdio::null());
        openssl
    };
    let made = "req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost -addext subjectAltName=DNS:localhost \
                -addext basicConstraints=critical,CA:FALSE -keyout key.pem -out cert.pem";
    assert!(openssl(made).status().expect("openssl runs").success());
    let file = folder.path().join("service.toml");
    fs::write(&file, HUB_USERS).expect("written");
    for (version, spoken) in [("-tls1", false), ("-tls1_1", false), ("-tls1_2", true), ("-tls1_3", true)] {
        let port = TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("its address").port();
        let serve = format!(
            "s_server -accept 127.0.0.1:{port} -cert cert.pem -key key.pem {version} -cipher ALL:@SECLEVEL=0 -www"
        );
        let mut server = openssl(&serve).spawn().expect("openssl runs");
        support::until(|| TcpStream::connect(("127.0.0.1", port)).is_ok());
        let place = Place::new("http-api-key", json!({ "host": "localhost", "port": port, "service": file }));
        let place = place.with("ca_file", folder.path().join("cert.pem").display().to_string());
        let admin = secret(&[("key", "marker")]);
        let said = not_reached(place.ask(&request(&place, Step::Rehearse, TOKEN, None, by(By::Admin, &admin))));
        let _ = server.kill().and_then(|()| server.wait());
        // What it serves is no list, which shows that it was asked.
        assert_eq!(said.contains("is not JSON"), spoken, "{version}: {said}");
    }
}

/// A simulated service whose pages follow on each other by the header `Link`, under a name of its own.
fn linked() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("its address").port();
    std::thread::spawn(move || {
        for client in listener.incoming() {
            let Ok(mut client) = client else { return };
            let (mut head, mut byte) = (Vec::new(), [0]);
            while !head.ends_with(b"\r\n\r\n") && client.read(&mut byte).is_ok_and(|read| read == 1) {
                head.push(byte[0]);
            }
            let head = String::from_utf8_lossy(&head).into_owned();
            let page: u32 = head.split_once("page=").map_or(1, |(_, rest)| rest[..1].parse().expect("a number"));
            let next = format!("Link: <https://its-own-name.example/keys?page={}>; rel=\"next\"\r\n", page + 1);
            let body = format!("[{{\"id\":{page},\"label\":\"x\"}}]");
            let answer = format!(
                "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: {}\r\n{}\r\n{body}",
                body.len(),
                if page < 3 { next.as_str() } else { "" }
            );
            let _ = client.write_all(answer.as_bytes());
        }
    });
    port
}

#[test]
fn pages_follow_a_header_to_the_host_that_is_set() {
    let folder = tempfile::tempdir().expect("a folder");
    let text =
        HUB_USERS.replace("GET /hub/api/users?limit=2", "GET /keys").replace("items = \"/items\"", "items = \"\"");
    let text = text.replace("\"/name\"", "\"/id\"");
    let file = |name: &str, next: &str| {
        let path = folder.path().join(name);
        fs::write(&path, text.replace("\"/_pagination/next/url\"", next)).expect("written");
        path.display().to_string()
    };
    let target = json!({ "host": "127.0.0.1", "port": linked(), "tls": "disabled", "service": file("a", "\"Link\"") });
    let place = Place::new("http-api-key", target).credential("account", "app");
    let admin = secret(&[("key", "marker")]);
    let seen = |place: &Place| place.ask(&request(place, Step::Rehearse, TOKEN, None, by(By::Admin, &admin)));
    assert!(yes(seen(&place)).contains("3 now"));
    let cut = place.with("service", file("b", "\"/next\""));
    assert!(no(seen(&cut), Reason::Unsupported).contains("goes on after 1 keys"));
}

#[cfg(feature = "failpoints")]
#[test]
fn i1_a_worker_that_dies_leaves_no_second_key() {
    use std::os::unix::process::ExitStatusExt;
    let hub = services::jupyterhub();
    let place = place(&hub, "jupyterhub.toml", "app");
    let admin = secret(&[("key", HUB_TOKEN)]);
    let dies = |point: &str, request: &Request| {
        let output = place.clone().option("--failpoint").option(point).run(request);
        assert_eq!((output.status.signal(), output.stdout.is_empty()), (Some(9), true), "{point}");
    };
    for (point, left) in [("worker.apply.before", 0), ("worker.apply.after", 1)] {
        let token = format!("kw-{}", point.replace('.', "-"));
        dies(point, &request(&place, Step::Apply, &token, None, by(By::Admin, &admin)));
        let (key, note) = minted(apply(&place, &token, by(By::Admin, &admin)));
        assert_eq!(note.starts_with("1 key of an earlier try"), left == 1, "{note}");
        yes(verify(&place, &key));
        // Dead before it could say that the key is gone; then nothing is left to do.
        dies("worker.retire.after", &request(&place, Step::Retire, &token, Some(&key), by(By::Admin, &admin)));
        no(verify(&place, &key), Reason::Credential);
        assert_eq!(yes(retire(&place, &key, by(By::Admin, &admin))), "");
    }
    assert!(hub_tokens(&hub).is_empty());
}

#[test]
fn i8_a_lease_has_a_key_of_its_own_and_a_lost_one_is_revoked_with_it() {
    let hub = services::jupyterhub();
    let admin = secret(&[("key", HUB_TOKEN)]);
    let lease = |account: &str| {
        let place = place(&hub, "jupyterhub.toml", "app").credential("strategy", "ephemeral");
        let mut place = place.credential("accounts", json!(["app", account]));
        place.credential.remove("account");
        place
    };
    let (one, two) = (lease("app_k3vq"), lease("app_zzzz"));
    yes(one.ask(&request(&one, Step::Rehearse, TOKEN, None, by(By::Admin, &admin))));
    let (first, _) = minted(apply(&one, TOKEN, by(By::Admin, &admin)));
    let (other, _) = minted(apply(&two, TOKEN, by(By::Admin, &admin)));
    yes(verify(&one, &first));
    yes(verify(&two, &other));
    let labels = hub_tokens(&hub);
    assert!(labels.len() == 2 && labels[0] != labels[1], "each has its own: {labels:?}");
    // The answer was lost. Whatever the token, the lease has one key.
    let (second, note) = minted(apply(&one, "kw-another", by(By::Admin, &admin)));
    assert!(note.contains("1 key of an earlier try"), "{note}");
    no(verify(&one, &first), Reason::Credential);
    assert_eq!(hub_tokens(&hub).len(), 2);
    for _ in 0..2 {
        yes(retire(&one, &second, by(By::Admin, &admin)));
    }
    no(verify(&one, &second), Reason::Credential);
    yes(verify(&two, &other));
    // It ends before anybody knows its key.
    let end = Request { token: None, ..request(&two, Step::Retire, "", None, by(By::Admin, &admin)) };
    let note = yes(two.ask(&end));
    assert!(note.contains("whose value was not known"), "{note}");
    assert_eq!(yes(two.ask(&end)), "");
    no(verify(&two, &other), Reason::Credential);
    assert!(hub_tokens(&hub).is_empty());
    let log = hub.log();
    for key in [&first, &second, &other] {
        assert!(!log.contains(key.get("key").expect("a key").expose()), "no key is in the log");
    }
}
