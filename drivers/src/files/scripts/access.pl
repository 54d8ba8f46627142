# Sets owners and modes below the directory $ARGV[0]. Standard input: path, mode (octal), owner and group (numbers, -1: as it is) of
# each entry, every field ended by NUL. Every step on the way is opened without following links, and entries are changed through
# the open file, so that links that somebody puts in their place meanwhile lead nowhere. Prints how many entries it changed.
use strict;
use Fcntl qw(:DEFAULT :mode);
use POSIX ();
my $dirs = O_RDONLY | O_DIRECTORY | O_NOFOLLOW;
sysopen(my $top, $ARGV[0], $dirs) or die "$ARGV[0]: $!\n";
my ($current, $inside, $changed) = (undef, 0, 0);

sub enter {
    my ($dir) = @_;
    return $inside if defined $current && $dir eq $current;
    ($current, $inside) = ($dir, 0);
    chdir($top) or die "$ARGV[0]: $!\n";
    for my $part (split m{/}, $dir) {
        sysopen(my $next, $part, $dirs) or return 0;
        chdir($next) or return 0;
    }
    return $inside = 1;
}

$/ = "\0";
while (defined(my $path = <STDIN>)) {
    my ($mode, $owner, $group) = (scalar <STDIN>, scalar <STDIN>, scalar <STDIN>);
    # Whoever sends it may be killed meanwhile: then the input just ends, in the midst of an entry.
    defined $group && chomp($group) or die "the input was cut short\n";
    chomp($path, $mode, $owner);
    my ($dir, $name) = $path =~ m{\A(?:(.*)/)?([^/]*)\z}s;
    next unless enter(defined $dir ? $dir : '');
    $name = '.' if $name eq '';
    my @there = lstat $name or next;
    if (S_ISLNK($there[2])) {
        POSIX::lchown($owner, $group, $name) or die "$path: $!\n";
        $changed++;
        next;
    }
    sysopen(my $file, $name, O_RDONLY | O_NONBLOCK | O_NOFOLLOW) or next;
    my @open = stat $file or next;
    next unless S_ISREG($open[2]) || S_ISDIR($open[2]);
    # Owner first: changing it takes set-user-id and set-group-id bits away.
    chown($owner, $group, $file) or die "$path: $!\n";
    chmod(oct $mode, $file) or die "$path: $!\n";
    $changed++;
}
print "$changed\n";
