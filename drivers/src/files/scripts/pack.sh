# The members of the directory $1 as a tar stream. A file that changes or vanishes while it is read is no failure (tar's status 1): it is
# named behind the end of the archive, where readers of tar do not look, a line each.
set -u
cd -P -- "$1" || exit 2
shift
exec 4>&1
# The stream goes past the pipe; what tar says goes into it, the first part of it and the last line, which is its status.
said=$(
    {
        LC_ALL=C tar --create --format=posix --sparse --acls --xattrs --xattrs-include='*' --numeric-owner --sort=name --anchored \
            --no-wildcards "$@" --file=- . 2>&1 >&4
        printf 'status %s\n' "$?"
    } | { head -c 20000; tail -n 1; }
)
status=${said##*status }
said=${said%status *}
if [ "$status" = 1 ]; then
    printf '%s\n' "$said" | sed -n '/./s/^/# kedge: /p'
    exit 0
fi
[ -z "$said" ] || printf '%s\n' "$said" >&2
exit "$status"
