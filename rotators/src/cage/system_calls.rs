//! System calls that no rotator needs and an intruder would: refused by seccomp.
//!
//! A list of what is refused, not of what is allowed: a rotator may be written in any language, and a runtime that meets
//! an unknown refusal fails in ways that its author can't find.

use std::collections::BTreeMap;

use nix::libc;
use seccompiler::{
    BackendError, BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, TargetArch, apply_filter_all_threads,
};

use super::Plan;

/// Refused whatever their arguments are.
const REFUSED: &[i64] = &[
    // Other processes' memory.
    libc::SYS_ptrace,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_process_madvise,
    libc::SYS_pidfd_getfd,
    libc::SYS_kcmp,
    // Ways out of the worker's process group, with which whatever it has started is killed when the step is over.
    libc::SYS_setsid,
    libc::SYS_setpgid,
    // The kernel itself, and ways into it that had many holes.
    libc::SYS_kexec_load,
    libc::SYS_kexec_file_load,
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_delete_module,
    libc::SYS_bpf,
    libc::SYS_perf_event_open,
    libc::SYS_userfaultfd,
    libc::SYS_io_uring_setup,
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
    libc::SYS_personality,
    libc::SYS_syslog,
    // Keys of the kernel's key rings.
    libc::SYS_add_key,
    libc::SYS_request_key,
    libc::SYS_keyctl,
    // Namespaces and mounts.
    libc::SYS_unshare,
    libc::SYS_setns,
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_pivot_root,
    libc::SYS_chroot,
    libc::SYS_move_mount,
    libc::SYS_open_tree,
    libc::SYS_fsopen,
    libc::SYS_fsconfig,
    libc::SYS_fsmount,
    libc::SYS_fspick,
    libc::SYS_mount_setattr,
    libc::SYS_open_by_handle_at,
    libc::SYS_name_to_handle_at,
    // The host.
    libc::SYS_reboot,
    libc::SYS_swapon,
    libc::SYS_swapoff,
    libc::SYS_acct,
    libc::SYS_quotactl,
    libc::SYS_settimeofday,
    libc::SYS_clock_settime,
    libc::SYS_clock_adjtime,
    libc::SYS_adjtimex,
    libc::SYS_sethostname,
    libc::SYS_setdomainname,
    libc::SYS_vhangup,
    libc::SYS_lookup_dcookie,
    libc::SYS_fanotify_init,
];

#[cfg(target_arch = "x86_64")]
const REFUSED_HERE: &[i64] = &[
    libc::SYS_iopl,
    libc::SYS_ioperm,
    libc::SYS_modify_ldt,
    libc::SYS_uselib,
    // The x32 variants that have numbers of their own: ptrace, kexec_load, process_vm_readv, process_vm_writev.
    X32 + 521,
    X32 + 528,
    X32 + 539,
    X32 + 540,
];
#[cfg(not(target_arch = "x86_64"))]
const REFUSED_HERE: &[i64] = &[];

/// x86_64 has a second set of numbers for most calls, told from the first by this bit.
#[cfg(target_arch = "x86_64")]
const X32: i64 = 0x4000_0000;

/// Puts the filters in force. False where this processor has none.
pub(super) fn refuse(plan: &Plan) -> Result<bool, seccompiler::Error> {
    let Ok(processor) = TargetArch::try_from(std::env::consts::ARCH) else { return Ok(false) };
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> = REFUSED.iter().chain(REFUSED_HERE).map(|n| (*n, vec![])).collect();
    rules.insert(libc::SYS_socket, sockets(needs_unix_sockets(plan))?);
    rules.insert(libc::SYS_clone, vec![any_bit(0, libc::CLONE_NEWUSER as u64)?]);
    install(rules, libc::EPERM, processor)?;
    // The flags of clone3 lie behind a pointer, where a filter can't look. Told that there is no such call, the C library
    // falls back to clone.
    install(BTreeMap::from([(libc::SYS_clone3, vec![])]), libc::ENOSYS, processor)?;
    Ok(true)
}

/// Whether one of the paths is a socket or a folder that may hold one. Without one there is no reason to reach into other
/// local services, the daemon's own among them: Landlock learns to watch that with Linux 7.1 only.
fn needs_unix_sockets(plan: &Plan) -> bool {
    plan.permissions.read.iter().any(|path| path.metadata().is_ok_and(|found| !found.is_file()))
}

/// The sockets that are refused: every kind but TCP, UDP, the routing table (the resolver asks it) and, if `unix`, local
/// ones.
fn sockets(unix: bool) -> Result<Vec<SeccompRule>, BackendError> {
    const FAMILY: u8 = 0;
    const TYPE: u8 = 1;
    const PROTOCOL: u8 = 2;
    let is_not = |argument, value: i32| condition(argument, SeccompCmpOp::Ne, value as u64);
    let is = |argument, value: i32| condition(argument, SeccompCmpOp::Eq, value as u64);
    let mut families =
        vec![is_not(FAMILY, libc::AF_INET)?, is_not(FAMILY, libc::AF_INET6)?, is_not(FAMILY, libc::AF_NETLINK)?];
    if unix {
        families.push(is_not(FAMILY, libc::AF_UNIX)?);
    }
    let mut refused = vec![
        SeccompRule::new(families)?,
        SeccompRule::new(vec![is(FAMILY, libc::AF_NETLINK)?, is_not(PROTOCOL, libc::NETLINK_ROUTE)?])?,
    ];
    for family in [libc::AF_INET, libc::AF_INET6] {
        // Raw sockets, and protocols that Landlock's port rules don't cover (SCTP, multipath TCP).
        let raw = condition(TYPE, SeccompCmpOp::MaskedEq(0xf), libc::SOCK_RAW as u64)?;
        refused.push(SeccompRule::new(vec![is(FAMILY, family)?, raw])?);
        refused.push(SeccompRule::new(vec![
            is(FAMILY, family)?,
            is_not(PROTOCOL, 0)?,
            is_not(PROTOCOL, libc::IPPROTO_TCP)?,
            is_not(PROTOCOL, libc::IPPROTO_UDP)?,
        ])?);
    }
    Ok(refused)
}

fn any_bit(argument: u8, bit: u64) -> Result<SeccompRule, BackendError> {
    SeccompRule::new(vec![condition(argument, SeccompCmpOp::MaskedEq(bit), bit)?])
}

fn condition(argument: u8, op: SeccompCmpOp, value: u64) -> Result<SeccompCondition, BackendError> {
    SeccompCondition::new(argument, SeccompCmpArgLen::Dword, op, value)
}

fn install(
    mut rules: BTreeMap<i64, Vec<SeccompRule>>,
    errno: i32,
    processor: TargetArch,
) -> Result<(), seccompiler::Error> {
    #[cfg(target_arch = "x86_64")]
    for (number, how) in rules.clone() {
        rules.entry(number | X32).or_insert(how);
    }
    let answer = SeccompAction::Errno(errno.unsigned_abs());
    let filter: BpfProgram = SeccompFilter::new(rules, SeccompAction::Allow, answer, processor)?.try_into()?;
    apply_filter_all_threads(&filter)
}
