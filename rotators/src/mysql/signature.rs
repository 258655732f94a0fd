//! A login at MariaDB by `ed25519`, which sqlx has not.
//!
//! <https://mariadb.com/docs/server/reference/clientserver-protocol/1-connecting/connection>.

use keywheel_protocol::{Reply, Secret};
use rustls::ClientConfig;
use tokio::time::timeout;

use super::verdict::{self, Trouble};
use super::wire::{END, OK, PACKET_BYTES_MAX, Wire, foreign};
use super::{ed25519, native};
use crate::deadline::Deadline;
use crate::net;
use crate::settings::Pair;

/// The client's name of the method.
pub(super) const PLUGIN: &str = "client_ed25519";
const NATIVE: &str = "mysql_native_password";

/// Of the capabilities: version 4.1, transactions, salted passwords, methods by name.
const CAPABILITIES: u32 = 1 << 9 | 1 << 13 | 1 << 15 | 1 << 19;
const TLS: u32 = 1 << 11;
/// Without it, MariaDB looks for capabilities of its own. It does not offer it itself.
const MYSQL: u32 = 1;
/// `utf8mb4_general_ci`.
const CHARACTERS: u8 = 45;
/// How often a server may wish for another method: once for each that an account has.
const WISHES_MAX: usize = 8;

/// Logs in over a fresh connection.
pub(super) async fn log_in(
    (host, port): (&str, u16),
    tls: Option<&ClientConfig>,
    login: Pair<'_>,
    deadline: Deadline,
) -> Result<Wire, Reply> {
    let place = net::place(host, port);
    let refused = |trouble: Trouble| verdict::of_login(&trouble, login.username, &place);
    let mut wire = Wire { stream: net::connect(host, port, None, deadline).await?, next: 0 };
    let logged_in = async {
        let can = greeting(&wire.receive().await.map_err(refused)?).ok_or_else(|| refused(foreign()))?;
        let mut head = [0; 32];
        let wanted = CAPABILITIES | tls.map_or(0, |_| TLS);
        if wanted & !can != 0 {
            let why = if wanted & !can & TLS != 0 { "it has no TLS" } else { "it is too old" };
            return Err(refused(Trouble::Foreign(why.to_owned())));
        }
        head[..4].copy_from_slice(&(wanted | MYSQL).to_le_bytes());
        head[4..8].copy_from_slice(&PACKET_BYTES_MAX.to_le_bytes());
        head[8] = CHARACTERS;
        if let Some(tls) = tls {
            // Sent twice: in the open to begin TLS, and inside, where it counts.
            wire.send(&[&head]).await.map_err(refused)?;
            wire.stream = net::secure(wire.stream, host, port, tls).await?;
        }
        wire.send(&[&head, login.username.as_bytes(), &[0, 0], PLUGIN.as_bytes(), &[0]]).await.map_err(refused)?;
        prove(&mut wire, login.password).await.map_err(refused)?;
        Ok(wire)
    };
    let late = || Err(Reply::not_reached(format!("{place} did not answer in time")));
    timeout(deadline.left(), logged_in).await.unwrap_or_else(|_| late())
}

/// Answers what the server asks for, until it is content.
async fn prove(wire: &mut Wire, password: &Secret) -> Result<(), Trouble> {
    for _ in 0..WISHES_MAX {
        let packet = wire.receive().await?;
        let (plugin, drawn) = match packet.split_first() {
            Some((&OK, _)) => return Ok(()),
            Some((&END, wish)) => text(wish).ok_or_else(foreign)?,
            _ => return Err(foreign()),
        };
        let answer = match plugin {
            PLUGIN => ed25519::answer(password, drawn.try_into().map_err(|_| foreign())?),
            // An account may have several methods, each of which gets its turn.
            NATIVE => native::answer(password, drawn.strip_suffix(&[0]).unwrap_or(drawn)),
            other => return Err(Trouble::Foreign(format!("it asks for {other}, an unknown authentication plugin"))),
        };
        wire.send(&[&answer]).await?;
    }
    Err(foreign())
}

/// What the server can do, out of its first packet.
fn greeting(packet: &[u8]) -> Option<u32> {
    let (&10, rest) = packet.split_first()? else { return None };
    let (_version, rest) = text(rest)?;
    // The number of the connection, 8 bytes that were drawn, and a zero.
    let (low, rest) = rest.get(13..)?.split_first_chunk::<2>()?;
    // The server's character set and state.
    let (high, _) = rest.get(3..)?.split_first_chunk::<2>()?;
    Some(u32::from(u16::from_le_bytes(*low)) | u32::from(u16::from_le_bytes(*high)) << 16)
}

/// A text that ends with a zero, and what comes after it.
fn text(bytes: &[u8]) -> Option<(&str, &[u8])> {
    let end = bytes.iter().position(|byte| *byte == 0)?;
    Some((std::str::from_utf8(bytes.get(..end)?).ok()?, bytes.get(end + 1..)?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn i11_no_greeting_is_too_odd(bytes in prop::collection::vec(any::<u8>(), 0..80)) {
            let _ = greeting(&bytes);
            let _ = greeting(&[&[10], &bytes[..]].concat());
        }
    }
}
