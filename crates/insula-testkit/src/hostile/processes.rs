//! Processes, namespaces, sockets and cgroups: what belongs to others.

use super::attempt::Attempt;

/// All attempts of this kind.
pub const PROCESSES: &[Attempt] = &[
    Attempt::perl(
        "processes_of_the_host",
        "signals, traces, reads and slows down a process of the host's",
        r#"
my $host = $ENV{HOST_PID};
refused('the number is that of an own process') if -e "/proc/$host";
reach_process($_->[0], @{$_}[1 .. $#$_]) for
    ['pidfd_open', $host, 0], ['ptrace', 16, $host, 0, 0], ['ptrace', 0x4206, $host, 0, 0],
    ['setpriority', 0, $host, 19], ['sched_setaffinity', $host, 8, pack('Q', 1)], ['kcmp', $$, $host, 0, 0, 0],
    ['process_vm_readv', $host, pack('PQ', "\0" x 8, 8), 1, pack('QQ', 0x400000, 8), 1, 0],
    ['prlimit64', $host, 7, 0, "\0" x 16];
sub reach_process { my @call = @_; try_call(@call) }
succeeded('kill') if kill 0, $host;
succeeded('kill of a group') if kill 0, -$host;
"#,
    ),
    Attempt::perl(
        "processes_by_descriptor",
        "opens processes by their numbers, and looks whether it may see them",
        r#"
opendir(my $entries, '/proc');
my %own = map { $_ => 1 } readdir $entries;
for my $number (1 .. 4000, $ENV{HOST_PID}) {
    my $descriptor = call('pidfd_open', $number, 0);
    next if $descriptor < 0;
    succeeded("process $number is not in /proc") unless -e "/proc/$number" || $own{$number};
    POSIX::close($descriptor);
}
$last = "no process but its own: $last";
"#,
    ),
    Attempt::perl(
        "parents_of_namespaces",
        "asks for the namespaces that its own are in, and for those beside them",
        r#"
for my $name (qw(user pid)) {
    open(my $own, '<', "/proc/1/ns/$name");
    try_ioctl($own, 0xb702, 0);
}
open(my $user, '<', '/proc/1/ns/user');
try_ioctl($user, 0xb701, 0);
open(my $mounts, '<', '/proc/1/ns/mnt');
try_ioctl($mounts, $_, pack('LLQ', 16, 0, 0)) for 0x8010b70b, 0x8010b70c;
"#,
    ),
    Attempt::perl(
        "nested_namespaces",
        "makes a user namespace inside its own, and tries with all capabilities there",
        r#"
my $child = fork // die;
if (!$child) {
    pipe(my $wait, my $go);
    my $parent = $$;
    my $mapper = fork // die;
    if (!$mapper) {
        close $go;
        sysread($wait, my $dot, 1);
        for my $file (qw(uid_map gid_map)) { open(my $map, '>', "/proc/$parent/$file"); syswrite($map, '0 0 65536') }
        exit;
    }
    call('unshare', 0x10000000) == 0 or refused("a namespace: $!");
    close $go;
    waitpid $mapper, 0;
    call('unshare', 0x20000 | 0x40000000 | 0x2000000 | 0x4000000 | 0x8000000);
    call('mount', 'none', '/', 0, 1 << 18 | 1 << 14, 0);
    call('mount', 'proc', '/mnt', 'proc', 0, 0);
    call('mount', 'sysfs', '/mnt', 'sysfs', 0, 0);
    for my $top ('/proc', '/mnt') {
        try_open("$top/$_") for qw(sys/kernel/core_pattern sys/vm/drop_caches sysrq-trigger kernel/uevent_helper power/state);
    }
    my $device = "/root/nested";
    try_open($device, O_RDONLY) if call('mknodat', -100, $device, S_IFBLK | 0600, 7 << 8) == 0;
    refused("nothing more than before: $last");
}
waitpid $child, 0;
exit;
"#,
    ),
    Attempt::perl(
        "kill_score",
        "keeps itself from being killed for want of memory",
        r#"try_write('/proc/self/oom_score_adj', $_) for -1000, -1;"#,
    ),
    Attempt::perl(
        "abstract_sockets",
        "connects to a socket of the host's by its abstract name",
        r#"
socket(my $socket, AF_UNIX, SOCK_STREAM, 0);
succeeded('it is connected') if connect($socket, pack('S', AF_UNIX) . "\0" . $ENV{HOST_SOCKET});
$last = "connect: $!";
"#,
    ),
    Attempt::perl(
        "shared_memory_of_the_host",
        "finds shared memory, semaphores and queues of others",
        r#"
for my $kind (qw(shm sem msg)) {
    open(my $list, '<', "/proc/sysvipc/$kind") or next;
    my @lines = <$list>;
    succeeded("$kind: $lines[1]") if @lines > 1;
    $last = "no $kind";
}
"#,
    ),
    Attempt::perl(
        "kernel_over_netlink",
        "sets audit rules, and listens to processes and devices of the host",
        r#"
socket(my $connector, 16, SOCK_DGRAM, 11) or $last = "connector: $!";
if ($connector && bind($connector, pack('SSLL', 16, 0, 0, 1))) {
    my $listen = pack('L4SSL', 1, 1, 0, 0, 4, 0, 1);
    send($connector, pack('LSSLL', 16 + length $listen, 3, 0, 1, 0) . $listen, 0);
    for (1 .. 5) { my $child = fork // die; exit unless $child; waitpid $child, 0 }
    vec(my $ready = '', fileno $connector, 1) = 1;
    succeeded('it hears of processes') if select($ready, undef, undef, 0.2) > 0 && sysread($connector, my $event, 4096);
    $last = 'it hears of no process';
}
my $off = pack('LSSLL', 56, 1001, 5, 1, 0) . pack('L10', 1, 0, (0) x 8); # AUDIT_SET
if (socket(my $audit, 16, SOCK_RAW, 9)) {
    if (defined send($audit, $off, 0)) {
        alarm 5;
        recv($audit, my $answer, 4096, 0);
        alarm 0;
        my $error = unpack('l', substr $answer, 16, 4);
        succeeded('audit is off') if $error == 0;
        $! = -$error;
    }
    $last = "audit: $!";
}
"#,
    ),
    Attempt::perl(
        "network_of_the_host",
        "lists and makes interfaces in the network namespace at the other end of its cable",
        r#"
my $attribute = sub { my ($type, $value) = @_; pack('SSa*x!4', 4 + length $value, $type, $value) };
my $link = pack('CCSlLL', 0, 0, 0, 0, 0, 0);
my $dummy = $attribute->(3, "escape0\0") . $attribute->(18, $attribute->(1, 'dummy'));
for my $peer (0 .. 3) {
    for ([18, 1, $link . $attribute->(29, pack('L', 1))], [18, 0x301, $link], [16, 0x605, $link . $dummy]) {
        my ($type, $flags, $body) = @$_;
        $body .= $attribute->(46, pack('l', $peer)); # IFLA_TARGET_NETNSID
        socket(my $socket, 16, SOCK_RAW, 0);
        send($socket, pack('LSSLL', 16 + length $body, $type, $flags, 1, 0) . $body, 0);
        alarm 5;
        recv($socket, my $answer, 65536, 0);
        alarm 0;
        my ($length, $kind) = unpack('LS', $answer);
        my $error = $kind == 16 ? 0 : unpack('l', substr $answer, 16, 4);
        succeeded("an answer from namespace $peer") if $kind == 16 || $error == 0 && $type == 16;
        $! = -$error, $last = "namespace $peer: $!";
    }
}
"#,
    ),
    Attempt::perl(
        "own_limits",
        "writes the limits of its own cgroup",
        r#"
for my $file (glob '/sys/fs/cgroup/*') {
    next if !-f $file || $file =~ /cgroup\.(procs|threads|subtree_control)$/;
    try_open($file) if -e $file;
}
"#,
    ),
    Attempt::perl(
        "release_agent",
        "mounts the old cgroup hierarchies, has the host run a program, raises its limits there",
        r#"
for my $controller (qw(net_cls perf_event misc rdma blkio freezer devices cpuacct cpuset cpu memory pids)) {
    for my $options ($controller, "$controller,release_agent=/root/agent") {
        call('mount', 'none', '/mnt', 'cgroup', 0, $options) == 0 or next;
        mkdir '/mnt/escape' and succeeded("a group of $controller");
        $last = "mkdir: $!";
        opendir(my $files, '/mnt');
        try_open("/mnt/$_") for grep { -f "/mnt/$_" } readdir $files;
        closedir $files;
        call('umount2', '/mnt', 2);
    }
}
"#,
    ),
    Attempt::perl(
        "out_of_its_cgroup",
        "moves itself to groups above its own",
        r#"
call('unshare', 0x2000000);
call('mount', 'none', '/mnt', 'cgroup2', 0, '');
for my $group ('/sys/fs/cgroup/..', '/mnt/..', '/sys/fs/cgroup/../..', '/mnt/../../..') { try_write("$group/cgroup.procs", $$) }
open(my $own, '<', '/proc/self/cgroup');
while (<$own>) { succeeded("its group is $_") if m(/\.\./) || /$ENV{HOST_NAMES}/; $last = "its group is $_" =~ s/\n//r }
"#,
    ),
    Attempt::perl(
        "terminals_of_others",
        "types into terminals that it has not made",
        r#"
my @terminals = grep { !m(/ptmx$) } glob '/dev/pts/*';
for my $path ('/dev/tty', '/dev/console', @terminals) {
    sysopen(my $terminal, $path, O_RDWR | O_NOCTTY | O_NONBLOCK) or ($last = "$path: $!"), next;
    next if $path eq '/dev/console'; # its own: whoever looks at it, looks at the guest
    try_ioctl($terminal, 0x5412, 'x');
}
"#,
    ),
];
