//! A simulated MongoDB server: this host can have no real one. It speaks the wire protocol (`OP_MSG`, with or without TLS), logs users in
//! by SCRAM with what it keeps of their passwords, asks for the privileges that the server's source asks for
//! (`user_management_commands_common.cpp`), and can be told to fail in the ways that a network does.
//!
//! What it can't show: how a real server behaves beyond that. Pages call it a simulation.
#![allow(dead_code, unreachable_pub, reason = "each test that includes this file uses its own part of it")]

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use aws_lc_rs::{digest, hmac, pbkdf2};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use mongodb::bson::spec::BinarySubtype;
use mongodb::bson::{Binary, Bson, Document, doc};

use crate::certificate::Certificate;

/// The fewest that drivers take: the tests are not about strength.
const ITERATIONS: u32 = 4096;
const SALT: &[u8] = b"not random here!";
const OP_MSG: i32 = 2013;
const MESSAGE_MAX: usize = 1 << 20;
/// How long a reply that never comes is not sent.
const HANG: Duration = Duration::from_secs(60);

/// What goes wrong with the next command of a name. Each happens once.
#[derive(Clone, Debug)]
pub enum Fault {
    /// It is done, and the connection ends without an answer.
    LostAnswer,
    /// The connection ends, and nothing is done.
    LostCommand,
    /// It is done, and no answer comes.
    Silence,
    /// An answer with this number and name, and nothing is done.
    Refused(i32, &'static str),
    /// It is done, and most of the replica set don't confirm it.
    Unconfirmed,
}

struct User {
    database: String,
    name: String,
    secrets: BTreeMap<&'static str, Scram>,
    roles: Vec<(String, String)>,
    restrictions: Option<Bson>,
    custom_data: Option<Bson>,
}

/// What a server keeps of a password.
struct Scram {
    stored_key: Vec<u8>,
    server_key: Vec<u8>,
}

#[derive(Default)]
struct State {
    users: Vec<User>,
    /// Privileges of a role, by its name.
    roles: BTreeMap<String, Vec<Document>>,
    faults: Vec<(String, Fault)>,
    log: Vec<String>,
    wire: Vec<u8>,
    refused_logins: usize,
    secondary: bool,
    replica_set: Option<String>,
    port: u16,
}

/// The simulated server. Its admin is `keywheel` of `admin`, with the role that the page describes.
pub struct Mongod {
    pub port: u16,
    pub admin_password: String,
    certificate: Option<Certificate>,
    state: Arc<Mutex<State>>,
}

impl Mongod {
    /// One that speaks TLS.
    pub fn start() -> Self {
        Self::with(Some(Certificate::make()))
    }

    /// One that does not.
    pub fn plain() -> Self {
        Self::with(None)
    }

