#!/bin/sh
# Makes two WordPress platforms of different versions from the packages of two Debian releases.
# Debian splits WordPress: libraries live in other packages and are linked to, so such a tree runs nowhere else.
# Here every link is replaced by the file it names: a platform is one plain tree.
set -eu
work=$(mktemp -d)

# The first stanza or line of the sources in force is the main archive; only its suite changes.
sources_for() {
    file=$(ls /etc/apt/sources.list.d/*.sources /etc/apt/sources.list.d/*.list /etc/apt/sources.list 2>/dev/null | head -n1)
    case $file in
    *.sources)
        awk -v suite="$1" 'NF == 0 && seen { exit } /^[^#]/ { seen = 1
            if (tolower($1) == "suites:") print "Suites: " suite
            else if (tolower($1) == "types:") print "Types: deb"
            else print }' "$file" >"$2.sources" ;;
    *)
        awk -v suite="$1" '$1 == "deb" { i = 3; if ($2 ~ /^\[/) { i = 2; while ($i !~ /\]$/) i++; i += 2 }
            $i = suite; print; exit }' "$file" >"$2.list" ;;
    esac
}

# download SUITE DIR PACKAGE...: by an apt of its own, so that the suite stays unknown to the host's apt.
download() {
    suite=$1 dir=$2
    shift 2
    if [ ! -d "$dir/lists" ]; then
        mkdir -p "$dir/lists/partial" "$dir/cache/archives/partial" "$dir/parts"
        sources_for "$suite" "$dir/parts/suite"
        apt_in "$dir" update -q
    fi
    (cd "$dir" && apt_in "$dir" download -q "$@")
}
apt_in() {
    apt_dir=$1
    shift
    apt-get -o Dir::State::lists="$apt_dir/lists" -o Dir::State::status=/dev/null -o Dir::Cache="$apt_dir/cache" \
        -o Dir::Etc::sourcelist=/dev/null -o Dir::Etc::sourceparts="$apt_dir/parts" -o APT::Sandbox::User=root "$@"
}

# flatten ROOT TREE: replaces each link in TREE, read as if ROOT were /, by a copy of the file.
flatten() {
    find "$2" -type l | while read -r link; do
        file=$link
        while [ -L "$file" ]; do
            target=$(readlink "$file")
            case $target in
            /*) file=$1$target; [ -e "$file" ] || [ -L "$file" ] || file=$target ;;
            *) file=$(dirname "$file")/$target ;;
            esac
        done
        cp "$file" "$link.flat"
        mv "$link.flat" "$link"
    done
}

# platform VERSION SUITE THEME...
platform() {
    version=$1 suite=$2
    shift 2
    dir=$work/$suite tree=/srv/platforms/wordpress-$version
    themes=$(printf 'wordpress-theme-%s ' "$@")
    # shellcheck disable=SC2086
    download "$suite" "$dir" wordpress $themes
    libraries=$(dpkg -f "$dir"/wordpress_*.deb Depends | tr ',' '\n' | awk '{ print $1 }' | grep -E '^(libjs-|php-getid3)')
    # shellcheck disable=SC2086
    download "$suite" "$dir" $libraries
    for deb in "$dir"/*.deb; do dpkg -x "$deb" "$dir/root"; done
    rm -f "$dir/root/usr/share/wordpress/wp-config.php" "$dir/root/usr/share/wordpress/.htaccess"
    flatten "$dir/root" "$dir/root/usr/share/wordpress"
    mkdir -p /srv/platforms
    mv "$dir/root/usr/share/wordpress" "$tree"
    chown -R root:root "$tree"
    chmod -R u=rwX,go=rX "$tree"

    [ -z "$(find "$tree" ! -type f ! -type d)" ] || { echo "links are left in $tree" >&2; exit 1; }
    grep -q "^\$wp_version = '$version\." "$tree/wp-includes/version.php" || {
        echo "$suite no longer packages WordPress $version:" "$(grep '^$wp_version' "$tree/wp-includes/version.php")" >&2
        exit 1
    }
    for theme in "$@"; do [ -f "$tree/wp-content/themes/$theme/style.css" ] || { echo "no $theme" >&2; exit 1; }; done
    echo "made $tree"
}

platform 6.1 bookworm twentytwentythree
platform 6.8 trixie twentytwentythree twentytwentyfive
rm -rf "$work"
