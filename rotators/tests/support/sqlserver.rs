//! A simulated Microsoft SQL Server: this host can have no real one. It speaks TDS 7.4 (with TLS inside its packets, and no
//! other way unless it is told to) and TDS 8.0 (TLS outside), logs accounts in, and answers the statements that the rotator sends, read word by word, so
//! that one that is quoted badly is a syntax error here as there.
//!
//! What it can't show: how a real server behaves beyond that. Pages call it a simulation.
#![allow(dead_code, unreachable_pub, reason = "each test that includes this file uses its own part of it")]

use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use aws_lc_rs::digest;
use rustls::{ServerConnection, StreamOwned};

use crate::certificate::Certificate;

/// Kinds of packets.
const BATCH: u8 = 0x01;
const ANSWER: u8 = 0x04;
const LOGIN7: u8 = 0x10;
const PRELOGIN: u8 = 0x12;

/// Levels of encryption in a prelogin.
const ENCRYPT_ON: u8 = 1;
const ENCRYPT_NOT_SUPPORTED: u8 = 2;

const HEADER: usize = 8;
const MESSAGE_MAX: usize = 1 << 20;
/// How long an answer that never comes is not sent.
const HANG: Duration = Duration::from_secs(60);

/// How the server encrypts.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Tls {
    /// Inside TDS packets, as up to TDS 7.4.
    Inside,
    /// Before anything else, as TDS 8.0.
    Strict,
    Never,
}

/// What goes wrong with the next statement that begins with certain words. Each happens once.
#[derive(Clone, Debug)]
pub enum Fault {
    /// It is done, and the connection ends without an answer.
    LostAnswer,
    /// The connection ends, and nothing is done.
    LostStatement,
    /// It is done, and no answer comes.
    Silence,
    /// An error with this number and severity, and nothing is done.
    Refused(u32, u8),
}

enum Password {
    Clear(String),
    /// Salt and hash.
    Hash([u8; 4], Vec<u8>),
}

/// A login, or a user that a database contains.
pub struct Account {
    pub name: String,
    password: Password,
    /// The database that contains it; a login has none.
    pub database: Option<&'static str>,
    pub disabled: bool,
    pub locked: bool,
    pub policy: bool,
    pub sysadmin: bool,
    pub must_change: bool,
    pub permissions: Vec<&'static str>,
    /// Databases that it may enter beside master.
    pub enters: Vec<&'static str>,
}