    fn with(certificate: Option<Certificate>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let port = listener.local_addr().expect("its address").port();
        let state = Arc::new(Mutex::new(State { port, ..State::default() }));
        let admin_password = "marker-admin-0".to_owned();
        let this = Self { port, admin_password, certificate, state: state.clone() };
        this.role("root", vec![doc! { "resource": { "anyResource": true }, "actions": ["anyAction"] }]);
        this.role("changes_itself", vec![doc! { "resource": on("shop"), "actions": ["changeOwnPassword"] }]);
        this.role("readWrite", vec![doc! { "resource": on("shop"), "actions": ["find", "insert"] }]);
        this.role("keywheel", keywheel_role());
        this.create("admin", "keywheel", "marker-admin-0", &[("keywheel", "admin")]);
        let tls = this.certificate.as_ref().map(|certificate| certificate.config.clone());
        // It ends with the test's process: nobody else connects.
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let (state, tls) = (state.clone(), tls.clone());
                std::thread::spawn(move || {
                    let tap = Tap { stream: client, state: state.clone() };
                    let served = match tls {
                        None => serve(tap, &state),
                        Some(config) => match rustls::ServerConnection::new(config) {
                            Ok(connection) => serve(rustls::StreamOwned::new(connection, tap), &state),
                            Err(_) => Ok(()),
                        },
                    };
                    drop(served);
                });
            }
        });
        this
    }

    /// Who signed its certificate.
    pub fn ca_file(&self) -> PathBuf {
        self.certificate.as_ref().expect("it speaks TLS").ca_file.clone()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no test panicked while it had it")
    }

    /// Makes a user, as `createUser` without `mechanisms` would.
    pub fn create(&self, database: &str, name: &str, password: &str, roles: &[(&str, &str)]) {
        self.create_by(database, name, password, roles, &["SCRAM-SHA-1", "SCRAM-SHA-256"]);
    }

    pub fn create_by(&self, database: &str, name: &str, password: &str, roles: &[(&str, &str)], mechanisms: &[&str]) {
        let mechanisms: Vec<String> = mechanisms.iter().map(|name| (*name).to_owned()).collect();
        self.state().users.push(User {
            database: database.to_owned(),
            name: name.to_owned(),
            secrets: secrets(name, password, &mechanisms),
            roles: roles.iter().map(|(role, database)| ((*role).to_owned(), (*database).to_owned())).collect(),
            restrictions: None,
            custom_data: None,
        });
    }

    /// Restricts from where a user may log in. The simulation only shows it.
    pub fn restrict(&self, name: &str, source: &str) {
        let restrictions = Bson::Array(vec![Bson::Document(doc! { "clientSource": [source] })]);
        let mut state = self.state();
        let user = state.users.iter_mut().find(|user| user.name == name).expect("a user");
        (user.restrictions, user.custom_data) = (Some(restrictions), Some(Bson::Document(doc! { "team": "shop" })));
    }

    /// Sets what a role may do.
    pub fn role(&self, name: &str, privileges: Vec<Document>) {
        self.state().roles.insert(name.to_owned(), privileges);
    }

    /// The next command of this name goes wrong.
    pub fn fault(&self, command: &str, fault: Fault) {
        self.state().faults.push((command.to_owned(), fault));
    }

    /// Whether it takes changes, or only reads.
    pub fn step_down(&self) {
        self.state().secondary = true;
    }

    /// Whether it counts itself as the only member of a replica set.
    pub fn found(&self, replica_set: &str) {
        self.state().replica_set = Some(replica_set.to_owned());
    }

    /// A user as `usersInfo` shows it.
    pub fn user(&self, database: &str, name: &str) -> Option<Document> {
        let state = self.state();
        state.users.iter().find(|user| user.database == database && user.name == name).map(|user| shown(user, true))
    }

    /// Whether a password is the one that a user has for a mechanism.
    pub fn takes(&self, database: &str, name: &str, password: &str, mechanism: &'static str) -> bool {
        let wanted = secrets(name, password, &[mechanism.to_owned()]);
        let state = self.state();
        let user = state.users.iter().find(|user| user.database == database && user.name == name).expect("a user");
        user.secrets.get(mechanism).is_some_and(|secret| secret.stored_key == wanted[mechanism].stored_key)
    }

    /// How many logins were refused.
    pub fn refused_logins(&self) -> usize {
        self.state().refused_logins
    }

    /// Every command, as a server with the highest verbosity logs it: `pwd` is left out, and nothing else.
    pub fn log(&self) -> String {
        self.state().log.join("\n")
    }

    /// Every byte that came over the network.
    pub fn wire(&self) -> Vec<u8> {
        self.state().wire.clone()
    }
}

/// The role of the page, word for word.
pub fn keywheel_role() -> Vec<Document> {
    vec![
        doc! { "resource": on("shop"), "actions": ["viewUser", "changePassword", "createUser", "grantRole"] },
        doc! { "resource": on("admin"), "actions": ["changeOwnPassword"] },
        doc! { "resource": { "cluster": true }, "actions": ["viewUser"] },
    ]
}

pub fn on(database: &str) -> Document {
    doc! { "db": database, "collection": "" }
}

/// Keeps what comes in.
struct Tap {
    stream: TcpStream,
    state: Arc<Mutex<State>>,
}

impl Read for Tap {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.stream.read(buffer)?;
        self.state.lock().expect("no panic").wire.extend(&buffer[..read]);
        Ok(read)
    }
}

impl Write for Tap {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.stream.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.stream.flush()
    }
}

/// One connection: who is logged in, and a login that is under way.
#[derive(Default)]
struct Connection {
    user: Option<(String, String)>,
    login: Option<Login>,
}

struct Login {
    database: String,
    name: String,
    mechanism: &'static str,
    messages: String,
    nonce: String,
}

