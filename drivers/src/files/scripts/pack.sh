# The members of the directory $1 as a tar stream. A file that changes or vanishes while it is read is no failure (tar's status 1).
set -u
cd -P -- "$1" || exit 2
shift
tar --create --format=posix --sparse --acls --xattrs --xattrs-include='*' --numeric-owner --sort=name --anchored --no-wildcards \
    "$@" --file=- .
status=$?
[ "$status" -ne 1 ] || status=0
exit "$status"
