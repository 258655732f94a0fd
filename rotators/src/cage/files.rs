//! Files, ports and signals: Landlock.

use std::path::{Path, PathBuf};

use landlock::{
    ABI, Access, AccessFs, AccessNet, BitFlags, NetPort, Ruleset, RulesetAttr, RulesetCreated, RulesetCreatedAttr,
    RulesetError, RulesetStatus, Scope, path_beneath_rules,
};

use super::Plan;

/// The newest version of Landlock whose rules were tried here (Linux 6.15). What an older kernel lacks is left out.
const TRIED: ABI = ABI::V7;

/// Programs, libraries and interpreters.
const SYSTEM: &[&str] = &["/usr", "/lib", "/lib32", "/lib64", "/libx32", "/bin", "/sbin"];

/// What the dynamic linker, the resolver and TLS libraries read. Not the whole of /etc: a key file of the daemon's may lie
/// there, and the worker runs as the daemon's user.
const SETTINGS: &[&str] = &[
    "/etc/alternatives",
    "/etc/ca-certificates",
    "/etc/crypto-policies",
    "/etc/gai.conf",
    "/etc/group",
    "/etc/host.conf",
    "/etc/hosts",
    "/etc/krb5.conf",
    "/etc/krb5.conf.d",
    "/etc/ld.so.cache",
    "/etc/ld.so.conf",
    "/etc/ld.so.conf.d",
    "/etc/localtime",
    "/etc/nsswitch.conf",
    "/etc/passwd",
    "/etc/pki",
    "/etc/protocols",
    "/etc/resolv.conf",
    "/etc/services",
    "/etc/ssl",
    "/dev/random",
    "/dev/urandom",
    "/dev/zero",
    "/proc/self",
];

/// The DNS port: names are resolved over TCP when an answer is long.
const DNS: u16 = 53;

/// Puts the rules in force and says which walls stand: files, ports, scope.
pub(super) fn confine(plan: &Plan) -> Result<(bool, bool, bool), RulesetError> {
    let read = AccessFs::ReadFile | AccessFs::ReadDir;
    let run = read | AccessFs::Execute;
    // Whoever runs one program runs its interpreter, its loader and the commands of a script.
    let runs = plan.program.is_some() || !plan.permissions.run.is_empty();
    let system = if runs { run } else { read };
    let replace = read
        | AccessFs::WriteFile
        | AccessFs::MakeReg
        | AccessFs::RemoveFile
        | AccessFs::Truncate
        // Linux 5.19 has the right to link and rename across folders; the temporary file may not need it, a lock might.
        | AccessFs::Refer;
    let rules = Ruleset::default()
        .handle_access(AccessFs::from_all(TRIED))?
        .handle_access(AccessNet::from_all(TRIED))?
        .scope(Scope::from_all(TRIED))?
        .create()?
        .add_rules(path_beneath_rules(SYSTEM, system))?
        .add_rules(path_beneath_rules(SETTINGS, read))?
        .add_rules(path_beneath_rules(["/dev/null"], AccessFs::ReadFile | AccessFs::WriteFile))?
        .add_rules(path_beneath_rules(&plan.program, run))?
        .add_rules(path_beneath_rules(&plan.permissions.run, run))?
        .add_rules(path_beneath_rules(&plan.permissions.read, read))?
        .add_rules(path_beneath_rules(folders(&plan.permissions.replace), replace))?;
    let ports = plan.permissions.connect.iter().copied().chain([DNS]);
    let status = connect_to(rules, ports)?.restrict_self()?;
    let version = match status.landlock {
        landlock::LandlockStatus::Available { effective_abi, .. } => effective_abi,
        landlock::LandlockStatus::NotEnabled | landlock::LandlockStatus::NotImplemented => ABI::Unsupported,
    };
    let stands = status.ruleset != RulesetStatus::NotEnforced;
    Ok((stands, stands && version >= ABI::V4, stands && version >= ABI::V6))
}

fn connect_to(rules: RulesetCreated, ports: impl Iterator<Item = u16>) -> Result<RulesetCreated, RulesetError> {
    let access = BitFlags::from(AccessNet::ConnectTcp);
    rules.add_rules(ports.map(|port| Ok::<_, RulesetError>(NetPort::new(port, access))))
}

/// An atomic replace writes beside the file: the folder of each path, and that of the file a link leads to.
fn folders(paths: &[PathBuf]) -> Vec<PathBuf> {
    let real = paths.iter().filter_map(|path| path.canonicalize().ok());
    let all = paths.iter().cloned().chain(real);
    all.filter_map(|path| path.parent().map(Path::to_owned)).collect()
}
