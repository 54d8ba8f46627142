# Makes the directory $2 in $1 (with $1 itself if $3 is yes); mode $4, owner $5, group $6: empty ones stay, root for a new one.
# Works from inside the directory, so that nobody can put a link in its place in between. Exit 4: something else is there.
set -eu
owner=$5 group=$6
[ "$3" != yes ] || mkdir -p -- "$1"
cd -P -- "$1"
umask 077
if mkdir -- "./$2" 2>/dev/null; then
    owner=${owner:-0} group=${group:-0}
elif [ ! -d "./$2" ] || [ -L "./$2" ]; then
    if [ -e "./$2" ] || [ -L "./$2" ]; then
        echo "something else than a directory is there" >&2
        exit 4
    fi
    mkdir -- "./$2"
fi
above=$(pwd -P)
cd -P -- "./$2"
if [ "$(pwd -P)" != "${above%/}/$2" ]; then
    echo "a link took its place" >&2
    exit 4
fi
wanted=$owner${group:+:$group}
[ -z "$wanted" ] || chown -- "$wanted" .
chmod -- "$4" .
sync . ..
