# A site's tasks the way that Aegir takes, by hand and in one go: close, mysqldump, tar and gzip, untar, import, rewrite, update,
# reload. Runs as root on the host itself. Arguments: what to do, then its own. Nothing here is safe: it is what Kedge is measured against.
set -eu
old=/srv/platforms/wordpress-6.1
new=/srv/platforms/wordpress-6.8
backups=/var/backups/by-hand
vhosts=/etc/nginx/sites-enabled
mkdir -p "$backups"

database_of() { sed -nE "s/.*'DB_NAME', *'([^']+)'.*/\1/p" "$1/wp-config.php"; }

# close SITE: everybody gets a 503, as of now.
close() {
    printf 'server {\n    listen 80;\n    server_name %s;\n    return 503;\n}\n' "$1" >"$vhosts/$1.conf"
    reload
}

reload() { nginx -t -q && nginx -s reload; }

# wait_for SITE: until the new workers serve it.
wait_for() {
    until [ "$(curl -s -o /dev/null -w '%{http_code}' -H "Host: $1" http://127.0.0.1/)" = 200 ]; do :; done
}

# pack DIR FILE: dump and files as one archive.
pack() {
    cd "$1"
    mariadb-dump --single-transaction --quick --no-autocommit "$(database_of .)" >database.sql
    tar cpzf "$2" .
    rm database.sql
    cd /
}

# unpack FILE DIR DATABASE: the opposite, with an account of its own. The settings get the new database.
unpack() {
    password=$(head -c 18 /dev/urandom | base64 | tr -d +/)
    mariadb -e "CREATE DATABASE $3; CREATE USER $3@localhost IDENTIFIED BY '$password'; GRANT ALL ON $3.* TO $3@localhost"
    mkdir -p "$2"
    tar xpzf "$1" -C "$2"
    mariadb "$3" <"$2/database.sql"
    rm "$2/database.sql"
    sed -i -E "s/('DB_(NAME|USER)', *)'[^']*'/\1'$3'/; s/('DB_PASSWORD', *)'[^']*'/\1'$password'/" "$2/wp-config.php"
}

# vhost_for SITE DIR TO NEWDIR FILE: the vhost that Kedge made, for another name or place.
vhost_for() { sed -e "s#$2#$4#g; s#${2%/sites/*};#${4%/sites/*};#g; s#$1#$3#g" "$5" >"$vhosts/$3.conf"; }

# WordPress's own update of a site's database.
update() {
    KEDGE_SITE="$2" HTTP_HOST="$2" runuser -u www-data -- php -r '
        $_SERVER += ["HTTP_HOST" => $argv[2], "KEDGE_SITE" => $argv[2], "REQUEST_URI" => "/", "REQUEST_METHOD" => "GET"];
        define("WP_INSTALLING", true);
        require "$argv[1]/wp-load.php";
        require_once ABSPATH . "wp-admin/includes/upgrade.php";
        wp_upgrade();
        wp_cache_flush();' "$1" "$2"
}

case $1 in
backup) # SITE NAME
    pack "$old/sites/$2" "$backups/$3.tar.gz"
    ;;
restore) # SITE NAME DATABASE: with the backup of what is replaced, which Aegir makes first, as Kedge does
    site="$old/sites/$2"
    cp "$vhosts/$2.conf" "$backups/vhost"
    close "$2"
    pack "$site" "$backups/before.tar.gz"
    unpack "$backups/$3.tar.gz" "$site.restore" "$4"
    chgrp -R www-data "$site.restore/wp-content/uploads"
    mv "$site" "$site.old"
    mv "$site.restore" "$site"
    update "$old" "$2"
    cp "$backups/vhost" "$vhosts/$2.conf"
    reload
    wait_for "$2"
    ;;
unrestore) # SITE DATABASE: off the clock
    rm -rf "$old/sites/$2"
    mv "$old/sites/$2.old" "$old/sites/$2"
    mariadb -e "DROP DATABASE $3; DROP USER $3@localhost"
    ;;
migrate) # SITE NAME DATABASE
    from="$old/sites/$2" to="$new/sites/$2"
    cp "$vhosts/$2.conf" "$backups/vhost"
    close "$2"
    pack "$from" "$backups/$3.tar.gz"
    unpack "$backups/$3.tar.gz" "$to" "$4"
    sed -i "s#$old/#$new/#g" "$to/wp-config.php"
    # As Aegir does it: plain REPLACE, which is quick and breaks serialised values.
    mariadb "$4" -e "UPDATE wp_posts SET post_content = REPLACE(post_content, '$from', '$to') WHERE post_content LIKE '%$from%';
        UPDATE wp_postmeta SET meta_value = REPLACE(meta_value, '$from', '$to') WHERE meta_value LIKE '%$from%';
        UPDATE wp_options SET option_value = REPLACE(option_value, '$from', '$to') WHERE option_value LIKE '%$from%'"
    chgrp -R www-data "$to/wp-content/uploads"
    update "$new" "$2"
    vhost_for "$2" "$from" "$2" "$to" "$backups/vhost"
    reload
    wait_for "$2"
    ;;
unmigrate) # SITE DATABASE: off the clock
    cp "$backups/vhost" "$vhosts/$2.conf"
    reload
    wait_for "$2"
    rm -rf "$new/sites/$2"
    mariadb -e "DROP DATABASE $3; DROP USER $3@localhost"
    ;;
clone) # SITE NAME DATABASE COPY
    from="$old/sites/$2" to="$old/sites/$5"
    pack "$from" "$backups/$3.tar.gz"
    unpack "$backups/$3.tar.gz" "$to" "$4"
    sed -i "s#$2#$5#g" "$to/wp-config.php"
    chgrp -R www-data "$to/wp-content/uploads"
    vhost_for "$2" "$from" "$5" "$to" "$vhosts/$2.conf"
    if [ -f /opt/wp-cli.phar ]; then
        WP_CONFIG_PATH="$to/wp-config.php" php /opt/wp-cli.phar --allow-root --path="$old" --url="http://$5" --quiet \
            search-replace "$2" "$5" --all-tables
    else
        php /opt/search-replace.php "$old" "$5" "$2" "$5"
    fi
    reload
    wait_for "$5"
    ;;
unclone) # DATABASE COPY: off the clock
    rm -f "$vhosts/$3.conf"
    reload
    rm -rf "$old/sites/$3"
    mariadb -e "DROP DATABASE $2; DROP USER $2@localhost"
    ;;
esac
