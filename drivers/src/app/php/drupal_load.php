<?php
// Reads a site's settings as its visitors' requests do, from the directory where it is now, published or not: by the platform's
// sites.php. Runs in the global scope, where Drupal wants its settings. No module is loaded.

$kedge_root = Kedge::$in['platform_root'];
$kedge_core = kedge_core($kedge_root);
$kedge_site_dir = 'sites/' . basename(Kedge::$in['dir']);
$_SERVER = [
    'HTTP_HOST' => Kedge::$in['site'], 'SERVER_NAME' => Kedge::$in['site'], 'KEDGE_SITE' => basename(Kedge::$in['dir']),
    'REQUEST_URI' => '/', 'REQUEST_METHOD' => 'GET', 'SERVER_PROTOCOL' => 'HTTP/1.1', 'SERVER_PORT' => '80',
    'SERVER_SOFTWARE' => 'kedge', 'REMOTE_ADDR' => '127.0.0.1', 'QUERY_STRING' => '', 'SCRIPT_NAME' => '/index.php',
    'PHP_SELF' => '/index.php', 'HTTP_USER_AGENT' => 'kedge', 'DOCUMENT_ROOT' => $kedge_root, 'SCRIPT_FILENAME' => "$kedge_root/index.php",
] + $_SERVER;
chdir($kedge_root);
if (!is_readable("$kedge_root/$kedge_site_dir/settings.php")) {
    Kedge::refuse("the site has no settings file that PHP can read: $kedge_root/$kedge_site_dir/settings.php");
}
if (Kedge::$in['mode'] === 'install') {
    define('MAINTENANCE_MODE', 'install');
}
if ($kedge_core['seven']) {
    define('DRUPAL_ROOT', $kedge_root);
    require_once DRUPAL_ROOT . '/includes/bootstrap.inc';
    if (Kedge::$in['mode'] === 'find') {
        // A site that Kedge did not make is found by nothing but where it is.
        $kedge_path = &drupal_static('conf_path', '');
        $kedge_path = $kedge_site_dir;
        unset($kedge_path);
    }
    drupal_bootstrap(DRUPAL_BOOTSTRAP_CONFIGURATION);
    $kedge_found = conf_path();
    $kedge_access = $databases['default']['default'] ?? null;
} else {
    $kedge_loader = require "$kedge_root/autoload.php";
    $kedge_request = Symfony\Component\HttpFoundation\Request::createFromGlobals();
    $kedge_found = Kedge::$in['mode'] === 'find' ? $kedge_site_dir : Drupal\Core\DrupalKernel::findSitePath($kedge_request, true, $kedge_root);
    Drupal\Core\Site\Settings::initialize($kedge_root, $kedge_found, $kedge_loader);
    $kedge_access = Drupal\Core\Database\Database::getConnectionInfo()['default'] ?? null;
}
restore_error_handler();
restore_exception_handler();
if ($kedge_found !== $kedge_site_dir) {
    Kedge::refuse("Drupal takes $kedge_found for the directory of the site instead of $kedge_site_dir: sites/sites.php lacks Kedge's lines");
}
if (!is_array($kedge_access) || ($kedge_access['driver'] ?? '') !== 'mysql') {
    Kedge::refuse('the settings name no MySQL database');
}

/** The database that the settings name. */
function kedge_database(array $access): PDO
{
    $socket = $access['unix_socket'] ?? '';
    $place = $socket !== '' ? "unix_socket=$socket" : 'host=' . ($access['host'] ?? 'localhost') . ';port=' . (($access['port'] ?? '') ?: 3306);
    try {
        return new PDO("mysql:$place;dbname={$access['database']};charset=utf8mb4", $access['username'], $access['password'], [
            PDO::ATTR_ERRMODE => PDO::ERRMODE_EXCEPTION,
            PDO::MYSQL_ATTR_FOUND_ROWS => true,
        ]);
    } catch (PDOException $error) {
        $away = in_array((int) $error->getCode(), [1040, 1053, 1203, 2002, 2003, 2005, 2006, 2013], true);
        Kedge::answer(['error' => "the site cannot reach its database (error {$error->getCode()})", 'away' => $away]);
        exit(1);
    }
}

$kedge_pdo = kedge_database($kedge_access);
$kedge_prefix = is_array($kedge_access['prefix'] ?? '') ? (string) ($kedge_access['prefix']['default'] ?? '') : (string) ($kedge_access['prefix'] ?? '');

/** The rows of a query on tables written `{name}`; null when a table is not there. */
function kedge_rows(string $sql, array $values = []): ?array
{
    global $kedge_pdo, $kedge_prefix;
    try {
        $statement = $kedge_pdo->prepare(preg_replace('/\{(\w+)\}/', '`' . $kedge_prefix . '$1`', $sql));
        $statement->execute($values);
        return $statement->columnCount() > 0 ? $statement->fetchAll(PDO::FETCH_NUM) : [];
    } catch (PDOException $error) {
        if ($error->getCode() === '42S02') {
            return null;
        }
        throw $error;
    }
}

/** A value that Drupal keeps serialised; null when it is not there. Objects are not made. */
function kedge_value(string $sql, array $values = [])
{
    $rows = kedge_rows($sql, $values);
    return empty($rows) ? null : unserialize($rows[0][0], ['allowed_classes' => false]);
}

/** A variable of Drupal 7, a state of a newer one. */
function kedge_state(string $seven, string $newer)
{
    global $kedge_core;
    return $kedge_core['seven']
        ? kedge_value('SELECT value FROM {variable} WHERE name = ?', [$seven])
        : kedge_value("SELECT value FROM {key_value} WHERE collection = 'state' AND name = ?", [$newer]);
}

/**
 * What a site is made of: what its database says that it uses, with the code that is there now. Where the database says that a file is
 * counts for nothing: it may be long ago.
 */
function kedge_site_packages(string $root, array $core, string $dir): array
{
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
    return $told;
}
