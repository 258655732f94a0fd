//! The minimum age of a password, as `chage -l` tells an account of its own.

use keywheel_protocol::{Reason, Reply};

use super::SBIN;
use crate::ssh::{Session, quoted};
use crate::step::Stage;
use crate::time;

const DAY_S: i64 = 86_400;
const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

/// The refusal that the account would meet if it changed its own password now. None where the host does not tell.
///
/// # Errors
/// The host is lost.
pub(super) fn too_soon(session: &Session, account: &str) -> Result<Option<Reply>, Reply> {
    let command = format!("{SBIN}date +%s; chage -l {} 2>/dev/null", quoted(account));
    let ran = session.run(&command, b"", Stage::Question)?;
    let told = ran.output.split_once('\n').and_then(|(now, listing)| Some((now.trim().parse().ok()?, listing)));
    Ok(told.and_then(|(now, listing)| refusal(listing, now)))
}

/// `now` in seconds since 1970 by the host's clock. A password may be changed again on the day that is so many days after
/// that of the last change, days being those of UTC (`pam_unix`, shadow(5)).
fn refusal(listing: &str, now: i64) -> Option<Reply> {
    let value =
        |name: &str| listing.lines().find_map(|line| line.strip_prefix(name)?.split_once(':').map(|(_, v)| v.trim()));
    let days: i64 = value("Minimum number of days")?.parse().ok()?;
    let last = value("Last password change")?;
    let left = day(last)?.checked_add(days.checked_mul(DAY_S)?)?.checked_sub(now)?;
    let left = u64::try_from(left).ok().filter(|left| *left > 0)?;
    let message = format!(
        "the minimum age of a password is {days} days; the last change was on {last}; next try after {}",
        time::said(left)
    );
    Some(Reply::No { reason: Reason::TooSoon, message, retry_after_s: Some(left) })
}

/// Seconds since 1970 out of `Nov 30, 2026`, or of `2026-11-30` as newer versions write it. None for `never`, and for
/// `password must be changed`.
fn day(text: &str) -> Option<i64> {
    let words: Vec<&str> = text.split([' ', ',', '-']).filter(|word| !word.is_empty()).collect();
    let [one, two, three] = words[..] else { return None };
    let (year, month, day) = match MONTHS.iter().position(|month| *month == one) {
        Some(month) => (three, month + 1, two),
        None => (one, two.parse().ok()?, three),
    };
    time::generalized(&format!("{year:0>4}{month:02}{day:0>2}000000Z"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_may_be_changed_again_on_the_day_that_its_minimum_age_ends() {
        let listing = |last: &str, days: &str| {
            format!(
                "Last password change\t\t\t\t\t: {last}\nMinimum number of days between password change\t\t: {days}\n"
            )
        };
        // 2026-11-30, 15:00.
        let now = time::generalized("20261130150000Z").expect("a time");
        for last in ["Nov 29, 2026", "2026-11-29"] {
            let told = refusal(&listing(last, "5"), now);
            let Some(Reply::No { reason: Reason::TooSoon, message, retry_after_s }) = told else { panic!("{told:?}") };
            assert_eq!(retry_after_s, Some(4 * 86_400 - 15 * 3_600));
            assert!(message.ends_with(&format!("the last change was on {last}; next try after 4 days")), "{message}");
        }
        for (last, days) in [
            ("Nov 25, 2026", "5"),
            ("Nov 29, 2026", "1"),
            ("Jan 02, 2001", "90"),
            ("Nov 30, 2026", "0"),
            ("never", "5"),
            ("password must be changed", "5"),
            ("Nov 29, 2026", "-1"),
        ] {
            assert!(refusal(&listing(last, days), now).is_none(), "{last}, {days}");
        }
        assert!(refusal("", now).is_none());
    }
}
