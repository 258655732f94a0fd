//! The password policy control (draft-behera-ldap-password-policy-10, 6): what a server says beside its answer.

use ldap3::controls::{Control, RawControl};

const OID: &str = "1.3.6.1.4.1.42.2.27.8.5.1";
/// What 389 Directory Server says without being asked: the password has expired, or must be changed.
const EXPIRED_389: &str = "2.16.840.1.113730.3.4.4";

/// What the policy says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Told {
    pub(super) error: Option<Offence>,
    /// Seconds until the password expires.
    pub(super) expires_s: Option<u64>,
    /// Logins that are left after it has expired.
    pub(super) graces: Option<u64>,
}

/// What the policy has against a login or a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Offence {
    Expired,
    Locked,
    MustChange,
    NotAllowed,
    NeedsOld,
    Quality,
    TooShort,
    TooYoung,
    InHistory,
    TooLong,
    Other,
}

/// The control as it is sent along; never critical, since most servers don't know it.
pub(super) fn asked() -> RawControl {
    RawControl { ctype: OID.to_owned(), crit: false, val: None }
}

/// What came back.
pub(super) fn told(controls: &[Control]) -> Told {
    let named = |oid: &str| controls.iter().find(|Control(_, raw)| raw.ctype == oid).map(|Control(_, raw)| raw);
    let mut told = named(OID).and_then(|raw| parse(raw.val.as_deref()?)).unwrap_or_default();
    if told.error.is_none() && told.graces.is_none() && named(EXPIRED_389).is_some() {
        told.error = Some(Offence::MustChange);
    }
    told
}

/// `SEQUENCE { warning [0] CHOICE { timeBeforeExpiration [0], graceAuthNsRemaining [1] } OPTIONAL, error [1] OPTIONAL }`.
fn parse(value: &[u8]) -> Option<Told> {
    let (0x30, mut inside, _) = element(value)? else { return None };
    let mut told = Told::default();
    while !inside.is_empty() {
        let (tag, content, rest) = element(inside)?;
        match tag {
            0xa0 => match element(content)? {
                (0x80, seconds, _) => told.expires_s = Some(number(seconds)?),
                (0x81, graces, _) => told.graces = Some(number(graces)?),
                _ => {}
            },
            0x81 => {
                told.error = Some(match number(content)? {
                    0 => Offence::Expired,
                    1 => Offence::Locked,
                    2 => Offence::MustChange,
                    3 => Offence::NotAllowed,
                    4 => Offence::NeedsOld,
                    5 => Offence::Quality,
                    6 => Offence::TooShort,
                    7 => Offence::TooYoung,
                    8 => Offence::InHistory,
                    9 => Offence::TooLong,
                    _ => Offence::Other,
                });
            }
            _ => {}
        }
        inside = rest;
    }
    Some(told)
}

/// The first element of BER: its tag, its content and what follows. 389 Directory Server writes the least length in four bytes.
fn element(bytes: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&[tag, short], rest) = bytes.split_first_chunk::<2>()?;
    let (length, rest) = if short < 0x80 {
        (u64::from(short), rest)
    } else {
        let (long, rest) = rest.split_at_checked((short & 0x7f).into())?;
        (number(long)?, rest)
    };
    let (content, rest) = rest.split_at_checked(usize::try_from(length).ok()?)?;
    Some((tag, content, rest))
}

fn number(bytes: &[u8]) -> Option<u64> {
    let fits = (1..=8).contains(&bytes.len());
    fits.then(|| bytes.iter().fold(0, |number, byte| number << 8 | u64::from(*byte)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_control_is_read_and_nonsense_is_none() {
        let error = |error| Some(Told { error: Some(error), ..Told::default() });
        assert_eq!(parse(&[0x30, 0x00]), Some(Told::default()));
        assert_eq!(parse(&[0x30, 0x03, 0x81, 0x01, 0x06]), error(Offence::TooShort));
        assert_eq!(parse(&[0x30, 0x03, 0x81, 0x01, 0x7f]), error(Offence::Other));
        let graces = Told { graces: Some(3), ..Told::default() };
        assert_eq!(parse(&[0x30, 0x05, 0xa0, 0x03, 0x81, 0x01, 0x03]), Some(graces));
        let expires = Told { expires_s: Some(0x1234), error: Some(Offence::Locked), ..Told::default() };
        assert_eq!(parse(&[0x30, 0x09, 0xa0, 0x04, 0x80, 0x02, 0x12, 0x34, 0x81, 0x01, 0x01]), Some(expires));
        // As 389 Directory Server writes it.
        assert_eq!(parse(&[0x30, 0x84, 0, 0, 0, 3, 0x81, 0x01, 0x07]), error(Offence::TooYoung));
        for odd in [
            &[][..],
            &[0x30],
            &[0x31, 0x00],
            &[0x30, 0x84],
            &[0x30, 0x05, 0x81],
            &[0x30, 0x02, 0x81, 0x00],
            &[0x30, 0x80, 0x81, 0x01, 0x07],
            &[0x30, 0x84, 0xff, 0xff, 0xff, 0xff, 0x81, 0x01, 0x07],
            &[0x30, 0xff, 0x81, 0x01, 0x07],
        ] {
            assert_eq!(parse(odd), None, "{odd:x?}");
        }
    }
}
