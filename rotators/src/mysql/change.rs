//! The statement that sets a password.

use keywheel_protocol::{By, Reason, Reply, Secret};

use super::account::{self, Account, Method, Unsalted};
use super::session::{Session, literal};
use super::sha2;
use super::target::Target;

/// The most passwords that an account may have at a time: more would be the work of something that never cleans up.
const PASSWORDS_MAX: usize = 4;

/// A statement that was thought through and not sent yet.
pub(super) struct Change {
    pub(super) sql: String,
    /// What the operator should know.
    pub(super) note: Option<String>,
}

impl From<String> for Change {
    fn from(sql: String) -> Self {
        Self { sql, note: None }
    }
}

/// A password that is to be set.
pub(super) struct Wish<'a> {
    pub(super) account: &'a Account,
    pub(super) by: By,
    pub(super) password: &'a Secret,
    /// Whether the password before stays valid beside it.
    pub(super) beside: bool,
}

/// The statement that sets the password, by a hash wherever the server takes one.
pub(super) async fn change(session: &mut Session, target: &Target<'_>, wish: &Wish<'_>) -> Result<Change, Reply> {
    let Wish { account, by, password, beside } = *wish;
    let quoted = account.quoted();
    let created = session.created(account).await?;
    if account::is_locked(&created) {
        let message = format!("{account} is locked; if it should not be, ALTER USER {quoted} ACCOUNT UNLOCK");
        return Err(Reply::no(Reason::Locked, message));
    }
    let method = Method::known(&created, account)?;
    let hashes = account::hashes(&created, account);
    if beside {
        return second(session, target, wish, &method, hashes).await;
    }
    if by == By::Account && hashes.len() > 1 {
        let message = format!(
            "{account} has {} passwords, of which it can change the first only; ALTER USER {quoted} to one, or give the target an admin",
            hashes.len()
        );
        return Err(unsupported(&message));
    }
    // First, since it is set where the server refuses hashes.
    if target.clear_text() {
        return Ok(clear(session, wish, &method).into());
    }
    let sql = match (method, by) {
        (Method::Unsalted(kind), By::Account) if session.is_mariadb() => {
            session.refuse_if_checking().await?;
            format!("SET PASSWORD = {}", literal(&kind.hash(password)))
        }
        (Method::Unsalted(kind), By::Admin) => {
            if session.is_mariadb() {
                session.refuse_if_checking().await?;
            }
            format!("ALTER USER {quoted} IDENTIFIED WITH {} AS {}", kind.plugin(), literal(&kind.hash(password)))
        }
        (Method::Sha2, By::Admin) => {
            let hash =
                sha2::hash(password).map_err(|error| Reply::not_reached(format!("nothing was changed: {error}")))?;
            format!("ALTER USER {quoted} IDENTIFIED WITH caching_sha2_password AS {}", literal(&hash))
        }
        _ => {
            return Err(unsupported(&format!(
                "the server takes no hash for {account} from this login; give the target an admin (not for sha256_password), or set \
                 clear_text = true on the target, with TLS and with its general log off"
            )));
        }
    };
    Ok(sql.into())
}

/// The same with the password as it is.
fn clear(session: &Session, wish: &Wish<'_>, method: &Method) -> String {
    let (quoted, text) = (wish.account.quoted(), literal(wish.password.expose()));
    match (wish.by, method) {
        (By::Account, _) if session.is_mariadb() => format!("SET PASSWORD = PASSWORD({text})"),
        (By::Account, _) => format!("ALTER USER USER() IDENTIFIED BY {text}"),
        // Without the name, the account would log in by mysql_native_password from then on.
        (By::Admin, Method::Unsalted(kind)) if session.is_mariadb() => {
            format!("ALTER USER {quoted} IDENTIFIED VIA {} USING PASSWORD({text})", kind.plugin())
        }
        (By::Admin, _) => format!("ALTER USER {quoted} IDENTIFIED BY {text}"),
    }
}

/// The statement that sets the password beside the one before.
async fn second(
    session: &mut Session,
    target: &Target<'_>,
    wish: &Wish<'_>,
    method: &Method,
    mut hashes: Vec<String>,
) -> Result<Change, Reply> {
    let Wish { account, by, password, .. } = *wish;
    if !session.is_mariadb() {
        if by == By::Admin && target.clear_text() {
            let clear = literal(password.expose());
            return Ok(format!("ALTER USER {} IDENTIFIED BY {clear} RETAIN CURRENT PASSWORD", account.quoted()).into());
        }
        return Err(unsupported(
            "two passwords at a time take, at MySQL, an admin and clear_text = true, with TLS and the general log off; use strategy \
             \"replace\" or \"alternate\"",
        ));
    }
    let (Method::Unsalted(kind), By::Admin, false) = (method, by, target.clear_text()) else {
        return Err(unsupported(
            "two passwords at a time take, at MariaDB, an admin and no clear_text; use strategy \"replace\" or \"alternate\"",
        ));
    };
    session.refuse_if_checking().await?;
    let new = kind.hash(password);
    // It is there already if this was done before.
    hashes.retain(|hash| *hash != new);
    let before = hashes.len();
    hashes.insert(0, new);
    if hashes.len() > PASSWORDS_MAX {
        let message = format!("{account} has {before} passwords, of which keywheel knows one; ALTER USER it to one");
        return Err(unsupported(&message));
    }
    // Nobody else's password is taken away: it may be what a service still logs in with.
    let note = (before > 1).then(|| {
        format!(
            "{account} had {before} passwords before; keywheel knows one, and the others stay: see SHOW CREATE USER"
        )
    });
    Ok(Change { sql: by_hashes(account, *kind, &hashes), note })
}

/// The statement that leaves an account of MariaDB with these passwords.
pub(super) fn by_hashes(account: &Account, kind: Unsalted, hashes: &[String]) -> String {
    let method = |hash: &String| format!("{} USING {}", kind.plugin(), literal(hash));
    let methods: Vec<String> = hashes.iter().map(method).collect();
    format!("ALTER USER {} IDENTIFIED VIA {}", account.quoted(), methods.join(" OR "))
}

fn unsupported(message: &str) -> Reply {
    Reply::no(Reason::Unsupported, message)
}
