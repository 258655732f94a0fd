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

pub(crate) use describe::{describe, format_setting};

use aws_lc_rs::constant_time::verify_slices_are_equal;
use keywheel_protocol::{Reason, Reply, Request, Secret, Step};
use zeroize::Zeroizing;

use crate::deadline::Deadline;
use crate::failpoint;
use crate::file_swap::SwapFile;
use crate::hook::{self, Hooks};
use crate::settings::Settings;
use crate::step::noted;
use document::{Format, Text, unsupported};

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
    spot: Spot<'a>,
    hooks: Hooks<'a>,
}

impl<'a> Place<'a> {
    fn of(request: &'a Request) -> Result<Self, Reply> {
        let target = Settings(&request.target);
        let hooks = Hooks::of(target)?;
        let key = Settings(&request.credential).required("key")?;
        Ok(Self { path: target.required("path")?, spot: Spot { format: format(target)?, key }, hooks })
    }
}

/// The place of a value in a file.
#[derive(Clone, Copy)]
pub(crate) struct Spot<'a> {
    format: Format,
    key: &'a str,
}

impl<'a> Spot<'a> {
    /// The place that `key` leads to in a file of this format.
    pub(crate) fn of(format: &str, key: &'a str) -> Result<Self, Reply> {
        Ok(Self { format: named(format)?, key })
    }

    /// Whether the file has this value there.
    pub(crate) fn has<Guard>(self, file: &SwapFile<Guard>, value: &Secret) -> Result<bool, Reply> {
        let text = Text::of(file.contents(), self.format)?;
        Ok(is_same(&self.format.value(text.as_str(), self.key)?, value))
    }

    /// The contents of the file at `path` with the new value; nothing if it has it already.
    pub(crate) fn changed<Guard>(
        self,
        file: &SwapFile<Guard>,
        path: &str,
        new: &Secret,
    ) -> Result<Option<Zeroizing<Vec<u8>>>, Reply> {
        if file.names() > 1 {
            let message = format!("{path} has other names (hard links), which would keep the old value");
            return Err(unsupported(message));
        }
        let text = Text::of(file.contents(), self.format)?;
        if is_same(&self.format.value(text.as_str(), self.key)?, new) {
            return Ok(None);
        }
        let edited = self.format.set(text.as_str(), self.key, new.expose())?;
        text.bytes_of(&edited).map(Some)
    }
}

fn format(target: Settings<'_>) -> Result<Format, Reply> {
    named(target.required("format")?)
}

fn named(name: &str) -> Result<Format, Reply> {
    Format::named(name).ok_or_else(|| unsupported(format!("there is no format {name}")))
}

fn apply(request: &Request, deadline: Deadline) -> Result<Reply, Reply> {
    let new = password(request)?;
    let place = Place::of(request)?;
    let file = SwapFile::lock(place.path, deadline)?;
    let contents = match place.spot.changed(&file, place.path, new)? {
        Some(contents) => contents,
        // An earlier try of this very change took hold; the service may not have heard of it.
        None => return Ok(hook::reload(place.hooks.reload, deadline)),
    };
    failpoint::hit("worker.apply.before");
    file.replace(&contents)?;
    Ok(hook::reload(place.hooks.reload, deadline))
}

fn verify(request: &Request, deadline: Deadline) -> Result<Reply, Reply> {
    let subject = password(request)?;
    let place = Place::of(request)?;
    let file = SwapFile::read(place.path)?;
    if !place.spot.has(&file, subject)? {
        let message = format!("the value {} in the file is another one", place.spot.key);
        return Err(Reply::no(Reason::Credential, message));
    }
    place.hooks.prove(request, deadline)
}

/// Everything that `apply` does, but for the change and the reload.
fn rehearse(request: &Request) -> Result<Reply, Reply> {
    let new = password(request)?;
    let place = Place::of(request)?;
    let file = SwapFile::read(place.path)?;
    file.rehearse()?;
    place.spot.changed(&file, place.path, new)?;
    let note =
        place.hooks.check.is_none().then(|| "without check, only the file is proved, not the service".to_owned());
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
