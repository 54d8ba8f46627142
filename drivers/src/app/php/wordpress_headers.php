<?php
// Plugins and themes by the headers of their files: nothing of them is run.

/** What a file's header says under a name; null when it has no such line. Only its first 8 KiB count, as for WordPress. */
function kedge_header(string $file, string $name): ?string
{
    $text = is_file($file) ? (string) @file_get_contents($file, false, null, 0, 8192) : '';
    if (!preg_match('/^(?:[ \t]*<\?php)?[ \t\/*#@]*' . preg_quote($name, '/') . ':(.*)$/mi', str_replace("\r", "\n", $text), $found)) {
        return null;
    }
    return substr(trim(preg_replace('/\s*(?:\*\/|\?>).*/', '', $found[1])), 0, 100);
}

/** Below a `wp-content`; `$used` names what is in use: plugins as `directory/file.php`, themes by their directories. */
function kedge_packages(string $content, array $plugins, array $themes, bool $own): array
{
    $packages = [];
    $add = static function (string $kind, string $name, ?string $version, bool $enabled) use (&$packages, $own) {
        $key = "$kind/$name";
        $enabled = $enabled || ($packages[$key]['enabled'] ?? false);
        $packages[$key] = ['kind' => $kind, 'name' => substr($name, 0, 200), 'version' => $version === '' ? null : $version,
            'enabled' => $enabled, 'own' => $own];
    };
    foreach (array_merge(glob("$content/plugins/*.php") ?: [], glob("$content/plugins/*/*.php") ?: []) as $file) {
        $path = substr($file, strlen("$content/plugins/"));
        if (kedge_header($file, 'Plugin Name') === null) {
            continue;
        }
        $name = strpos($path, '/') === false ? basename($path, '.php') : dirname($path);
        $add('plugin', $name, kedge_header($file, 'Version'), in_array($path, $plugins, true));
    }
    foreach (glob("$content/mu-plugins/*.php") ?: [] as $file) {
        $add('plugin', 'mu-plugins/' . basename($file, '.php'), kedge_header($file, 'Version'), $own);
    }
    foreach (glob("$content/themes/*/style.css") ?: [] as $file) {
        $name = basename(dirname($file));
        $add('theme', $name, kedge_header($file, 'Version'), in_array($name, $themes, true));
    }
    return array_values($packages);
}
