<?php
// What a site that somebody else made is, by its own settings and database. Changes nothing and tells no password. Where Drupal keeps what
// a platform could not serve from the site's own directory, that is told and refused.

(static function (string $root, array $core, string $dir, string $site, array $access) {
    $settings = static function (string $seven, string $newer) use ($core) {
        return $core['seven']
            ? ($GLOBALS['conf'][$seven] ?? kedge_value('SELECT value FROM {variable} WHERE name = ?', [$seven]))
            : Drupal\Core\Site\Settings::get($newer);
    };
    if (kedge_state('install_task', 'install_task') !== 'done') {
        Kedge::refuse("no Drupal is installed in the database of $root/$dir");
    }
    if (is_array($access['prefix'] ?? '') && array_filter(array_diff_key($access['prefix'], ['default' => '']))) {
        Kedge::refuse("$dir/settings.php gives tables prefixes of their own, so that sites share them, which Kedge cannot move");
    }
    if (basename($dir) !== $site) {
        Kedge::refuse("the site's directory is $dir, and Drupal keeps that in its content: make it sites/$site, there and in its database, or import it under the name " . basename($dir));
    }
    foreach ([['its files are', 'file_public_path', 'file_public_path', 'files'], ['its private files are', 'file_private_path', 'file_private_path', 'private/files'],
        ['its configuration is', 'config_sync_directory', 'config_sync_directory', 'private/config/sync']] as [$what, $seven, $newer, $ours]) {
        $path = rtrim((string) $settings($seven, $newer), '/');
        $full = $path === '' || $path[0] === '/' ? $path : "$root/$path";
        $empty = $ours === 'private/config/sync' && !glob("$full/*.yml");
        if ($path !== '' && !$empty && $full !== "$root/$dir/$ours" && realpath($full) !== realpath("$root/$dir/$ours")) {
            Kedge::refuse("$what in $full, and a site of Kedge's has them in its own directory: move them to $root/$dir/$ours first");
        }
    }
    $host = (string) ($access['host'] ?? 'localhost');
    $port = (string) ($access['port'] ?? '');
    [[$tables]] = kedge_rows('SELECT COUNT(*) FROM information_schema.TABLES WHERE TABLE_SCHEMA = DATABASE()');
    $packages = kedge_site_packages($root, $core, $dir);
    Kedge::answer([
        'version' => $core['version'],
        'schema_version' => $packages[0]['schema_version'],
        'database_host' => $port === '' ? $host : "$host:$port",
        'database' => (string) $access['database'],
        'user' => (string) $access['username'],
        'tables' => (int) $tables,
        'members' => array_values(array_diff(scandir("$root/$dir"), ['.', '..'])),
        'packages' => $packages,
    ]);
})($kedge_root, $kedge_core, $kedge_site_dir, Kedge::$in['site'], $kedge_access);