fn serve(mut stream: impl Read + Write, state: &Mutex<State>) -> io::Result<()> {
    let mut connection = Connection::default();
    loop {
        let mut header = [0; 16];
        stream.read_exact(&mut header)?;
        let number = |at: usize| i32::from_le_bytes(header[at..at + 4].try_into().expect("four bytes"));
        let length = usize::try_from(number(0)).ok().filter(|length| (21..MESSAGE_MAX).contains(length));
        let mut body = vec![0; length.ok_or(io::ErrorKind::InvalidData)? - 16];
        stream.read_exact(&mut body)?;
        // Flags, then sections, of which drivers send one for commands like these: kind 0, a document.
        if number(12) != OP_MSG || body[..5] != [0; 5] {
            return Err(io::ErrorKind::Unsupported.into());
        }
        let command = Document::from_reader(&body[5..]).map_err(io::Error::other)?;
        let Some(answer) = answer(&mut connection, state, &command) else { return Ok(()) };
        let document = answer.to_vec().map_err(io::Error::other)?;
        let mut message = Vec::new();
        let length = i32::try_from(document.len() + 21).map_err(io::Error::other)?;
        for word in [length, 1, number(4), OP_MSG, 0] {
            message.extend(word.to_le_bytes());
        }
        message.push(0);
        message.extend(document);
        stream.write_all(&message)?;
        stream.flush()?;
    }
}

type Outcome = Result<Document, (i32, &'static str, String)>;

/// The answer to a command; none ends the connection.
fn answer(connection: &mut Connection, state: &Mutex<State>, command: &Document) -> Option<Document> {
    let name = command.keys().next().cloned().unwrap_or_default();
    let fault = {
        let mut state = state.lock().expect("no panic");
        let mut logged = command.clone();
        if logged.contains_key("pwd") {
            logged.insert("pwd", "xxx");
        }
        state.log.push(logged.to_string());
        let position = state.faults.iter().position(|(command, _)| *command == name);
        position.map(|position| state.faults.remove(position).1)
    };
    match fault {
        Some(Fault::LostCommand) => return None,
        Some(Fault::Refused(code, words)) => return Some(failure(code, words, "refused by the test")),
        _ => {}
    }
    let outcome = perform(connection, &mut state.lock().expect("no panic"), &name, command);
    let mut answer = match outcome {
        Ok(mut answer) => {
            answer.insert("ok", 1.0);
            answer
        }
        Err((code, name, message)) => failure(code, name, &message),
    };
    match fault {
        Some(Fault::LostAnswer) => return None,
        Some(Fault::Silence) => {
            std::thread::sleep(HANG);
            return None;
        }
        Some(Fault::Unconfirmed) => {
            let error =
                doc! { "code": 64, "codeName": "WriteConcernTimeout", "errmsg": "waiting for replication timed out" };
            answer.insert("writeConcernError", error);
        }
        _ => {}
    }
    Some(answer)
}

fn failure(code: i32, name: &str, message: &str) -> Document {
    doc! { "ok": 0.0, "errmsg": message, "code": code, "codeName": name }
}

fn unauthorized(what: String) -> (i32, &'static str, String) {
    (13, "Unauthorized", what)
}

fn perform(connection: &mut Connection, state: &mut State, name: &str, command: &Document) -> Outcome {
    let database = command.get_str("$db").unwrap_or_default().to_owned();
    match name {
        "hello" | "isMaster" | "ismaster" => return Ok(hello(connection, state, command)),
        "saslStart" => return sasl_start(connection, state, &database, command),
        "saslContinue" => return sasl_continue(connection, state, command),
        "ping" | "endSessions" | "killCursors" => return Ok(Document::new()),
        "connectionStatus" => return Ok(status(connection, state, command)),
        _ => {}
    }
    let Some(own) = connection.user.clone() else {
        return Err(unauthorized(format!("Command {name} requires authentication")));
    };
    let may = |action: &str, database: &str| allows(state, &own, action, Some(database));
    let ask = |action: &'static str, database: &str| {
        let refused =
            || unauthorized(format!("not authorized on {database} to execute command {{ {name} }} ({action})"));
        may(action, database).then_some(()).ok_or_else(refused)
    };
    let changes = matches!(name, "updateUser" | "createUser" | "grantRolesToUser");
    if changes && state.secondary {
        return Err((10107, "NotWritablePrimary", "not primary".to_owned()));
    }
    match name {
        "usersInfo" => {
            let users = match &command["usersInfo"] {
                Bson::Document(all) if all.contains_key("forAllDBs") => {
                    if !allows(state, &own, "viewUser", None) {
                        return Err(unauthorized("Not authorized to view users from all databases".to_owned()));
                    }
                    state.users.iter().map(|user| shown(user, false)).collect::<Vec<_>>()
                }
                Bson::Document(one) => {
                    let wanted = (text(one, "db"), text(one, "user"));
                    if wanted != own {
                        ask("viewUser", &wanted.0)?;
                    }
                    let is_it = |user: &&User| (&user.database, &user.name) == (&wanted.0, &wanted.1);
                    state.users.iter().filter(is_it).map(|user| shown(user, true)).collect()
                }
                _ => {
                    ask("viewUser", &database)?;
                    let in_it = |user: &&User| user.database == database;
                    state.users.iter().filter(in_it).map(|user| shown(user, false)).collect()
                }
            };
            Ok(doc! { "users": users })
        }
        "updateUser" => {
            let user = text(command, "updateUser");
            let itself = own == (database.clone(), user.clone()) && may("changeOwnPassword", &database);
            if !itself {
                ask("changePassword", &database)?;
            }
            if command.contains_key("roles") || command.contains_key("customData") {
                return Err((2, "BadValue", "the simulation changes passwords only".to_owned()));
            }
            let secrets = secrets(&user, &text(command, "pwd"), &mechanisms(command));
            let found = state.users.iter_mut().find(|one| one.database == database && one.name == user);
            let missing = || (11, "UserNotFound", format!("User '{user}@{database}' not found"));
            found.ok_or_else(missing)?.secrets = secrets;
            Ok(Document::new())
        }
        "createUser" => {
            let user = text(command, "createUser");
            ask("createUser", &database)?;
            let roles = roles(command);
            for (_, database) in &roles {
                ask("grantRole", database)?;
            }
            if command.contains_key("authenticationRestrictions") {
                ask("setAuthenticationRestriction", &database)?;
            }
            if state.users.iter().any(|one| one.database == database && one.name == user) {
                return Err((51003, "Location51003", format!("User \"{user}@{database}\" already exists")));
            }
            let secrets = secrets(&user, &text(command, "pwd"), &mechanisms(command));
            let restrictions = command.get("authenticationRestrictions").cloned();
            let custom_data = command.get("customData").cloned();
            state.users.push(User { database, name: user, secrets, roles, restrictions, custom_data });
            Ok(Document::new())
        }
        "grantRolesToUser" => {
            let (user, roles) = (text(command, "grantRolesToUser"), roles(command));
            for (_, database) in &roles {
                ask("grantRole", database)?;
            }
            let found = state.users.iter_mut().find(|one| one.database == database && one.name == user);
            found.ok_or((11, "UserNotFound", "no such user".to_owned()))?.roles.extend(roles);
            Ok(Document::new())
        }
        _ => Err((59, "CommandNotFound", format!("no such command: '{name}'"))),
    }
}

