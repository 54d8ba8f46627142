<?php
// What the site is: versions in its database, and which updates of its code are not in it yet.

(static function (string $root, bool $seven, string $version) {
    $installed = kedge_state('install_task', 'install_task') === 'done';
    $has = $pending = [];
    if ($installed && $seven) {
        foreach (kedge_rows("SELECT name, filename, schema_version FROM {system} WHERE type = 'module' AND status = 1") as [$name, $file, $schema]) {
            $has[$name] = (int) $schema;
            // A module of the site's own is where the site is now.
            $file = preg_replace('~^sites/[^/]+/(?=modules/|profiles/|themes/)~', 'sites/' . basename(Kedge::$in['dir']) . '/', $file);
            $file = is_file("$root/$file") ? $file : preg_replace('~^sites/[^/]+/~', 'sites/all/', $file);
            $updates[$name] = kedge_updates($name, kedge_text(dirname("$root/$file") . "/$name.install"));
        }
    } elseif ($installed) {
        $extensions = kedge_value("SELECT data FROM {config} WHERE collection = '' AND name = 'core.extension'") ?? [];
        $names = ($extensions['module'] ?? []) + ($extensions['theme'] ?? []);
        foreach (kedge_rows("SELECT name, value FROM {key_value} WHERE collection = 'system.schema'") ?? [] as [$name, $value]) {
            $has[$name] = (int) unserialize($value, ['allowed_classes' => false]);
        }
        $done = array_flip((array) kedge_value("SELECT value FROM {key_value} WHERE collection = 'post_update' AND name = 'existing_updates'"));
        $dirs = [];
        foreach (['core/modules', 'core/profiles', 'core/themes', 'modules', 'profiles', 'themes', 'sites/all', 'sites/' . basename(Kedge::$in['dir'])] as $part) {
            $dirs += array_map('dirname', array_intersect_key(kedge_tellers("$root/$part", '.info.yml'), $names));
        }
        foreach ($dirs as $name => $dir) {
            $updates[$name] = kedge_updates($name, kedge_text("$dir/$name.install"));
            preg_match_all('/^\s*function\s+(' . preg_quote($name, '/') . '_post_update_\w+)\s*\(/m', kedge_text("$dir/$name.post_update.php"), $found);
            foreach ($found[1] as $update) {
                isset($done[$update]) || $pending[] = $update;
            }
        }
    }
    foreach ($updates ?? [] as $name => $numbers) {
        foreach ($numbers as $number) {
            if (isset($has[$name]) && $has[$name] >= 0 && $number > $has[$name]) {
                $pending[] = "{$name}_update_$number";
            }
        }
    }
    Kedge::answer([
        'installed' => $installed,
        'version' => $version,
        'schema_version' => $has['system'] ?? null,
        'wanted' => kedge_core_schema($root, $seven),
        'pending' => array_slice($pending, 0, 20),
        'maintenance' => (bool) kedge_state('maintenance_mode', 'system.maintenance_mode'),
        'seven' => $seven,
    ]);
})($kedge_root, $kedge_core['seven'], $kedge_core['version']);
