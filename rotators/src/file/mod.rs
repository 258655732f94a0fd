//! A secret in a file that a service reads: one value of a document in one of seven formats. Every other byte stays.

mod describe;
mod discover;
mod document;
mod env;
mod ini;
mod json;
mod properties;
mod toml;
mod xml;
mod yaml;

#[cfg(test)]
mod tests;

pub(crate) use describe::describe;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use keywheel_protocol::{Reason, Reply, Request, Secret, Step};
use zeroize::Zeroizing;

use crate::deadline::Deadline;
use crate::failpoint;
use crate::file_swap::SwapFile;
use crate::hook::{self, Hook};
use crate::settings::Settings;
use crate::step::noted;
use document::{Format, Text, unsupported};

/// How a `check` says that the service refuses the value.
const REFUSED: i32 = 1;

/// Performs one step.
pub(crate) fn answer(request: &Request) -> Reply {
    let deadline = Deadline::after_ms(request.deadline_ms);
    let step = match request.step {
        Step::Apply => apply(request, deadline),
        Step::Verify => verify(request, deadline),
        Step::Discover => discover::discover(request),
        Step::Rehearse => rehearse(request),
        Step::Describe | Step::Retire => Err(unsupported("this kind does not answer that step")),
    };
    step.unwrap_or_else(|reply| reply)
}

/// What the settings name.
struct Place<'a> {
    path: &'a str,
    format: Format,
    key: &'a str,
    reload: Option<Hook<'a>>,
    check: Option<Hook<'a>>,
}

impl<'a> Place<'a> {
    fn of(request: &'a Request) -> Result<Self, Reply> {
        let target = Settings(&request.target);
        let hook = |name: &'static str| target.text(name)?.map(|path| Hook::of(name, path)).transpose();
        let (reload, check) = (hook("reload")?, hook("check")?);
        if reload.is_some() && check.is_none() {
            // The file would be proof enough for a rotation whose reload failed, and nobody would learn of it.
            return Err(unsupported("reload needs check: without it, nothing shows that a reload has failed"));
        }
        let key = Settings(&request.credential).required("key")?;
        Ok(Self { path: target.required("path")?, format: format(target)?, key, reload, check })
    }
}

fn format(target: Settings<'_>) -> Result<Format, Reply> {
    let name = target.required("format")?;
    Format::named(name).ok_or_else(|| unsupported(format!("there is no format {name}")))
}

fn apply(request: &Request, deadline: Deadline) -> Result<Reply, Reply> {
    let new = password(request)?;
    let place = Place::of(request)?;
    let file = SwapFile::lock(place.path, deadline)?;
    let contents = match changed(&file, &place, new)? {
        Some(contents) => contents,
        // An earlier try of this very change took hold; the service may not have heard of it.
        None => return Ok(hook::reload(place.reload, deadline)),
    };
    failpoint::hit("worker.apply.before");
    file.replace(&contents)?;
    Ok(hook::reload(place.reload, deadline))
}

/// The file's contents with the new value; nothing if it has it already.
fn changed<Guard>(
    file: &SwapFile<Guard>,
    place: &Place<'_>,
    new: &Secret,
) -> Result<Option<Zeroizing<Vec<u8>>>, Reply> {
    if file.names() > 1 {
        let message = format!("{} has other names (hard links), which would keep the old value", place.path);
        return Err(unsupported(message));
    }
    let text = Text::of(file.contents(), place.format)?;
    if is_same(&place.format.value(text.as_str(), place.key)?, new) {
        return Ok(None);
    }
    let edited = place.format.set(text.as_str(), place.key, new.expose())?;
    text.bytes_of(&edited).map(Some)
}

fn verify(request: &Request, deadline: Deadline) -> Result<Reply, Reply> {
    let subject = password(request)?;
    let place = Place::of(request)?;
    let file = SwapFile::read(place.path)?;
    let text = Text::of(file.contents(), place.format)?;
    if !is_same(&place.format.value(text.as_str(), place.key)?, subject) {
        let message = format!("the value {} in the file is another one", place.key);
        return Err(Reply::no(Reason::Credential, message));
    }
    let Some(check) = place.check else { return Ok(Reply::yes()) };
    let status = check
        .run(Some(&fields_as_json(request)?), deadline)
        .map_err(|error| Reply::not_reached(format!("nothing is known of the service: {error}")))?;
    match status.code() {
        Some(0) => Ok(Reply::yes()),
        Some(REFUSED) => {
            let message =
                "the file has this value, but by check the service refuses it; it may not have read the file yet";
            Err(Reply::no(Reason::Credential, message))
        }
        _ => Err(Reply::not_reached(format!("nothing is known of the service: check ended with {status}"))),
    }
}

/// Everything that `apply` does, but for the change and the reload.
fn rehearse(request: &Request) -> Result<Reply, Reply> {
    let new = password(request)?;
    let place = Place::of(request)?;
    let file = SwapFile::read(place.path)?;
    file.rehearse()?;
    changed(&file, &place, new)?;
    let note = place.check.is_none().then(|| "without check, only the file is proved, not the service".to_owned());
    Ok(noted(note))
}

/// The secret of the subject. A user name may be there for `check`; the file has none.
fn password(request: &Request) -> Result<&Secret, Reply> {
    let fields =
        request.subject.as_ref().ok_or_else(|| unsupported("the request has no subject, which this step needs"))?;
    fields.get("password").ok_or_else(|| unsupported("the subject has no password"))
}

fn is_same(value: &str, secret: &Secret) -> bool {
    verify_slices_are_equal(value.as_bytes(), secret.expose().as_bytes()).is_ok()
}

/// The subject's fields, as one JSON object on one line.
fn fields_as_json(request: &Request) -> Result<Zeroizing<Vec<u8>>, Reply> {
    let fields = request.subject.iter().flat_map(|fields| fields.iter());
    let fields: std::collections::BTreeMap<&str, &str> = fields.map(|(name, value)| (name, value.expose())).collect();
    // Each character takes six at most, so that the buffer never moves.
    let room = fields.iter().map(|(name, value)| 6 * (name.len() + value.len()) + 8).sum::<usize>() + 4;
    let mut line = Zeroizing::new(Vec::with_capacity(room));
    serde_json::to_writer(&mut *line, &fields).map_err(|_| unsupported("the subject can't be written in JSON"))?;
    line.push(b'\n');
    Ok(line)
}
