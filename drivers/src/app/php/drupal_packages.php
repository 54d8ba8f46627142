<?php
// What the site is made of: what its database says that it uses, with the code that is there now. Where the database says that a file is
// counts for nothing: it may be long ago.

(static function (string $root, array $core, string $dir) {
    $used = $schemas = [];
    if ($core['seven']) {
        $profile = kedge_value("SELECT value FROM {variable} WHERE name = 'install_profile'") ?? 'standard';
        foreach (kedge_rows("SELECT name, type, status, schema_version FROM {system} WHERE type IN ('module', 'theme')") ?? [] as [$name, $kind, $status, $schema]) {
            if ($status || ($kind === 'module' && $schema >= 0)) {
                $used["$kind/$name"] = (bool) $status;
            }
            $schemas["$kind/$name"] = $kind === 'module' && $schema > 0 ? (int) $schema : null;
        }
    } else {
        $extensions = kedge_value("SELECT data FROM {config} WHERE collection = '' AND name = 'core.extension'") ?? [];
        $profile = (string) ($extensions['profile'] ?? '');
        foreach (['module', 'theme'] as $kind) {
            foreach (array_keys($extensions[$kind] ?? []) as $name) {
                $used["$kind/$name"] = true;
            }
        }
        foreach (kedge_rows("SELECT name, value FROM {key_value} WHERE collection = 'system.schema'") ?? [] as [$name, $value]) {
            $schema = (int) unserialize($value, ['allowed_classes' => false]);
            $schemas["module/$name"] = $schema > 0 ? $schema : null;
        }
    }
    if (isset($used["module/$profile"])) {
        // Drupal keeps a profile among the modules.
        $schemas["profile/$profile"] = $schemas["module/$profile"] ?? null;
        unset($used["module/$profile"]);
    }
    $profile === '' || $used["profile/$profile"] = true;
    $packages = [];
    foreach (kedge_extensions("$root/$dir", $core) as $one) {
        $packages["{$one['kind']}/{$one['name']}"] ??= ['own' => true] + $one;
    }
    foreach (kedge_platform_packages($root, $core) as $one) {
        $key = "{$one['kind']}/{$one['name']}";
        $with = $one['profile'] ?? null;
        $seen = !isset($packages[$key]) || ($with !== null && empty($packages[$key]['own']));
        if (isset($used[$key]) && ($with === null || $with === $profile) && $seen) {
            $packages[$key] = $one;
        }
    }
    $schemas += ['module/system' => null];
    $told = [['kind' => 'core', 'name' => 'drupal', 'version' => $core['version'], 'schema_version' => $schemas['module/system'], 'enabled' => true]];
    foreach ($used + array_fill_keys(array_keys($packages), false) as $key => $enabled) {
        [$kind, $name] = explode('/', $key);
        $told[] = ['kind' => $kind, 'name' => $name, 'version' => $packages[$key]['version'] ?? null, 'schema_version' => $schemas[$key] ?? null,
            'enabled' => $enabled, 'own' => $packages[$key]['own'] ?? false];
    }
    Kedge::answer(['packages' => $told]);
})($kedge_root, $kedge_core, $kedge_site_dir);
