//! System calls that no guest needs, and things that the host has only once: modules, clocks, the
//! log, priorities.

use super::attempt::Attempt;

/// All attempts of this kind.
pub const CALLS: &[Attempt] = &[
    Attempt::perl(
        "load_module",
        "loads and removes kernel modules",
        r#"
reach('init_module', "\x7fELF", 4, '');
open(my $file, '<', '/bin/true');
reach('finit_module', fileno $file, '', 0);
reach('delete_module', 'loop', 0);
"#,
    ),
    Attempt::perl(
        "replace_kernel",
        "puts another kernel in the place of the host's",
        r#"
reach('kexec_load', 0, 0, 0, 0);
reach('kexec_file_load', -1, -1, 0, '', 0);
"#,
    ),
    Attempt::perl(
        "bpf_map",
        "makes a map of the kernel's virtual machine",
        r#"my $map = pack('L4', 2, 4, 4, 1) . "\0" x 112; reach('bpf', 0, $map, length $map);"#,
    ),
    Attempt::perl(
        "bpf_program",
        "loads a program into the kernel's virtual machine",
        r#"
my $code = pack('CCsl', 0xb7, 0, 0, 0) . pack('CCsl', 0x95, 0, 0, 0);
my $license = "GPL\0";
my $program = pack('LLPP', 1, 2, $code, $license) . "\0" x 104;
reach('bpf', 5, $program, length $program);
"#,
    ),
    Attempt::perl(
        "performance_counters",
        "counts what happens on a CPU, and in itself",
        r#"
my $clock = pack('LLQ', 1, 128, 0) . "\0" x 112;
reach('perf_event_open', $clock, -1, 0, -1, 0);
my $own = pack('LLQQQQQ', 1, 128, 0, 0, 0, 0, 1 << 5 | 1 << 6) . "\0" x 72;
reach('perf_event_open', $own, 0, -1, -1, 0);
"#,
    ),
    Attempt::perl(
        "stop_the_kernel_in_a_page_fault",
        "makes a userfaultfd(2), with which exploits widen their windows",
        "reach('userfaultfd', 1);",
    ),
    Attempt::perl(
        "io_uring",
        "makes a ring of system calls that no filter sees",
        r#"reach('io_uring_setup', 1, "\0" x 120);"#,
    ),
    Attempt::perl(
        "keys",
        "puts keys into keyrings and asks the host's programs for others",
        r#"
reach('add_key', 'user', 'escape', 'x', 1, -3);
reach('keyctl', 0, -3, 1);
reach('request_key', 'user', 'debug:escape', '', -3);
"#,
    ),
    Attempt::perl(
        "calls_of_another_machine",
        "makes forbidden calls by their numbers for x32 programs",
        r#"
$NR{x32} = 0x40000000 | $NR{$_}, reach('x32', 0, 0, 0, 0, 0) for qw(keyctl userfaultfd bpf open_by_handle_at);
"#,
    ),
    Attempt::perl(
        "open_by_handle",
        "opens files of the host's file system past its root (Shocker)",
        r#"
opendir(my $root, '/');
for my $path ('/', '/etc/passwd') {
    my $handle = pack('Ll', 128, 0) . "\0" x 128;
    call('name_to_handle_at', -100, $path, $handle, "\0" x 8, 0);
    reach('open_by_handle_at', POSIX::open('/', O_RDONLY), $handle, O_RDONLY);
}
"#,
    ),
    Attempt::perl(
        "clock",
        "sets and bends the host's clock",
        r#"
reach('clock_settime', 0, pack('qq', time + 86400, 0));
reach('settimeofday', pack('qq', time + 86400, 0), 0);
my $same = "\0" x 208;
call('adjtimex', $same);
substr($same, 0, 4) = pack('L', 0x10);
reach('adjtimex', $same);
reach('clock_adjtime', 0, $same);
"#,
    ),
    Attempt::perl(
        "kernel_log",
        "reads the host's kernel log",
        r#"
reach('syslog', 3, "\0" x 4096, 4096);
reach('syslog', 10, 0, 0);
try_read('/proc/kmsg');
try_read('/dev/kmsg');
"#,
    ),
    Attempt::perl(
        "kernel_addresses",
        "reads where the kernel's functions are",
        r#"
open(my $symbols, '<', '/proc/kallsyms') or refused("kallsyms: $!");
while (<$symbols>) { succeeded($_) if /^[0-9a-f]*[1-9a-f]/; last if $. > 100 }
refused('all addresses are 0');
"#,
    ),
    Attempt::perl(
        "accounting",
        "writes the host's process accounting into its own file",
        r#"open(my $file, '>', '/root/acct'); reach('acct', '/root/acct');"#,
    ),
    Attempt::perl(
        "swap",
        "adds swap space to the host, and takes it away",
        r#"
open(my $file, '>', '/root/swap');
syswrite($file, "\0" x 4086 . 'SWAPSPACE2') for 1 .. 10;
reach('swapon', '/root/swap', 0);
reach('swapoff', '/root/swap');
"#,
    ),
    Attempt::perl(
        "quotas",
        "asks for and sets quotas of disks",
        r#"
reach('quotactl', 0x800004 << 8, '/dev/loop0', 0, "\0" x 64);
reach('quotactl_fd', POSIX::open('/', O_RDONLY), 0x800004 << 8, 0, "\0" x 64);
"#,
    ),
    Attempt::perl(
        "raw_io",
        "speaks to the hardware",
        r#"
reach('iopl', 3);
reach('ioperm', 0x70, 2, 1);
try_open($_, O_RDWR) for qw(/dev/mem /dev/port /dev/kmem);
"#,
    ),
    Attempt::perl("segments", "makes 16-bit segments", r#"reach('modify_ldt', 0, "\0" x 16, 16);"#),
    Attempt::perl(
        "compare_kernel_objects",
        "learns the order of kernel addresses",
        "reach('kcmp', $$, $$, 0, 0, 1);",
    ),
    Attempt::perl(
        "reboot_the_host",
        "switches the host's Ctrl-Alt-Del, suspends it, boots another kernel",
        r#"try_call('reboot', 0xfee1dead, 672274793, $_, 0) for 0x89abcdef, 0xd000fce2, 0x45584543;"#,
    ),
    Attempt::perl(
        "priorities",
        "runs before everybody else",
        r#"
try_call('sched_setscheduler', 0, 1, pack('l', 50));
try_call('sched_setscheduler', 0, 2, pack('l', 1));
try_call('ioprio_set', 1, 0, 1 << 13);
try_call('setpriority', 0, 0, -20);
"#,
    ),
    Attempt::perl(
        "resource_limits",
        "raises its hard limits",
        r#"
for my $resource (7, 8, 12, 13, 14) {
    my $now = "\0" x 16;
    call('prlimit64', 0, $resource, 0, $now);
    my (undef, $hard) = unpack('QQ', $now);
    next if $hard == ~0;
    try_call('prlimit64', 0, $resource, pack('QQ', $hard + 1, $hard + 1), 0);
}
"#,
    ),
    Attempt::perl(
        "watch_the_file_system",
        "has a say in who opens files of the host's file system",
        "try_call('fanotify_init', $_, 0) for 4, 8, 0x10, 0x20;",
    ),
    Attempt::perl(
        "dropped_capabilities",
        "takes capabilities that guests never have",
        r#"
for my $number (16, 17, 20, 25, 30, 32 .. 39) {
    my $has = call('prctl', 23, $number); # PR_CAPBSET_READ
    succeeded("capability $number") if $has > 0;
    $last = "capability $number is not in the bounding set" unless $has;
    my $mask = 1 << $number % 32;
    my $set = $number < 32 ? pack('L6', ($mask) x 3, 0, 0, 0) : pack('L6', 0, 0, 0, ($mask) x 3);
    try_call('capset', pack('LL', 0x20080522, 0), $set);
}
"#,
    ),
    Attempt::perl(
        "ids_of_the_host",
        "maps ids of the host into a user namespace of its own",
        r#"
for my $map ('0 0 4294967295', '0 65536 1', '0 4294901760 1', '0 100000 65536') {
    pipe(my $wait, my $go), pipe(my $ready, my $there);
    my $child = fork // die;
    if (!$child) { close $go; call('unshare', 0x10000000); syswrite($there, '.'); sysread($wait, $_, 1); exit }
    sysread($ready, my $dot, 1);
    for my $file ("/proc/$child/uid_map", "/proc/$child/gid_map") { try_write($file, $map) }
    close $go;
    waitpid $child, 0;
}
"#,
    ),
];