#[derive(Default)]
struct State {
    accounts: Vec<Account>,
    faults: Vec<(&'static str, Fault)>,
    log: Vec<String>,
    wire: Vec<u8>,
    refused_logins: usize,
}

/// The simulated server. Its admin is the login `keywheel`, which has ALTER ANY LOGIN and nothing else.
pub struct SqlServer {
    pub port: u16,
    pub admin_password: String,
    certificate: Option<Certificate>,
    state: Arc<Mutex<State>>,
}

impl SqlServer {
    pub fn start(tls: Tls) -> Self {
        let certificate = (tls != Tls::Never).then(Certificate::make);
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let port = listener.local_addr().expect("its address").port();
        let state = Arc::new(Mutex::new(State::default()));
        let admin_password = "Marker-admin-0".to_owned();
        let configs = certificate.as_ref().map(|one| (one.config.clone(), one.config12.clone()));
        let this = Self { port, admin_password, certificate, state: state.clone() };
        this.create("keywheel", "Marker-admin-0", |account| account.permissions.push("ALTER ANY LOGIN"));
        // It ends with the test's process: nobody else connects.
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let (state, configs) = (state.clone(), configs.clone());
                std::thread::spawn(move || {
                    let tap = Tap { stream: client, state: state.clone() };
                    let served = match configs {
                        None => begin(tap, None, &state),
                        Some((_, inside)) if tls == Tls::Inside => begin(tap, Some(inside), &state),
                        Some((strict, _)) => match ServerConnection::new(strict) {
                            Ok(connection) => begin_strict(StreamOwned::new(connection, tap), &state),
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

    /// Makes a login with CHECK_POLICY = ON; `change` makes it another one.
    pub fn create(&self, name: &str, password: &str, change: impl FnOnce(&mut Account)) {
        let mut account = Account {
            name: name.to_owned(),
            password: Password::Clear(password.to_owned()),
            database: None,
            disabled: false,
            locked: false,
            policy: true,
            sysadmin: false,
            must_change: false,
            permissions: Vec::new(),
            enters: Vec::new(),
        };
        change(&mut account);
        self.state().accounts.push(account);
    }

    /// Changes an account by hand.
    pub fn change(&self, name: &str, change: impl FnOnce(&mut Account)) {
        change(self.state().accounts.iter_mut().find(|account| account.name == name).expect("an account"));
    }

    /// The next statement that begins so goes wrong.
    pub fn fault(&self, words: &'static str, fault: Fault) {
        self.state().faults.push((words, fault));
    }

    /// Whether a password is the one that an account has.
    pub fn takes(&self, name: &str, password: &str) -> bool {
        self.state().accounts.iter().find(|account| account.name == name).expect("an account").password.is(password)
    }

    /// How many logins were refused.
    pub fn refused_logins(&self) -> usize {
        self.state().refused_logins
    }

    /// Every statement as it came. A real server leaves those with passwords out of its traces.
    pub fn statements(&self) -> String {
        self.state().log.join("\n")
    }

    /// Every byte that came over the network.
    pub fn wire(&self) -> Vec<u8> {
        self.state().wire.clone()
    }
}

impl Password {
    fn is(&self, password: &str) -> bool {
        match self {
            Self::Clear(own) => own == password,
            Self::Hash(salt, hash) => {
                let bytes: Vec<u8> = password.encode_utf16().flat_map(u16::to_le_bytes).chain(*salt).collect();
                digest::digest(&digest::SHA512, &bytes).as_ref() == hash
            }
        }
    }
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

/// One message: packets of a kind up to the one that is marked as the last.
fn message(stream: &mut impl Read) -> io::Result<(u8, Vec<u8>)> {
    let mut body = Vec::new();
    loop {
        let mut header = [0; HEADER];
        stream.read_exact(&mut header)?;
        let length = usize::from(u16::from_be_bytes([header[2], header[3]]));
        let length = length.checked_sub(HEADER).filter(|length| body.len() + length <= MESSAGE_MAX);
        let mut part = vec![0; length.ok_or(io::ErrorKind::InvalidData)?];
        stream.read_exact(&mut part)?;
        body.extend(part);
        if header[1] & 1 == 1 {
            return Ok((header[0], body));
        }
    }
}

fn send(stream: &mut impl Write, kind: u8, body: &[u8]) -> io::Result<()> {
    const PART: usize = 4096 - HEADER;
    let parts = body.chunks(PART).count();
    for (number, part) in body.chunks(PART).enumerate() {
        let length = u16::try_from(part.len() + HEADER).expect("a small packet").to_be_bytes();
        let last = u8::from(number + 1 == parts);
        stream.write_all(&[kind, last, length[0], length[1], 0, 0, 1, 0])?;
        stream.write_all(part)?;
    }
    stream.flush()
}

/// Answers the prelogin; gives the level of encryption that the client asks for.
fn prelogin(stream: &mut (impl Read + Write), level: u8) -> io::Result<u8> {
    let (kind, body) = message(stream)?;
    if kind != PRELOGIN {
        return Err(io::ErrorKind::InvalidData.into());
    }
    // A table of kind, offset and length ends with 0xFF; kind 1 is the encryption.
    let option = body.chunks(5).take_while(|option| option[0] != 0xff).find(|option| option[0] == 1);
    let at = option.map(|option| usize::from(u16::from_be_bytes([option[1], option[2]])));
    let asked = at.and_then(|at| body.get(at)).copied().ok_or(io::ErrorKind::InvalidData)?;
    let answer = [&[0, 0, 11, 0, 6, 1, 0, 17, 0, 1, 0xff][..], &[16, 0, 0x10, 0, 0, 0, level]].concat();
    send(stream, ANSWER, &answer)?;
    Ok(asked)
}

fn begin(mut tap: Tap, tls: Option<Arc<rustls::ServerConfig>>, state: &Mutex<State>) -> io::Result<()> {
    let asked = prelogin(&mut tap, if tls.is_some() { ENCRYPT_ON } else { ENCRYPT_NOT_SUPPORTED })?;
    let Some(config) = tls else { return serve(tap, state) };
    if asked == ENCRYPT_NOT_SUPPORTED {
        return Ok(());
    }
    let mut connection = ServerConnection::new(config).map_err(io::Error::other)?;
    while connection.is_handshaking() {
        let (kind, body) = message(&mut tap)?;
        if kind != PRELOGIN {
            return Err(io::ErrorKind::InvalidData.into());
        }
        let mut rest = &body[..];
        while !rest.is_empty() {
            connection.read_tls(&mut rest)?;
            connection.process_new_packets().map_err(io::Error::other)?;
        }
        let mut flight = Vec::new();
        while connection.wants_write() {
            connection.write_tls(&mut flight)?;
        }
        if !flight.is_empty() {
            send(&mut tap, PRELOGIN, &flight)?;
        }
    }
    serve(StreamOwned::new(connection, tap), state)
}

fn begin_strict(mut stream: impl Read + Write, state: &Mutex<State>) -> io::Result<()> {
    prelogin(&mut stream, ENCRYPT_ON)?;
    serve(stream, state)
}

fn serve(mut stream: impl Read + Write, state: &Mutex<State>) -> io::Result<()> {
    let (kind, body) = message(&mut stream)?;
    if kind != LOGIN7 {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let field = |at: usize| {
        let number = |at: usize| usize::from(u16::from_le_bytes([body[at], body[at + 1]]));
        &body[number(at)..][..number(at + 2) * 2]
    };
    // Obscured, not encrypted: the halves of each byte changed places, and then some bits.
    let clear: Vec<u8> = field(44).iter().map(|byte| (byte ^ 0xa5).rotate_left(4)).collect();
    let (user, password, database) = (utf16(field(40)), utf16(&clear), utf16(field(68)));
    let own = match log_in(&mut state.lock().expect("no panic"), &user, &password, &database) {
        Ok(own) => own,
        Err(error) => {
            send(&mut stream, ANSWER, &[error, done(true)].concat())?;
            return Ok(());
        }
    };
    send(&mut stream, ANSWER, &[login_ack(), done(false)].concat())?;
    loop {
        let (kind, body) = message(&mut stream)?;
        let headers = body.get(..4).map(|head| u32::from_le_bytes([head[0], head[1], head[2], head[3]]));
        let start = headers.and_then(|length| usize::try_from(length).ok()).filter(|start| *start <= body.len());
        if kind != BATCH {
            return Err(io::ErrorKind::Unsupported.into());
        }
        let sql = utf16(&body[start.ok_or(io::ErrorKind::InvalidData)?..]);
        let outcome = answer(&mut state.lock().expect("no panic"), &own, &database, &sql);
        match outcome {
            Outcome::Answer(tokens) => send(&mut stream, ANSWER, &tokens)?,
            Outcome::End => return Ok(()),
            Outcome::Silence => {}
        }
    }
}

/// The name of the account that is logged in.
fn log_in(state: &mut State, user: &str, password: &str, database: &str) -> Result<String, Vec<u8>> {
    let is_it = |account: &&mut Account| {
        account.name.eq_ignore_ascii_case(user) && account.database.is_none_or(|own| own == database)
    };
    let found = state.accounts.iter_mut().find(is_it);
    let refusal = format!("Login failed for user '{user}'.");
    let Some(account) = found.filter(|account| account.password.is(password)) else {
        state.refused_logins += 1;
        return Err(error(18456, 14, &refusal));
    };
    if account.disabled {
        return Err(error(18470, 14, &format!("{refusal} Reason: The account is disabled.")));
    }
    if account.locked {
        return Err(error(18486, 14, &format!("{refusal} because the account is currently locked out.")));
    }
    if account.must_change {
        return Err(error(18488, 14, &format!("{refusal} Reason: The password of the account must be changed.")));
    }
    let enters = database == "master" || account.database.is_some() || account.enters.contains(&database);
    if !enters {
        let first =
            error(4060, 11, &format!("Cannot open database \"{database}\" requested by the login. The login failed."));
        return Err([first, error(18456, 14, &refusal)].concat());
    }
    Ok(account.name.clone())
}

enum Outcome {
    Answer(Vec<u8>),
    Silence,
    End,
}

fn answer(state: &mut State, own: &str, database: &str, sql: &str) -> Outcome {
    state.log.push(sql.to_owned());
    let position = state.faults.iter().position(|(words, _)| sql.starts_with(words));
    let fault = position.map(|position| state.faults.remove(position).1);
    match fault {
        Some(Fault::LostStatement) => return Outcome::End,
        Some(Fault::Refused(number, class)) => {
            return Outcome::Answer([error(number, class, "refused by the test"), done(true)].concat());
        }
        _ => {}
    }
    let tokens = match perform(state, own, database, sql) {
        Ok(rows) => [rows, done(false)].concat(),
        Err((number, message)) => [error(number, 16, &message), done(true)].concat(),
    };
    match fault {
        Some(Fault::LostAnswer) => Outcome::End,
        // The client gives up long before.
        Some(Fault::Silence) => Outcome::Silence,
        _ => Outcome::Answer(tokens),
    }
}

type Refusal = (u32, String);

fn perform(state: &mut State, own: &str, database: &str, sql: &str) -> Result<Vec<u8>, Refusal> {
    let syntax = || (102, "Incorrect syntax near something.".to_owned());
    if sql.strip_prefix("SET LOCK_TIMEOUT ").is_some_and(|number| number.parse::<u32>().is_ok()) {
        return Ok(Vec::new());
    }
    if sql == "SELECT CONVERT(nvarchar(128), ORIGINAL_LOGIN())" || sql == "SELECT CONVERT(nvarchar(128), USER_NAME())" {
        return Ok(rows(&[vec![Some(own.to_owned())]]));
    }
    let me = state.accounts.iter().find(|account| account.name == own).ok_or_else(syntax)?;
    let may = |permission: &str| me.sysadmin || me.permissions.contains(&permission);
    if let Some(asked) = sql.strip_prefix("SELECT CONVERT(nvarchar(1), HAS_PERMS_BY_NAME(") {
        let permission = asked.split('\'').rev().nth(1).ok_or_else(syntax)?;
        return Ok(rows(&[vec![Some(u8::from(may(permission)).to_string())]]));
    }
    let contained = sql.contains(" FROM sys.database_principals WHERE authentication_type = 2");
    if contained || sql.contains(" FROM sys.sql_logins") {
        let wanted = match sql.split_once("name = ") {
            Some((_, name)) => match words(name).ok_or_else(syntax)?.as_slice() {
                [Word::Text(name)] => Some(name.clone()),
                _ => return Err(syntax()),
            },
            None => None,
        };
        let sees_all = may(if contained { "ALTER ANY USER" } else { "ALTER ANY LOGIN" });
        let found = state.accounts.iter().filter(|account| {
            let here = if contained { account.database == Some(database) } else { account.database.is_none() };
            let asked = wanted.as_ref().is_none_or(|name| account.name.eq_ignore_ascii_case(name));
            here && asked && (sees_all || account.name == own)
        });
        let bit = |so: bool| Some(u8::from(so).to_string());
        let row = |account: &Account| {
            vec![
                Some(account.name.clone()),
                bit(account.disabled),
                bit(account.locked),
                bit(account.policy),
                bit(account.sysadmin),
                Some("2026-01-02T03:04:05".to_owned()),
                bit(false),
                (!contained).then(|| "0".to_owned()),
            ]
        };
        return Ok(rows(&found.map(row).collect::<Vec<_>>()));
    }
    alter(state, own, database, sql)
}

/// `ALTER LOGIN` or `ALTER USER`.
fn alter(state: &mut State, own: &str, database: &str, sql: &str) -> Result<Vec<u8>, Refusal> {
    let syntax = || (102, "Incorrect syntax near something.".to_owned());
    let all = words(sql).ok_or_else(syntax)?;
    let bare = |word: &str| Word::Bare(word.to_owned());
    let (what, rest) = match all.as_slice() {
        [alter, what, rest @ ..] if *alter == bare("ALTER") => (what, rest),
        _ => return Err(syntax()),
    };
    let (contained, permission) = match what {
        what if *what == bare("LOGIN") => (false, "ALTER ANY LOGIN"),
        what if *what == bare("USER") => (true, "ALTER ANY USER"),
        _ => return Err(syntax()),
    };
    let (name, settings) = match rest {
        [Word::Name(name), with, settings @ ..] if *with == bare("WITH") => (name, settings),
        _ => return Err(syntax()),
    };
    let (password, hashed, old) = match settings {
        [one, is, Word::Text(new)] if (one, is) == (&bare("PASSWORD"), &bare("=")) => (new, false, None),
        [one, is, Word::Text(new), two, again, Word::Text(old)]
            if (one, is, two, again) == (&bare("PASSWORD"), &bare("="), &bare("OLD_PASSWORD"), &bare("=")) =>
        {
            (new, false, Some(old))
        }
        [one, is, Word::Bare(hash), last] if (one, is, last) == (&bare("PASSWORD"), &bare("="), &bare("HASHED")) => {
            (hash, true, None)
        }
        _ => return Err(syntax()),
    };
    let me = state.accounts.iter().find(|account| account.name == own).ok_or_else(syntax)?;
    let (boss, admin) =
        (me.sysadmin || me.permissions.contains(&"CONTROL SERVER"), me.permissions.contains(&permission));
    let refusal = || {
        let what = if contained { "user" } else { "login" };
        (15151, format!("Cannot alter the {what} '{name}', because it does not exist or you do not have permission."))
    };
    let found = state.accounts.iter_mut().find(|account| {
        account.name == *name
            && account.database == contained.then_some(database).and(account.database)
            && account.database.is_some() == contained
    });
    let account = found.ok_or_else(refusal)?;
    let itself = account.name == own && old.is_some_and(|old| account.password.is(old));
    if !(boss || itself || (admin && !account.sysadmin)) {
        return Err(refusal());
    }
    if hashed {
        if account.policy {
            return Err((
                15021,
                "Invalid value given for parameter PASSWORD. Specify a valid parameter value.".to_owned(),
            ));
        }
        account.password = parse_hash(password).ok_or_else(syntax)?;
        return Ok(Vec::new());
    }
    if account.policy {
        let has = |class: fn(&char) -> bool| usize::from(password.chars().any(|one| class(&one)));
        let classes = has(char::is_ascii_lowercase)
            + has(char::is_ascii_uppercase)
            + has(char::is_ascii_digit)
            + has(char::is_ascii_punctuation);
        let because = |number, why| Err((number, format!("Password validation failed. The password {why}.")));
        if password.len() < 8 {
            return because(15116, "does not meet Windows policy requirements because it is too short");
        }
        if classes < 3 {
            return because(15118, "does not meet Windows policy requirements because it is not complex enough");
        }
    }
    account.password = Password::Clear(password.clone());
    Ok(Vec::new())
}

fn parse_hash(text: &str) -> Option<Password> {
    let digits = text.strip_prefix("0x0200").filter(|digits| digits.len() == 136)?;
    let byte = |at: usize| u8::from_str_radix(digits.get(at..at + 2)?, 16).ok();
    let bytes = (0..68).map(|number| byte(number * 2)).collect::<Option<Vec<u8>>>()?;
    Some(Password::Hash(bytes[..4].try_into().ok()?, bytes[4..].to_vec()))
}

/// The parts of a statement.
#[derive(Debug, PartialEq, Eq)]
enum Word {
    /// A keyword, a number, an equals sign.
    Bare(String),
    /// In brackets.
    Name(String),
    /// In quotes.
    Text(String),
}

fn words(sql: &str) -> Option<Vec<Word>> {
    let mut words = Vec::new();
    let mut rest = sql.trim_start();
    while !rest.is_empty() {
        let (word, behind) = if let Some(inside) = rest.strip_prefix("N'") {
            let (text, behind) = until(inside, '\'')?;
            (Word::Text(text), behind)
        } else if let Some(inside) = rest.strip_prefix('[') {
            let (name, behind) = until(inside, ']')?;
            (Word::Name(name), behind)
        } else {
            let end = rest.find(' ').unwrap_or(rest.len());
            let (word, behind) = rest.split_at(end);
            let plain = |one: char| one.is_ascii_alphanumeric() || one == '_' || one == '=';
            (Word::Bare(Some(word).filter(|word| word.chars().all(plain))?.to_owned()), behind)
        };
        words.push(word);
        rest = behind.trim_start();
    }
    Some(words)
}

/// What stands before a closing mark; a doubled one stands for itself.
fn until(text: &str, mark: char) -> Option<(String, &str)> {
    let mut inside = String::new();
    let mut rest = text;
    loop {
        let (before, behind) = rest.split_once(mark)?;
        inside.push_str(before);
        let Some(more) = behind.strip_prefix(mark) else { return Some((inside, behind)) };
        inside.push(mark);
        rest = more;
    }
}

fn utf16(bytes: &[u8]) -> String {
    let units: Vec<u16> = bytes.chunks_exact(2).map(|unit| u16::from_le_bytes([unit[0], unit[1]])).collect();
    String::from_utf16_lossy(&units)
}

fn to_utf16(text: &str) -> Vec<u8> {
    text.encode_utf16().flat_map(u16::to_le_bytes).collect()
}

/// A text with its length in characters before it, in one byte.
fn short_text(text: &str) -> Vec<u8> {
    [vec![u8::try_from(text.encode_utf16().count()).expect("a short text")], to_utf16(text)].concat()
}

fn sized(token: u8, body: &[u8]) -> Vec<u8> {
    let length = u16::try_from(body.len()).expect("a short token").to_le_bytes();
    [&[token, length[0], length[1]], body].concat()
}

fn login_ack() -> Vec<u8> {
    let version = [0x74, 0, 0, 4];
    sized(0xad, &[&[1][..], &version, &short_text("Simulated SQL Server"), &[16, 0, 0x10, 0]].concat())
}

fn error(number: u32, class: u8, message: &str) -> Vec<u8> {
    let length = u16::try_from(message.encode_utf16().count()).expect("a short text").to_le_bytes();
    let body = [
        &number.to_le_bytes()[..],
        &[1, class],
        &length,
        &to_utf16(message),
        &short_text("SIMULATED"),
        &short_text(""),
        &1_u32.to_le_bytes(),
    ];
    sized(0xaa, &body.concat())
}

fn done(with_error: bool) -> Vec<u8> {
    let status = if with_error { 2_u16 } else { 0 };
    [&[0xfd][..], &status.to_le_bytes(), &0_u16.to_le_bytes(), &0_u64.to_le_bytes()].concat()
}

/// Rows of NVARCHAR. At least the columns must be known, so no rows are rows of one column.
fn rows(all: &[Vec<Option<String>>]) -> Vec<u8> {
    let width = u16::try_from(all.first().map_or(1, Vec::len)).expect("few columns");
    let mut tokens = [&[0x81][..], &width.to_le_bytes()].concat();
    for _ in 0..width {
        // User type, flags (nullable), NVARCHAR, its longest value in bytes, a collation, no name.
        tokens.extend([0, 0, 0, 0, 1, 0, 0xe7, 0x40, 0x1f, 0x09, 0x04, 0xd0, 0x00, 0x34, 0]);
    }
    for row in all {
        tokens.push(0xd1);
        for value in row {
            match value {
                None => tokens.extend([0xff, 0xff]),
                Some(text) => {
                    let bytes = to_utf16(text);
                    tokens.extend(u16::try_from(bytes.len()).expect("a short value").to_le_bytes());
                    tokens.extend(bytes);
                }
            }
        }
    }
    tokens
}
