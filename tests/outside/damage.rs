//! Everything that can happen to a file of a store, by the real command: `keywheel doctor` names it and changes nothing,
//! `--repair` mends it or says what does, and what it says is done.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::kit::{Fetched, fetch, files_under, rotate, settled, succeeds, try_fetch};
use crate::patient::{PARTS, Patient};

/// Places of a file at which a bit flips.
const FLIPS: usize = 6;

/// What a human brings back, if it is named.
const NEEDED: [&str; 7] = [
    "state/store/journal",
    "state/store/keyring",
    "state/store/LOCK",
    "state/store/ballast",
    "master.key",
    "log/audit.jsonl",
    "log/audit.jsonl.position",
];

/// A closed store with a history, and copies of it.
struct Ward {
    patient: Patient,
    /// As it is.
    whole: PathBuf,
    /// As it was two commits and more before.
    older: PathBuf,
    /// What is handed out.
    secret: Fetched,
    /// The files of another store.
    other: Patient,
}

impl Ward {
    fn new() -> Self {
        let mut patient = Patient::new("");
        patient.daemon.sigterm();
        let older = patient.saved("older", &PARTS);
        patient.daemon.start();
        let secret = rotate(&patient.daemon, "app/web");
        // sled writes its snapshot at the second start.
        patient.daemon.restart();
        patient.daemon.sigterm();
        let whole = patient.saved("whole", &PARTS);
        let mut other = Patient::new("");
        other.daemon.restart();
        other.daemon.sigterm();
        Self { patient, whole, older, secret, other }
    }

    fn at(&self, file: &str) -> PathBuf {
        self.patient.daemon.scratch.at(file)
    }

    /// The files of which the names start so, from the scratch folder on.
    fn files(&self, start: &str) -> Vec<String> {
        let top = self.patient.daemon.scratch.path();
        let inside = |path: &PathBuf| Some(path.strip_prefix(top).ok()?.to_str()?.to_owned());
        let mut files: Vec<String> = files_under(top).iter().filter_map(inside).collect();
        files.retain(|file| file.starts_with(start));
        files.sort();
        assert!(!files.is_empty(), "{start}");
        files
    }

    fn contents(&self) -> BTreeMap<PathBuf, Vec<u8>> {
        let parts = PARTS.map(|part| self.at(part));
        let files = parts.iter().flat_map(|part| if part.is_dir() { files_under(part) } else { vec![part.clone()] });
        files.filter_map(|file| Some((file.clone(), fs::read(file).ok()?))).collect()
    }

    /// What `keywheel doctor` exits with, what it says is not well, and all it says.
    fn doctor(&self, more: &[&str]) -> (Option<i32>, Vec<Value>, String) {
        let config = self.patient.daemon.config.display().to_string();
        let output = self.patient.daemon.keywheel(&[&["doctor", "--json", "--config", &config], more].concat(), "");
        let said = [&output.stdout[..], &output.stderr[..]].map(String::from_utf8_lossy).concat();
        assert!(!said.contains(&self.secret.password) && !said.contains("panicked"), "{said}");
        let json: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {said}"));
        let findings = json["findings"].as_array().cloned().unwrap_or_default();
        let unwell = findings.into_iter().filter(|finding| finding["state"] != "ok").collect();
        (output.status.code(), unwell, said)
    }

    /// It starts, and what is handed out is what was.
    fn serves(&mut self, context: &str) {
        self.patient.daemon.start();
        settled(&self.patient.daemon, "app/web");
        assert_eq!(fetch(&self.patient.daemon, "app/web"), self.secret, "{context}");
        self.patient.daemon.sigterm();
    }