fn hello(connection: &mut Connection, state: &mut State, command: &Document) -> Document {
    let mut answer = doc! {
        "isWritablePrimary": !state.secondary, "ismaster": !state.secondary, "secondary": state.secondary, "helloOk": true,
        "maxBsonObjectSize": 16 << 20, "maxMessageSizeBytes": 48_000_000, "maxWriteBatchSize": 100_000,
        "logicalSessionTimeoutMinutes": 30, "connectionId": 1, "minWireVersion": 0, "maxWireVersion": 21, "readOnly": false,
    };
    if let Some(name) = &state.replica_set {
        let own = format!("127.0.0.1:{}", state.port);
        let members = doc! { "setName": name, "setVersion": 1, "hosts": [&own], "me": &own };
        answer.extend(members);
        if !state.secondary {
            answer.insert("primary", own);
        }
    }
    if let Ok(asked) = command.get_str("saslSupportedMechs") {
        let user = state.users.iter().find(|user| format!("{}.{}", user.database, user.name) == asked);
        let names = user.map(|user| user.secrets.keys().map(|name| (*name).to_owned()).collect::<Vec<_>>());
        if let Some(names) = names {
            answer.insert("saslSupportedMechs", names);
        }
    }
    if let Ok(start) = command.get_document("speculativeAuthenticate") {
        // What can't begin is left out, and the client begins again in the usual way.
        let before = state.refused_logins;
        match sasl_start(connection, state, &text(start, "db"), start) {
            Ok(first) => drop(answer.insert("speculativeAuthenticate", first)),
            Err(_) => state.refused_logins = before,
        }
    }
    answer
}

