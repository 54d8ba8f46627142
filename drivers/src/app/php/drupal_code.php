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

/** Every file below a directory that tells of an extension, by its name. */
function kedge_tellers(string $dir, string $suffix): array
{
    if (!is_dir($dir)) {
        return [];
    }
    $skipped = ['tests', 'node_modules', 'vendor', 'src', 'css', 'js', 'images', 'config', 'templates', 'files', 'private', 'libraries'];
    $files = new RecursiveCallbackFilterIterator(
        new RecursiveDirectoryIterator($dir, FilesystemIterator::SKIP_DOTS | FilesystemIterator::FOLLOW_SYMLINKS),
        static fn ($file) => $file->isDir() ? $file->getFilename()[0] !== '.' && !in_array($file->getFilename(), $skipped, true) : true
    );
    $walk = new RecursiveIteratorIterator($files, RecursiveIteratorIterator::LEAVES_ONLY, RecursiveIteratorIterator::CATCH_GET_CHILD);
    $walk->setMaxDepth(8);
    $found = [];
    foreach ($walk as $file) {
        if (substr($file->getFilename(), -strlen($suffix)) === $suffix) {
            $found[basename($file->getFilename(), $suffix)] ??= $file->getPathname();
        }
    }
    return $found;
}