    /// Does the damage, and all that it takes to be well again; says in a word what that was.
    fn treat(&mut self, context: &str, damage: &dyn Fn(&Self)) -> &'static str {
        self.patient.put_back(&self.whole);
        damage(self);
        let before = self.contents();
        let (code, unwell, said) = self.doctor(&[]);
        assert!(self.contents() == before, "{context}: looking has changed something");
        let damaged = |unwell: &[Value]| unwell.iter().any(|finding| finding["state"] == "damaged");
        match code {
            Some(0) => {
                let noticed = !unwell.is_empty();
                self.serves(context);
                return if noticed { "heals" } else { "harmless" };
            }
            Some(1) => assert!(damaged(&unwell), "{context}: {said}"),
            Some(75) => assert!(!damaged(&unwell), "{context}: {said}"),
            code => panic!("{context}: {code:?}: {said}"),
        }
        for finding in unwell.iter().filter(|finding| finding["state"] == "damaged") {
            let remedy = finding["remedy"].as_str().unwrap_or_default();
            assert!(!remedy.is_empty(), "{context}: it says no way out: {finding}");
        }
        let (code, unwell, said) = self.doctor(&["--repair"]);
        if code == Some(0) {
            self.serves(context);
            return "repaired";
        }
        if unwell.iter().all(|finding| finding["check"] == "audit log")
            && said.contains("the daemon starts all the same")
        {
            self.serves(context);
            return "told";
        }
        // Without a newer copy, where that is offered.
        if said.contains("--accept-older") {
            let (code, _, said) = self.doctor(&["--accept-older"]);
            assert_eq!(code, Some(0), "{context}: {said}");
            self.patient.daemon.start();
            match settled(&self.patient.daemon, "app/web")["phase"].as_str() {
                Some("resting") => assert_eq!(self.patient.settles(), self.secret, "{context}"),
                // The password was changed since, and is not in this copy.
                _ => assert!(try_fetch(&self.patient.daemon, "app/web").is_err(), "{context}"),
            }
            self.patient.daemon.sigterm();
        }
        // With one: what is named is put back, one after the other.
        self.patient.put_back(&self.whole);
        damage(self);
        let mut said = said;
        for _ in 0..4 {
            let put = NEEDED.map(|file| self.put_back_if(file, &said));
            if put == [false; NEEDED.len()] {
                let newest = ["put the newest copy back", "is its file system mounted?"];
                assert!(newest.iter().any(|words| said.contains(words)), "{context}: {said}");
                self.patient.put_back(&self.whole);
            }
            let (code, _, now) = self.doctor(&["--repair"]);
            if code == Some(0) {
                self.serves(context);
                return "put back";
            }
            said = now;
        }
        panic!("{context}: it does not help to put back what is named: {said}");
    }

    /// Puts a file back if it is named and another one; whether it is.
    fn put_back_if(&self, file: &str, said: &str) -> bool {
        let (from, to) = (self.whole.join(file), self.at(file));
        let put = said.contains(&to.display().to_string()) && fs::read(&from).ok() != fs::read(&to).ok();
        if put {
            copy(&from, &to);
        }
        put
    }

    /// Every damage to one file.
    fn each_damage_to(&mut self, file: &str, ends: &mut BTreeMap<&'static str, u32>) {
        let good = fs::read(self.whole.join(file)).expect("a file");
        let mut end = |ward: &mut Self, what: String, damage: &dyn Fn(&Self)| {
            let how = ward.treat(&format!("{file}: {what}"), damage);
            println!("{file:<36} {what:<28} {how}");
            *ends.entry(how).or_default() += 1;
        };
        let write = |bytes: Vec<u8>| move |ward: &Self| fs::write(ward.at(file), &bytes).expect("damaged");
        // Of sled's file most is zeros, which no one reads.
        let used: Vec<usize> = (0..good.len()).filter(|at| good[*at] != 0).collect();
        for flip in 0..FLIPS.min(used.len()) {
            let at = used[(used.len() - 1) * flip / (FLIPS - 1)];
            let mut bad = good.clone();
            bad[at] ^= 4;
            end(self, format!("a bit of byte {at}"), &write(bad));
        }
        for length in BTreeSet::from([0, 1, good.len() / 2, good.len().saturating_sub(1)]) {
            end(self, format!("cut to {length} bytes"), &write(good[..length.min(good.len())].to_vec()));
        }
        let mut zeroed = good.clone();
        let middle = good.len() / 2 / 512 * 512;
        zeroed[middle..good.len().min(middle + 512)].fill(0);
        end(self, format!("a sector of zeros at {middle}"), &write(zeroed));
        end(self, "more behind its end".to_owned(), &write([&good[..], &[0x5a; 900]].concat()));
        end(self, "removed".to_owned(), &|ward| fs::remove_file(ward.at(file)).expect("removed"));
        end(self, "a folder in its place".to_owned(), &|ward| {
            fs::remove_file(ward.at(file)).expect("removed");
            fs::create_dir(ward.at(file)).expect("a folder");
        });
        for (what, from) in
            [("an older one", self.older.join(file)), ("another store's", self.other.daemon.scratch.at(file))]
        {
            if let Ok(bytes) = fs::read(from) {
                end(self, what.to_owned(), &write(bytes));
            }
        }
    }
}

fn copy(from: &Path, to: &Path) {
    assert!(succeeds(Command::new("rm").arg("-rf").arg(to)));
    assert!(succeeds(Command::new("cp").arg("-a").arg(from).arg(to)));
}

/// All damage to the files whose names start so.
fn all_damage_to(start: &[&str]) {
    let mut ward = Ward::new();
    let mut ends = BTreeMap::new();
    for file in start.iter().flat_map(|start| ward.files(start)).collect::<Vec<_>>() {
        ward.each_damage_to(&file, &mut ends);
    }
    println!("{start:?}: {ends:?}");
}

#[test]
fn i1_all_damage_to_a_journal_is_named_and_mended_or_the_remedy_that_is_said_helps() {
    all_damage_to(&["state/store/journal"]);
}

#[test]
fn i1_all_damage_to_an_index_is_named_and_mended_or_the_remedy_that_is_said_helps() {
    all_damage_to(&["state/store/sled"]);
}

#[test]
fn i1_all_damage_to_keys_is_named_and_mended_or_the_remedy_that_is_said_helps() {
    all_damage_to(&["state/store/keyring", "master.key"]);
}

#[test]
fn i1_all_damage_to_what_stands_beside_a_store_is_named_and_mended_or_the_remedy_that_is_said_helps() {
    all_damage_to(&["log/", "state/store/LOCK", "state/store/ballast"]);
}

#[test]
fn i1_an_older_or_another_store_in_the_place_of_one_is_named_and_the_remedy_that_is_said_helps() {
    let mut ward = Ward::new();
    let other = ward.other.daemon.scratch.at("state/store");
    let how = [
        ward.treat("an older store", &|ward| copy(&ward.older.join("state/store"), &ward.at("state/store"))),
        ward.treat("an older index", &|ward| copy(&ward.older.join("state/store/sled"), &ward.at("state/store/sled"))),
        ward.treat("another store", &|ward| copy(&other, &ward.at("state/store"))),
        ward.treat("no store", &|ward| fs::remove_dir_all(ward.at("state/store")).expect("removed")),
        ward.treat("no index", &|ward| fs::remove_dir_all(ward.at("state/store/sled")).expect("removed")),
    ];
    assert_eq!(how, ["put back", "heals", "put back", "put back", "heals"]);
}