fn refused(state: &mut State) -> (i32, &'static str, String) {
    state.refused_logins += 1;
    (18, "AuthenticationFailed", "Authentication failed.".to_owned())
}

fn sasl_start(connection: &mut Connection, state: &mut State, database: &str, command: &Document) -> Outcome {
    let mechanism = match command.get_str("mechanism") {
        Ok("SCRAM-SHA-256") => "SCRAM-SHA-256",
        Ok("SCRAM-SHA-1") => "SCRAM-SHA-1",
        _ => return Err((334, "MechanismUnavailable", "no such mechanism".to_owned())),
    };
    let first = payload(command);
    let bare = first.strip_prefix("n,,").unwrap_or_default();
    let (name, nonce) = bare.split_once(",r=").unwrap_or_default();
    let name = name.trim_start_matches("n=").replace("=2C", ",").replace("=3D", "=");
    let is_it = |user: &User| user.database == database && user.name == name && user.secrets.contains_key(mechanism);
    if !state.users.iter().any(is_it) {
        return Err(refused(state));
    }
    let nonce = format!("{nonce}and-the-server");
    let reply = format!("r={nonce},s={},i={ITERATIONS}", STANDARD.encode(SALT));
    let messages = format!("{bare},{reply}");
    connection.login = Some(Login { database: database.to_owned(), name, mechanism, messages, nonce });
    Ok(doc! { "conversationId": 1, "done": false, "payload": binary(reply) })
}

fn sasl_continue(connection: &mut Connection, state: &mut State, command: &Document) -> Outcome {
    let last = payload(command);
    let Some(login) = connection.login.take() else { return Err(refused(state)) };
    let (without_proof, proof) = last.split_once(",p=").unwrap_or_default();
    let proof = STANDARD.decode(proof).unwrap_or_default();
    let sha256 = login.mechanism == "SCRAM-SHA-256";
    let user = state.users.iter().find(|user| user.database == login.database && user.name == login.name);
    let Some(secret) = user.and_then(|user| user.secrets.get(login.mechanism)) else { return Err(refused(state)) };
    let messages = format!("{},{without_proof}", login.messages);
    let signature = mac(sha256, &secret.stored_key, messages.as_bytes());
    let client_key: Vec<u8> = proof.iter().zip(&signature).map(|(one, two)| one ^ two).collect();
    let server_signature = mac(sha256, &secret.server_key, messages.as_bytes());
    let nonce_is_it = without_proof == format!("c=biws,r={}", login.nonce);
    if !nonce_is_it || hash(sha256, &client_key) != secret.stored_key {
        return Err(refused(state));
    }
    connection.user = Some((login.database, login.name));
    let reply = format!("v={}", STANDARD.encode(server_signature));
    Ok(doc! { "conversationId": 1, "done": true, "payload": binary(reply) })
}

fn status(connection: &Connection, state: &State, command: &Document) -> Document {
    let Some((database, name)) = &connection.user else {
        return doc! { "authInfo": { "authenticatedUsers": [], "authenticatedUserRoles": [] } };
    };
    let own = state.users.iter().find(|user| (&user.database, &user.name) == (database, name));
    let mut info = doc! { "authenticatedUsers": [{ "user": name, "db": database }] };
    info.insert("authenticatedUserRoles", own.map(role_documents).unwrap_or_default());
    if command.contains_key("showPrivileges") {
        info.insert("authenticatedUserPrivileges", own.map(|user| privileges(state, user)).unwrap_or_default());
    }
    doc! { "authInfo": info }
}

fn privileges(state: &State, user: &User) -> Vec<Document> {
    user.roles.iter().flat_map(|(role, _)| state.roles.get(role).cloned().unwrap_or_default()).collect()
}

