# Puts something in the place of $2 in $1, if what is there is one of $10...: hashes, or `absent`.
# $3 name for the time being, $4 `file` (stdin), `link` (to what stdin says) or `nothing`, $5 mode, $6 owner, $7 group (empty: as it
# is, root for something new), $8 time of modification (empty: now), $9 hash of what is put.
# Exit 4: something is there that is no file. Exit 5: something else is there. Exit 6: what is to be put came cut short.
set -eu
umask 077
# Where there is not even a directory, nothing is there already.
if [ "$4" = nothing ] && [ ! -e "$1" ] && [ ! -L "$1" ]; then exit 0; fi
cd -P -- "$1"
name=./$2 new=./$3 make=$4 mode=$5 owner=$6 group=$7 time=$8 hash=$9
shift 9
if [ -L "$name" ]; then
    there=$(readlink -n -- "$name" | sha256sum)
elif [ -f "$name" ]; then
    there=$(sha256sum <"$name")
elif [ -e "$name" ]; then
    echo "something is there that is no file" >&2
    exit 4
else
    there=absent
fi
there=${there%% *}
known=
for one; do
    [ "$one" != "$there" ] || known=yes
done
[ -n "$known" ] || exit 5
# A call that was killed has left it: also where nothing else is left to do.
rm -f -- "$new"

if [ "$make" = nothing ]; then
    rm -f -- "$name"
    sync .
    exit 0
fi
if [ "$there" = "$hash" ] && [ -n "$time" ]; then
    exact="$owner:$group @$time"
    [ "$make" = link ] || exact="$mode $exact"
    kind=link format='%u:%g @%.9Y'
    [ -L "$name" ] || { kind=file; format='0%a %u:%g @%.9Y'; }
    # Right already, to the last bit.
    if [ "$kind" = "$make" ] && [ "$(stat -c "$format" -- "$name")" = "$exact" ]; then exit 0; fi
fi
if [ "$there" = absent ]; then
    owner=${owner:-0} group=${group:-0}
else
    owner=${owner:-$(stat -c %u -- "$name")} group=${group:-$(stat -c %g -- "$name")}
fi
trap 'rm -f -- "$new"' EXIT
trap 'exit 143' HUP INT TERM
if [ "$make" = link ]; then
    target=$(cat; echo .)
    ln -s -- "${target%.}" "$new"
    chown -h -- "$owner:$group" "$new"
    [ -z "$time" ] || touch -h -m -d "@$time" -- "$new"
else
    # Through the open file, so that nobody can put a link in its place in between.
    set -C
    exec 3>"$new"
    set +C
    cat >&3
    chown -- "$owner:$group" /proc/self/fd/3
    chmod -- "$mode" /proc/self/fd/3
    [ -z "$time" ] || touch -m -d "@$time" /proc/self/fd/3
    sync /proc/self/fd/3
    exec 3>&-
fi
# Whoever sends it may be killed meanwhile: then the input just ends, and half of it must not count as all.
if [ "$make" = link ]; then put=$(readlink -n -- "$new" | sha256sum); else put=$(sha256sum <"$new"); fi
if [ "${put%% *}" != "$hash" ]; then
    echo "the input was cut short" >&2
    exit 6
fi
mv -fT -- "$new" "$name"
sync .
