//! Giving up: user, capabilities, new privileges, resource limits, dangerous system calls.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::unistd::{Gid, Uid, fchown, setgroups, setresgid, setresuid};
use rustix::thread::{CapabilitySet, CapabilitySets};
use seccompiler::{BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule, TargetArch};

use super::UnixUser;
use super::enter::{Attempt, Failure};

/// Open files: enough for a server with many connections, and small enough for programs that walk through all numbers.
const OPEN_FILES: u64 = 65_536;

/// Lets the app open `/dev/stdout` and `/dev/stderr` although their pipes were made by another user.
pub(super) fn own_output(user: Option<UnixUser>) {
    let Some(user) = user else { return };
    for output in [io::stdout().as_fd(), io::stderr().as_fd()] {
        if is_pipe(output) {
            // Writing to the numbers 1 and 2 works in any case.
            let _ = fchown(output, Some(Uid::from_raw(user.uid)), Some(Gid::from_raw(user.gid)));
        }
    }
}

fn is_pipe(file: BorrowedFd<'_>) -> bool {
    use nix::sys::stat::SFlag;
    let kind = nix::sys::stat::fstat(file).map(|stat| SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT);
    kind.is_ok_and(|kind| kind == SFlag::S_IFIFO)
}

/// Becomes `user` and keeps no privilege. Root without a user to become keeps its number and nothing else.
pub(super) fn drop_all(user: Option<UnixUser>) -> Result<(), Failure> {
    limit_resources()?;
    let root = nix::unistd::geteuid().is_root();
    if root {
        drop_bounding_set()?;
        if let Some(user) = user {
            let (uid, gid) = (Uid::from_raw(user.uid), Gid::from_raw(user.gid));
            setgroups(&[]).attempt(|| "leaving the groups".into())?;
            setresgid(gid, gid, gid).attempt(|| format!("becoming group {gid}"))?;
            setresuid(uid, uid, uid).attempt(|| format!("becoming user {uid}"))?;
        }
    }
    let none = CapabilitySets { effective: CapabilitySet::empty(), permitted: CapabilitySet::empty(), inheritable: CapabilitySet::empty() };
    rustix::thread::set_capabilities(None, none).attempt(|| "giving up capabilities".into())?;
    nix::sys::prctl::set_no_new_privs().attempt(|| "refusing new privileges".into())
}

fn limit_resources() -> Result<(), Failure> {
    let what = || "limiting resources".to_owned();
    setrlimit(Resource::RLIMIT_CORE, 0, 0).attempt(what)?;
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).attempt(what)?;
    setrlimit(Resource::RLIMIT_NOFILE, OPEN_FILES.min(hard), hard).attempt(what)
}

fn drop_bounding_set() -> Result<(), Failure> {
    // A kernel without ambient capabilities has none to clear.
    let _ = rustix::thread::clear_ambient_capability_set();
    for number in 0..64 {
        let capability = CapabilitySet::from_bits_retain(1 << number);
        match rustix::thread::remove_capability_from_bounding_set(capability) {
            // Beyond the last one that the kernel knows.
            Err(rustix::io::Errno::INVAL) => break,
            // A container without CAP_SETPCAP: the capabilities themselves are given up below.
            Err(rustix::io::Errno::PERM) => break,
            result => result.attempt(|| "dropping capabilities".into())?,
        }
    }
    Ok(())
}

