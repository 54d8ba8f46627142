# Copies the tree $1 to $2, which is in $3; $4 is a name for the time being, `$5 yes` allows a first copy by reflinks; the rest are
# arguments of rsync, which has the last word. Says `fresh` when there was nothing in $2. Exit 4: refused.
set -u
refuse() {
    echo "$1" >&2
    exit 4
}
if [ ! -d "$1" ] || [ -L "$1" ]; then refuse "$1 is not a directory"; fi
if [ ! -d "$3/" ]; then refuse "$3 is not a directory"; fi
if [ -L "$2" ]; then refuse "$2 is a symbolic link"; fi
if [ -e "$2" ] && [ ! -d "$2" ]; then refuse "$2 is not a directory"; fi
command -v rsync >/dev/null || { echo "rsync: not found" >&2; exit 127; }
from=$1 to=$2 parent=$3 probe=$3/$4 reflink=$5
shift 5
# Of a call that was killed.
rm -f -- "$probe" "$probe.2"
# Durable: after a first copy the whole file system at once, later only what is copied, as the site is down meanwhile.
each=
if [ ! -e "$to" ] || [ -z "$(ls -A -- "$to" | head -c 1)" ]; then
    echo fresh
    if [ "$reflink" = yes ] && [ "$(stat -c %d -- "$from")" = "$(stat -c %d -- "$parent/")" ]; then
        can=no
        if echo x >"$probe" && cp --reflink=always -- "$probe" "$probe.2" 2>/dev/null; then can=yes; fi
        rm -f -- "$probe" "$probe.2"
        if [ "$can" = yes ]; then cp -aT --reflink=auto -- "$from" "$to" 2>/dev/null; fi
    fi
elif rsync --help | grep -q -e --fsync; then
    each=--fsync
fi
rsync $each "$@" -- "$from/" "$to/"
status=$?
if [ -n "$each" ]; then
    sync "$to" || exit 1
elif [ -d "$to" ]; then
    sync -f "$to" || exit 1
fi
exit "$status"
