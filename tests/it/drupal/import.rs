//! A Drupal site that somebody made by hand, of code of its own: imported, served by the platform, and given back exactly as it was.

use std::collections::BTreeSet;

use anyhow::{Result, ensure};
use kedge_testenv::Service;
use serde_json::json;

use super::{Sites, undo};
use crate::scene::{LIMIT, SITE};

/// As long as the seeded site's name, so that its rows can be renamed by text.
const NAME: &str = "hand.example.test";
const PASSWORD: &str = "chosen-by-somebody-else";

/// `$root` is the platform's, `$site` the site that it is filled from, `$from` its database.
const MAKE: &str = r#"set -eu
code=/var/www/drupal; mkdir -p /var/www; cp -a $project $code
dir=$code$web/sites/hand.example.test
rm -rf $code$web/sites/*.example.test $code$web/sites/sites.php $code$web/sites/.kedge*
printf '<?php\n' >$code$web/sites/sites.php # newer ones look for other directories only where it is there
mkdir $dir; cp -a $root/sites/$site/. $dir/; rm $dir/settings.php
mariadb -e "CREATE DATABASE handmade; CREATE USER handmade@localhost IDENTIFIED BY '$password'; GRANT ALL ON handmade.* TO handmade@localhost"
mariadb-dump $from | sed "s/$site/hand.example.test/g" | mariadb handmade
cat >$dir/settings.php <<PHP
<?php
// Made by hand.
\$databases['default']['default'] = array('driver' => 'mysql', 'database' => 'handmade', 'username' => 'handmade', 'password' => '$password', 'host' => 'localhost', 'prefix' => '', 'collation' => 'utf8mb4_general_ci', 'charset' => 'utf8mb4');
\$drupal_hash_salt = 'salt of the hand';
\$settings['hash_salt'] = \$drupal_hash_salt;
\$conf['file_private_path'] = 'sites/hand.example.test/private/files';
\$settings['file_private_path'] = 'sites/hand.example.test/private/files';
PHP
chown -R www-data:www-data $dir
"#;

const NGINX: &str = r"cat >/etc/nginx/sites-available/by-hand <<'CONF'
server {
    listen 80;
    server_name hand.example.test;
    root $docroot;
    index index.php;
    location / { try_files $uri /index.php?$query_string; }
    location ~ \.php$ { include fastcgi_params; fastcgi_param SCRIPT_FILENAME $document_root$fastcgi_script_name; fastcgi_pass unix:/run/php/php-fpm.sock; }
}
CONF
ln -s ../sites-available/by-hand /etc/nginx/sites-enabled/by-hand && nginx -s reload";

const APACHE: &str = r#"cat >/etc/apache2/sites-enabled/by-hand.conf <<'CONF'
<VirtualHost *:8080>
    ServerName hand.example.test
    DocumentRoot $docroot
    DirectoryIndex index.php
    <Directory $docroot>
        Require all granted
        FallbackResource /index.php
    </Directory>
    <FilesMatch "\.php$">
        SetHandler "proxy:unix:/run/php/php-fpm.sock|fcgi://localhost"
    </FilesMatch>
</VirtualHost>
CONF
apachectl graceful"#;

/// Everything of the site that an import could have touched, to the last time and inode; without the templates that Drupal 10 compiles
/// whenever a page is asked for.
const LOOK: &str = r"cd /var/www/drupal && find . -path '*/files/php/twig' -prune -o -printf '%p %y %m %U:%G %s %T@ %i %l\n' | sort
cd /etc && cat nginx/sites-enabled/by-hand apache2/sites-enabled/by-hand.conf 2>/dev/null | sha256sum
mariadb -N -e 'SHOW GRANTS FOR handmade@localhost; SHOW CREATE USER handmade@localhost'
mariadb -N handmade -e 'CHECKSUM TABLE users, node'";

/// Plays all of it; nothing is left.
pub(super) async fn a_site_made_by_hand(sites: &Sites) -> Result<()> {
    let root = sites.drupal.root(false);
    let (project, web) = root.strip_suffix("/web").map_or((root.as_str(), ""), |project| (project, "/web"));
    let from = sites.database(&format!("{root}/sites/{SITE}")).await?;
    let docroot = format!("/var/www/drupal{web}");
    let script = format!(
        "project={project} web={web} root={root} site={SITE} from={from} password={PASSWORD}\n{MAKE}"
    );
    sites.shell(&script).await?;
    let vhost = if sites.server == Service::Apache { APACHE } else { NGINX };
    sites.shell(&vhost.replace("$docroot", &docroot)).await?;
    support::wait_until("the site made by hand", LIMIT, || async {
        sites.host.get(sites.server, NAME, "/harbour").await.is_ok_and(|page| page.status == 200)
    })
    .await?;
    let before = sites.shell(LOOK).await?;

    let path = format!("{docroot}/sites/{NAME}");
    for (path, site, words) in [
        (docroot.as_str(), NAME, "below sites"),
        (&path, "other.example.test", "the site's directory is sites/hand.example.test"),
    ] {
        let task = sites.run("import", json!({ "platform": "new", "path": path, "site": site })).await?;
        let told = task["error"]["detail"].as_str().unwrap_or_default().to_owned();
        ensure!(task["state"] == "rolled_back" && told.contains(words), "{task}");
        println!("  refused: {told}");
    }
    ensure!(sites.shell(LOOK).await? == before, "after a refusal");
    sites.done("import", json!({ "platform": "new", "path": path, "check_only": true })).await?;

    let task = sites.done("import", json!({ "platform": "new", "path": path })).await?;
    let version = if sites.drupal == super::Drupal::Seven { "7.105" } else { "10.6" };
    sites.works(NAME, NAME, version).await?;
    for place in [sites.kedge.dir().join("data"), sites.kedge.log_file()] {
        let found = std::process::Command::new("grep").args(["-raq", PASSWORD]).arg(&place).status()?;
        ensure!(!found.success(), "the site's password is in {}", place.display());
    }
    undo(sites, &task).await?;
    let after = sites.shell(LOOK).await?;
    let lines = |text: &str| text.lines().map(str::to_owned).collect::<BTreeSet<String>>();
    let (before, after) = (lines(&before), lines(&after));
    let (gone, new): (Vec<_>, Vec<_>) =
        (before.difference(&after).collect(), after.difference(&before).collect());
    ensure!(gone.is_empty() && new.is_empty(), "after the undo there is no {gone:#?}, but {new:#?}");
    let page = sites.host.get(sites.server, NAME, "/harbour").await?;
    ensure!(page.status == 200, "the site made by hand answers {} again", page.status);
    sites
        .shell(
            "rm -f /etc/nginx/sites-enabled/by-hand /etc/apache2/sites-enabled/by-hand.conf; rm -rf /var/www/drupal; \
             mariadb -e 'DROP DATABASE handmade; DROP USER handmade@localhost'; nginx -s reload; apachectl graceful; true",
        )
        .await?;
    Ok(())
}
