//! A site that somebody made by hand, on a real server: imported, served, and given back exactly as it was. Needs Docker.

use anyhow::{Result, ensure};
use kedge_testenv::Service;
use serde_json::json;

use crate::scene::{SITE, Scene, take_back};

/// As long as the seeded site's name, so that its rows can be renamed by text.
const NAME: &str = "hand.example.test";
/// Where it is.
pub(crate) const DIR: &str = "/var/www/hand.example.test";
const PASSWORD: &str = "chosen-by-somebody-else";

/// Code, `wp-content`, settings, database and vhost of a site, as people make them. Arguments: the site it is filled from.
const MAKE: &str = r#"set -eu
from=/srv/platforms/wordpress-6.1 dir=/var/www/hand.example.test
mkdir -p $dir
tar -C $from --exclude=./sites --exclude=./wp-config.php --exclude=./wp-content -c . | tar -C $dir -x
cp -a $from/sites/$1/wp-content $dir/
database=$(sed -nE "s/.*DB_NAME', *'([^']+)'.*/\1/p" $from/sites/$1/wp-config.php)
mariadb -e "CREATE DATABASE handmade; CREATE USER handmade@localhost IDENTIFIED BY '$2'; GRANT ALL ON handmade.* TO handmade@localhost"
mariadb-dump $database | sed "s/$1/hand.example.test/g" | mariadb handmade
mariadb handmade -e "REPLACE INTO wp_options (option_name, option_value) VALUES ('kept_path', '$dir/wp-content/uploads')"
cat >$dir/wp-config.php <<PHP
<?php
// Made by hand.
define( 'DB_NAME', 'handmade' );
define( 'DB_USER', 'handmade' );
define( 'DB_PASSWORD', '$2' );
define( 'DB_HOST', 'localhost' );
define( 'DB_CHARSET', 'utf8mb4' );
\$table_prefix = 'wp_';
if ( ! defined( 'ABSPATH' ) ) {
	define( 'ABSPATH', __DIR__ . '/' );
}
require_once ABSPATH . 'wp-settings.php';
PHP
chown -R www-data:www-data $dir
"#;

const NGINX: &str = r"cat >/etc/nginx/sites-available/by-hand <<'CONF'
server {
    listen 80;
    server_name hand.example.test www.hand.example.test;
    root /var/www/hand.example.test;
    index index.php;
    location / { try_files $uri $uri/ /index.php?$args; }
    location ~ \.php$ { include fastcgi_params; fastcgi_param SCRIPT_FILENAME $document_root$fastcgi_script_name; fastcgi_pass unix:/run/php/php-fpm.sock; }
}
CONF
ln -s ../sites-available/by-hand /etc/nginx/sites-enabled/by-hand && nginx -s reload";

const APACHE: &str = r#"cat >/etc/apache2/sites-enabled/by-hand.conf <<'CONF'
<VirtualHost *:8080>
    ServerName hand.example.test
    ServerAlias www.hand.example.test
    DocumentRoot /var/www/hand.example.test
    DirectoryIndex index.php
    <Directory /var/www/hand.example.test>
        Require all granted
        FallbackResource /index.php
    </Directory>
    <FilesMatch "\.php$">
        SetHandler "proxy:unix:/run/php/php-fpm.sock|fcgi://localhost"
    </FilesMatch>
</VirtualHost>
CONF
apachectl graceful"#;

/// Everything of the site that an import could have touched, to the last time and inode.
const LOOK: &str = r"cd /var/www/hand.example.test && find . -printf '%p %y %m %U:%G %s %T@ %i %l\n' | sort | sha256sum
cd /etc && find nginx/sites-enabled apache2/sites-enabled -name '*hand*' -printf '%p %y %m %U:%G %T@ %l\n' | sort
cat nginx/sites-enabled/by-hand apache2/sites-enabled/by-hand.conf 2>/dev/null | sha256sum
mariadb -N -e 'SHOW GRANTS FOR handmade@localhost; SHOW CREATE USER handmade@localhost'
mariadb -N handmade -e 'CHECKSUM TABLE wp_posts, wp_users, wp_postmeta, wp_comments'
ls /srv/platforms/wordpress-6.1/sites";

/// Makes a site by hand.
pub(crate) async fn make(scene: &Scene) -> Result<()> {
    let make = MAKE.replace("$1", SITE).replace("$2", PASSWORD);
    scene.shell(&make).await?;
    scene.shell(if scene.server == Service::Apache { APACHE } else { NGINX }).await?;
    support::wait_until("the site made by hand", crate::scene::LIMIT, || async {
        scene.host.get(scene.server, NAME, "/").await.is_ok_and(|page| page.status == 200)
    })
    .await
}

pub(crate) async fn a_site_made_by_hand(scene: &Scene) -> Result<()> {
    make(scene).await?;
    let before = scene.shell(LOOK).await?;

    let mut params = json!({ "platform": scene.platforms[0], "path": DIR });
    let task = scene.run("import", &params).await?;
    ensure!(
        task["state"] == "rolled_back"
            && task["error"]["detail"]
                .as_str()
                .is_some_and(|detail| detail.contains("www.hand.example.test")),
        "a name that was not told: {task}"
    );
    ensure!(scene.shell(LOOK).await? == before, "after a refusal");

    params["aliases"] = json!(["www.hand.example.test"]);
    let task = scene.run("import", &params).await?;
    ensure!(task["state"] == "succeeded", "import: {task}");
    let page = scene.host.get(scene.server, "www.hand.example.test", "/").await?;
    ensure!([200, 301].contains(&page.status), "the imported site's alias answers {}", page.status);
    let page = scene.host.get(scene.server, NAME, "/").await?;
    ensure!(page.status == 200, "the imported site answers {}", page.status);
    let new = "/srv/platforms/wordpress-6.1/sites/hand.example.test";
    let script = format!(
        r#"database=$(sed -nE "s/.*DB_NAME', *'([^']+)'.*/\1/p" {new}/wp-config.php | head -n 1)
echo $database; mariadb -N $database -e "SELECT option_value FROM wp_options WHERE option_name = 'kept_path'"
mariadb -N -e "SELECT JSON_VALUE(Priv, '$.account_locked') FROM mysql.global_priv WHERE User = 'handmade'""#
    );
    let seen = scene.shell(&script).await?;
    let expected = format!("handexampletest\n{new}/wp-content/uploads\n1");
    ensure!(
        seen.trim() == expected || seen.trim() == expected.replace("\n1", "\ntrue"),
        "after the import: {seen}"
    );
    for place in [scene.kedge.dir().join("data"), scene.kedge.log_file()] {
        let found = std::process::Command::new("grep").args(["-raq", PASSWORD]).arg(&place).status()?;
        ensure!(!found.success(), "the site's password is in {}", place.display());
    }
    let (_, known) = scene.face.get("/v1/sites").await?;
    let site = known["sites"].as_array().into_iter().flatten().find(|site| site["name"] == NAME);
    ensure!(site.is_some_and(|site| site["platform"] == scene.platforms[0]), "the registry: {known}");

    take_back(scene, &support::face::id_of(&task)?).await?;
    let after = scene.shell(LOOK).await?;
    ensure!(after == before, "after the undo: {after}\nbefore: {before}");
    let page = scene.host.get(scene.server, NAME, "/").await?;
    ensure!(page.status == 200, "the site made by hand answers {} again", page.status);
    Ok(())
}