/// Whether a user may do this to the whole of a database, or to the cluster.
fn allows(state: &State, own: &(String, String), action: &str, database: Option<&str>) -> bool {
    let Some(user) = state.users.iter().find(|user| (&user.database, &user.name) == (&own.0, &own.1)) else {
        return false;
    };
    privileges(state, user).iter().any(|privilege| {
        let resource = privilege.get_document("resource").expect("a resource");
        let covers = resource.contains_key("anyResource")
            || match database {
                None => resource.contains_key("cluster"),
                Some(database) => *resource == on(database),
            };
        let actions = privilege.get_array("actions").expect("actions");
        covers && actions.iter().any(|one| [Some(action), Some("anyAction")].contains(&one.as_str()))
    })
}

fn shown(user: &User, details: bool) -> Document {
    let mut shown = doc! {
        "_id": format!("{}.{}", user.database, user.name), "user": &user.name, "db": &user.database,
        "roles": role_documents(user), "mechanisms": user.secrets.keys().map(|name| (*name).to_owned()).collect::<Vec<_>>(),
    };
    if let Some(data) = &user.custom_data {
        shown.insert("customData", data.clone());
    }
    if let (true, Some(restrictions)) = (details, &user.restrictions) {
        shown.insert("authenticationRestrictions", restrictions.clone());
    }
    shown
}

fn role_documents(user: &User) -> Vec<Document> {
    user.roles.iter().map(|(role, database)| doc! { "role": role, "db": database }).collect()
}

fn roles(command: &Document) -> Vec<(String, String)> {
    let roles = command.get_array("roles").map(Vec::as_slice).unwrap_or_default();
    roles.iter().filter_map(Bson::as_document).map(|role| (text(role, "role"), text(role, "db"))).collect()
}

fn mechanisms(command: &Document) -> Vec<String> {
    match command.get_array("mechanisms") {
        Ok(names) => names.iter().filter_map(Bson::as_str).map(str::to_owned).collect(),
        Err(_) => vec!["SCRAM-SHA-1".to_owned(), "SCRAM-SHA-256".to_owned()],
    }
}

fn text(document: &Document, key: &str) -> String {
    document.get_str(key).unwrap_or_default().to_owned()
}

fn payload(command: &Document) -> String {
    let bytes = command.get_binary_generic("payload").map(Vec::as_slice).unwrap_or_default();
    String::from_utf8_lossy(bytes).into_owned()
}

fn binary(text: String) -> Binary {
    Binary { subtype: BinarySubtype::Generic, bytes: text.into_bytes() }
}

/// What is kept of a password, for each mechanism (RFC 5802).
fn secrets(user: &str, password: &str, mechanisms: &[String]) -> BTreeMap<&'static str, Scram> {
    let one = |mechanism: &String| {
        let sha256 = mechanism == "SCRAM-SHA-256";
        let digested = if sha256 { password.to_owned() } else { md5(&format!("{user}:mongo:{password}")) };
        let algorithm = if sha256 { pbkdf2::PBKDF2_HMAC_SHA256 } else { pbkdf2::PBKDF2_HMAC_SHA1 };
        let mut salted = vec![0; if sha256 { 32 } else { 20 }];
        let rounds = NonZeroU32::new(ITERATIONS).expect("not zero");
        pbkdf2::derive(algorithm, rounds, SALT, digested.as_bytes(), &mut salted);
        let stored_key = hash(sha256, &mac(sha256, &salted, b"Client Key"));
        let server_key = mac(sha256, &salted, b"Server Key");
        (if sha256 { "SCRAM-SHA-256" } else { "SCRAM-SHA-1" }, Scram { stored_key, server_key })
    };
    mechanisms.iter().map(one).collect()
}

fn mac(sha256: bool, key: &[u8], message: &[u8]) -> Vec<u8> {
    let algorithm = if sha256 { hmac::HMAC_SHA256 } else { hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY };
    hmac::sign(&hmac::Key::new(algorithm, key), message).as_ref().to_vec()
}

fn hash(sha256: bool, bytes: &[u8]) -> Vec<u8> {
    let algorithm = if sha256 { &digest::SHA256 } else { &digest::SHA1_FOR_LEGACY_USE_ONLY };
    digest::digest(algorithm, bytes).as_ref().to_vec()
}

/// No library of this tree has MD5, and none should.
fn md5(text: &str) -> String {
    let mut command = Command::new("md5sum");
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("md5sum runs");
    child.stdin.take().expect("a pipe").write_all(text.as_bytes()).expect("read");
    let output = child.wait_with_output().expect("its output");
    String::from_utf8_lossy(&output.stdout[..32]).into_owned()
}
