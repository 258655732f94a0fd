//! `[target.*]`.

use std::collections::{BTreeMap, BTreeSet};
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use keywheel_protocol::{Description, Overlap, Setting, Step, Strategy};

use super::credentials;
use super::model::{Daemon, Limits, Target};
use super::section::{Notes, Section};
use super::settings;
use super::tree::Place;
use crate::ids::{CredentialName, NameError, TargetName};
use crate::rotation::Lockout;

/// Keys of a target that are not its rotator's.
const OWN_KEYS: [&str; 5] = ["kind", "admin", "rotations", "step_timeout", "lockout"];

/// A target as read, with what its credentials need to know of it.
pub(super) struct Read {
    pub target: Arc<Target>,
    pub lockout: Lockout,
    /// Where `admin` stands.
    pub admin_place: Option<Place>,
}

/// Asks rotators what settings they take, each kind once.
pub(super) struct Kinds<'a> {
    pub daemon: &'a Daemon,
    pub ask: &'a mut dyn FnMut(&str, &Daemon) -> Result<Description, String>,
    pub known: BTreeMap<String, Result<Arc<Description>, String>>,
}

impl Kinds<'_> {
    fn describe(&mut self, kind: &str) -> Result<Arc<Description>, String> {
        if let Some(known) = self.known.get(kind) {
            return known.clone();
        }
        let described = (self.ask)(kind, self.daemon).and_then(usable).map(Arc::new);
        self.known.insert(kind.to_owned(), described.clone());
        described
    }
}

pub(super) fn read<'a>(
    notes: &'a Notes,
    all: Option<&Section<'a>>,
    limits: &Limits,
    kinds: &mut Kinds,
) -> BTreeMap<TargetName, Read> {
    let mut targets = BTreeMap::new();
    for (name, place, node) in all.into_iter().flat_map(Section::entries) {
        let Some(section) = Section::of_node(notes, place, node) else { continue };
        let name = named::<TargetName>(notes, name, place, "a target");
        let kind = section.needed("kind", "say which rotator knows it: `keywheel rotator list` shows them");
        let admin = section.text("admin");
        let step_timeout = section.duration("step_timeout", Duration::from_secs(1)..=Duration::from_secs(3600));
        let rotations = section.count("rotations", 1..=1024);
        let lockout = lockout(&section);
        let (Some(name), Some((kind, kind_place))) = (name, kind) else { continue };
        let description = match kinds.describe(kind) {
            Ok(description) => description,
            Err(why) => {
                let help = "`keywheel rotator list` shows the kinds; drop-ins stand in `rotators_dir` of [daemon]";
                notes.problem(
                    kind_place,
                    format!("there is no usable rotator of kind {kind:?}: {why}"),
                    help.to_owned(),
                );
                continue;
            }
        };
        let target_settings = settings::read(notes, &section, description.target.iter(), kind);
        section.finish(&[]);
        let admin_place = admin.map(|(_, place)| place.clone());
        let admin = admin.and_then(|(text, place)| named(notes, text, place, "a credential"));
        let target = Target {
            name: name.clone(),
            kind: kind.to_owned(),
            settings: target_settings,
            admin,
            rotations: rotations.unwrap_or(limits.rotations_per_target),
            step_timeout: step_timeout.unwrap_or(limits.step_timeout),
            description,
        };
        targets.insert(name, Read { target: Arc::new(target), lockout, admin_place });
    }
    targets
}

fn lockout(section: &Section) -> Lockout {
    let default = Lockout::default();
    let Some(table) = section.section("lockout") else { return default };
    let failures = table.number("failures", 1..=1000).and_then(|failures| u32::try_from(failures).ok());
    let window = table.duration("window", Duration::from_secs(1)..=Duration::from_secs(30 * 24 * 3600));
    table.finish(&[]);
    Lockout { failures: failures.unwrap_or(default.failures), window: window.unwrap_or(default.window) }
}

/// Whether a rotator can be used with what it says of itself: `rotators/PROTOCOL.md`, `describe`.
fn usable(description: Description) -> Result<Description, String> {
    let lasting =
        description.overlap == Overlap::Both || description.strategies.iter().any(|s| *s != Strategy::Replace);
    let needed = [(Step::Apply, "apply", true), (Step::Verify, "verify", true), (Step::Retire, "retire", lasting)];
    if let Some((_, step, _)) = needed.iter().find(|(step, _, needed)| *needed && !description.steps.contains(step)) {
        return Err(format!("it does not answer the step {step}"));
    }
    if description.strategies.is_empty() {
        return Err("it names no strategy".to_owned());
    }
    for (settings, ours) in [(&description.target, &OWN_KEYS[..]), (&description.credential, &credentials::OWN_KEYS)] {
        let mut seen = BTreeSet::new();
        for Setting { name, .. } in settings {
            if ours.contains(&name.as_str()) {
                return Err(format!("it calls a setting `{name}`, which is a key of keywheel's own"));
            }
            if !seen.insert(name) {
                return Err(format!("it describes the setting `{name}` twice"));
            }
        }
    }
    Ok(description)
}

/// Reads the name of a section such as `[target.NAME]`.
pub(super) fn named<N: FromStr<Err = NameError>>(notes: &Notes, name: &str, place: &Place, what: &str) -> Option<N> {
    let parsed = name.parse();
    parsed.map_err(|error| notes.problem(place, format!("{name:?} can't name {what}: {error}"), suggestion(name))).ok()
}

/// A name that would do in the place of one that does not.
fn suggestion(name: &str) -> Option<String> {
    let fixed: String = name
        .to_lowercase()
        .chars()
        .map(|c| if matches!(c, 'a'..='z' | '0'..='9' | '.' | '_' | '-' | '/') { c } else { '-' })
        .collect();
    fixed.parse::<CredentialName>().ok().map(|fixed| format!("`{fixed}` would do"))
}
