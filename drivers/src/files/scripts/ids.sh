# The numbers of users ($1 of them) and then groups, one a line.
set -eu
users=$1
shift
for name; do
    if [ "$users" -gt 0 ]; then
        users=$((users - 1))
        id -u -- "$name"
    else
        line=$(getent group -- "$name") || { echo "there is no group $name" >&2; exit 1; }
        line=${line#*:*:}
        echo "${line%%:*}"
    fi
done
