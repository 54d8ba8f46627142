<?php
// What the code of a Drupal says about itself, read as text: none of it runs here.

/** The major version's layout and the version of a platform. */
function kedge_core(string $root): array
{
    foreach ([['core/lib/Drupal.php', "/const VERSION = '([^']+)'/"], ['includes/bootstrap.inc', "/define\('VERSION', '([^']+)'\)/"]] as [$file, $form]) {
        if (preg_match($form, kedge_text("$root/$file"), $found)) {
            return ['seven' => $file === 'includes/bootstrap.inc', 'version' => $found[1]];
        }
    }
    $hint = is_dir("$root/web/core") ? "; its docroot is $root/web" : '';
    Kedge::refuse("$root is not a Drupal platform: PHP finds no version of Drupal 7 or newer there$hint");
}

/** A file's text; empty when it is not there. 4 MiB at most: larger ones are no code. */
function kedge_text(string $file): string
{
    return is_file($file) ? (string) file_get_contents($file, false, null, 0, 4 << 20) : '';
}

/** Numbers of a module's update functions. */
function kedge_updates(string $module, string $install): array
{
    preg_match_all('/^\s*function\s+' . preg_quote($module, '/') . '_update_(\d+)\s*\(/m', $install, $found);
    return array_map('intval', $found[1]);
}

/** The schema version that a module's code wants. */
function kedge_wanted(string $module, string $install): int
{
    $last = preg_match('/function\s+' . preg_quote($module, '/') . '_update_last_removed\s*\(.*?return\s+(\d+)\s*;/s', $install, $found);
    return max(array_merge([$last ? (int) $found[1] : 0], kedge_updates($module, $install)));
}

/** The schema version that a core wants: that of its system module. */
function kedge_core_schema(string $root, bool $seven): int
{
    return kedge_wanted('system', kedge_text($root . ($seven ? '' : '/core') . '/modules/system/system.install'));
}

/** Every file below a directory that tells of an extension. */
function kedge_files(string $dir, string $suffix): array
{
    if (!is_dir($dir)) {
        return [];
    }
    $skipped = ['tests', 'node_modules', 'vendor', 'src', 'css', 'js', 'images', 'config', 'templates', 'files', 'private', 'libraries'];
    // An extension may have any name: Drupal's own `config`, and `libraries`.
    $enters = static function ($file) use ($skipped, $suffix): bool {
        $name = $file->getFilename();
        return $name[0] !== '.' && (!in_array($name, $skipped, true) || is_file($file->getPathname() . "/$name$suffix"));
    };
    $files = new RecursiveCallbackFilterIterator(
        new RecursiveDirectoryIterator($dir, FilesystemIterator::SKIP_DOTS | FilesystemIterator::FOLLOW_SYMLINKS),
        static fn ($file) => !$file->isDir() || $enters($file)
    );
    $walk = new RecursiveIteratorIterator($files, RecursiveIteratorIterator::LEAVES_ONLY, RecursiveIteratorIterator::CATCH_GET_CHILD);
    $walk->setMaxDepth(8);
    $found = [];
    foreach ($walk as $file) {
        if (substr($file->getFilename(), -strlen($suffix)) === $suffix) {
            $found[] = $file->getPathname();
        }
    }
    sort($found);
    return $found;
}

/** The same, one for each name. */
function kedge_tellers(string $dir, string $suffix): array
{
    $found = [];
    foreach (kedge_files($dir, $suffix) as $file) {
        $found[basename($file, $suffix)] ??= $file;
    }
    return $found;
}

/** The modules, themes and profiles below a directory, by kind and name; of several copies each is told. */
function kedge_extensions(string $dir, array $core): array
{
    $found = [];
    foreach (kedge_files($dir, $core['seven'] ? '.info' : '.info.yml') as $file) {
        $name = basename($file, $core['seven'] ? '.info' : '.info.yml');
        $text = kedge_text($file);
        $said = static function (string $key) use ($text, $core): string {
            // The last one counts in an `.info`: what packs a release adds its version at the end.
            $sign = $core['seven'] ? '=' : ':';
            preg_match_all("/^$key\\s*$sign\\s*[\"']?([^\"'\\r\\n#]*)/m", $text, $lines);
            return trim((string) end($lines[1]));
        };
        $beside = dirname($file) . "/$name";
        if (!$core['seven']) {
            $kind = $said('type');
        } elseif ($said('core') !== '7.x') {
            $kind = '';
        } else {
            $kind = is_file("$beside.profile") ? 'profile' : (is_file("$beside.module") ? 'module' : (strpos($file, '/themes/') !== false ? 'theme' : ''));
        }
        if (!in_array($kind, ['profile', 'module', 'theme'], true) || !preg_match('/^\w+$/D', $name)) {
            continue;
        }
        $version = $said('version') === 'VERSION' ? $core['version'] : substr($said('version'), 0, 100);
        $wanted = $kind === 'theme' ? 0 : kedge_wanted($name, kedge_text("$beside.install"));
        $found[] = ['kind' => $kind, 'name' => $name, 'version' => $version === '' ? null : $version,
            'schema_version' => $wanted === 0 ? null : $wanted, 'dir' => dirname($file)];
    }
    return $found;
}

/**
 * What a platform gives its sites: of copies the one that Drupal takes. What comes with a profile is seen by that profile's sites only, and
 * stands behind what is for all sites, and in front of the core's.
 */
function kedge_platform_packages(string $root, array $core): array
{
    $seven = $core['seven'];
    $below = static function (array $places) use ($root, $core): array {
        return array_merge(...array_map(static fn ($place) => kedge_extensions("$root/$place", $core), $places));
    };
    $for_all = $below($seven ? ['sites/all'] : ['modules', 'themes', 'sites/all']);
    $with_profiles = $below($seven ? ['profiles'] : ['profiles', 'core/profiles']);
    $packages = [];
    $add = static function (array $one, ?string $profile) use (&$packages) {
        unset($one['dir']);
        $one['profile'] = $profile;
        $key = "{$one['kind']}/{$one['name']}/";
        isset($packages[$key]) || isset($packages[$key . $profile]) || $packages[$key . $profile] = $one;
    };
    foreach ($for_all as $one) {
        $add($one, null);
    }
    $profiles = array_filter($with_profiles, static fn ($one) => $one['kind'] === 'profile');
    foreach ($with_profiles as $one) {
        $of = '';
        foreach ($profiles as $profile) {
            if ($one['kind'] !== 'profile' && strpos("{$one['dir']}/", "{$profile['dir']}/") === 0) {
                $of = $profile['name'];
            }
        }
        $add($one, $of === '' ? null : $of);
    }
    foreach ($below($seven ? ['modules', 'themes'] : ['core/modules', 'core/themes']) as $one) {
        $add($one, null);
    }
    $schema = kedge_core_schema($root, $seven);
    return array_merge([['kind' => 'core', 'name' => 'drupal', 'version' => $core['version'], 'schema_version' => $schema]], array_values($packages));
}