/// System calls that administer a machine, look into other processes, or have a long history of holes. No app needs them.
const REFUSED: &[i64] = &[
    libc::SYS_acct,
    libc::SYS_add_key,
    libc::SYS_bpf,
    libc::SYS_chroot,
    libc::SYS_clock_adjtime,
    libc::SYS_clock_settime,
    libc::SYS_delete_module,
    libc::SYS_fanotify_init,
    libc::SYS_finit_module,
    libc::SYS_fsconfig,
    libc::SYS_fsmount,
    libc::SYS_fsopen,
    libc::SYS_fspick,
    libc::SYS_init_module,
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
    libc::SYS_io_uring_setup,
    libc::SYS_kcmp,
    libc::SYS_kexec_file_load,
    libc::SYS_kexec_load,
    libc::SYS_keyctl,
    libc::SYS_mount,
    libc::SYS_mount_setattr,
    libc::SYS_move_mount,
    libc::SYS_open_by_handle_at,
    libc::SYS_open_tree,
    libc::SYS_perf_event_open,
    libc::SYS_pidfd_getfd,
    libc::SYS_pivot_root,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_ptrace,
    libc::SYS_quotactl,
    libc::SYS_quotactl_fd,
    libc::SYS_reboot,
    libc::SYS_request_key,
    libc::SYS_setdomainname,
    libc::SYS_sethostname,
    libc::SYS_setns,
    libc::SYS_settimeofday,
    libc::SYS_swapoff,
    libc::SYS_swapon,
    libc::SYS_syslog,
    libc::SYS_umount2,
    libc::SYS_userfaultfd,
    libc::SYS_vhangup,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_ioperm,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_iopl,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_modify_ldt,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_uselib,
];

/// The numbers of x86's rarely built third calling convention: its own `ptrace` and `kexec_load`, and this bit on all others.
#[cfg(target_arch = "x86_64")]
const X32: (i64, [i64; 2]) = (0x4000_0000, [521, 528]);

const NAMESPACES: i32 = libc::CLONE_NEWNS
    | libc::CLONE_NEWCGROUP
    | libc::CLONE_NEWUTS
    | libc::CLONE_NEWIPC
    | libc::CLONE_NEWUSER
    | libc::CLONE_NEWPID
    | libc::CLONE_NEWNET;

/// Installs the filters for this process and everything that it starts.
pub(super) fn filter_system_calls(network: bool) -> Result<(), Failure> {
    let mut refused: BTreeMap<i64, Vec<SeccompRule>> = BTreeMap::new();
    refused.extend(REFUSED.iter().map(|number| (*number, vec![])));
    let namespaces = || (0..32).map(|bit| 1 << bit).filter(|flag| NAMESPACES & flag != 0);
    for number in [libc::SYS_clone, libc::SYS_unshare] {
        refused.insert(
            number,
            namespaces().map(|flag| argument(0, SeccompCmpOp::MaskedEq(flag as u64), flag as u64)).collect::<Result<_, _>>()?,
        );
    }
    if !network {
        let families = [libc::AF_INET, libc::AF_INET6, libc::AF_PACKET, libc::AF_NETLINK];
        refused.insert(
            libc::SYS_socket,
            families.into_iter().map(|family| argument(0, SeccompCmpOp::Eq, family as u64)).collect::<Result<_, _>>()?,
        );
    }
    #[cfg(target_arch = "x86_64")]
    {
        let twins: Vec<_> = refused.iter().map(|(number, rules)| (number | X32.0, rules.clone())).collect();
        refused.extend(twins);
        refused.extend(X32.1.map(|number| (number | X32.0, vec![])));
    }
    install(refused, libc::EPERM)?;
    // Its flags lie in memory, where a filter cannot look. "No such call" makes C libraries fall back to `clone`.
    install(BTreeMap::from([(libc::SYS_clone3, vec![])]), libc::ENOSYS)
}

fn argument(index: u8, operator: SeccompCmpOp, value: u64) -> Result<SeccompRule, Failure> {
    SeccompCondition::new(index, SeccompCmpArgLen::Dword, operator, value)
        .and_then(|condition| SeccompRule::new(vec![condition]))
        .map_err(|error| Failure(format!("describing the system calls: {error}")))
}

fn install(rules: BTreeMap<i64, Vec<SeccompRule>>, errno: i32) -> Result<(), Failure> {
    let describe = |error: &dyn std::fmt::Display| Failure(format!("filtering system calls: {error}"));
    let arch = TargetArch::try_from(std::env::consts::ARCH).map_err(|error| describe(&error))?;
    #[expect(clippy::cast_sign_loss, reason = "error numbers are small and positive")]
    let action = SeccompAction::Errno(errno as u32);
    let filter = SeccompFilter::new(rules, SeccompAction::Allow, action, arch).map_err(|error| describe(&error))?;
    let program: BpfProgram = filter.try_into().map_err(|error| describe(&error))?;
    seccompiler::apply_filter(&program).map_err(|error| describe(&error))
}
