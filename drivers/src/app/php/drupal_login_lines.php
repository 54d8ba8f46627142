// A login link lets in who holds it if, and only if, the site's own database has its row: until when, a hash of the link, and Drupal's own
// one-time way in, which the link alone makes readable. Kedge writes such rows; each is taken out by its use. No row, no way in.
if (PHP_SAPI !== 'cli' && isset($_GET['kedge_login']) && is_string($_GET['kedge_login'])) {
  call_user_func(function ($link, $access, $site) {
    $answer = function ($status, $text) {
      header('Content-Type: text/html; charset=utf-8', TRUE, $status);
      echo '<!DOCTYPE html><html><head><meta charset="utf-8"><title>Login</title></head><body>' . $text . '</body></html>';
      exit;
    };
    header('Cache-Control: no-store');
    header('Referrer-Policy: no-referrer');
    header('X-Robots-Tag: noindex');
    $told = array();
    // Links are followed by more than people: looking at one does not use it up.
    $used = isset($_SERVER['REQUEST_METHOD']) && $_SERVER['REQUEST_METHOD'] === 'POST';
    if (preg_match('/^([0-9a-f]{32})\.[0-9a-f]{64}$/D', $link, $found)) {
      try {
        $place = $access['unix_socket'] ? 'unix_socket=' . $access['unix_socket'] : 'host=' . $access['host'] . ';port=' . ($access['port'] ? $access['port'] : 3306);
        $options = array(PDO::ATTR_ERRMODE => PDO::ERRMODE_EXCEPTION);
        $database = new PDO('mysql:' . $place . ';dbname=' . $access['database'] . ';charset=utf8mb4', $access['username'], $access['password'], $options);
        $prefix = isset($access['prefix']) ? $access['prefix'] : '';
        $prefix = is_array($prefix) ? (isset($prefix['default']) ? $prefix['default'] : '') : $prefix;
        $row = defined('DRUPAL_CORE_COMPATIBILITY')
          ? array('data', '`' . $prefix . 'cache_form` WHERE cid = CONCAT(\'kedge_login_\', ?)')
          : array('value', '`' . $prefix . 'key_value_expire` WHERE collection = \'kedge_login\' AND name = ?');
        $query = $database->prepare('SELECT ' . $row[0] . ' FROM ' . $row[1]);
        $query->execute(array($found[1]));
        $value = (string) $query->fetchColumn();
        $good = preg_match('/"(\d+):([0-9a-f]{64}):([0-9a-f]+):([0-9a-f]+)"/', $value, $told)
          && hash_equals($told[2], hash('sha256', "kedge login\n$site\n$link")) && time() < (int) $told[1];
        if ($good && $used) {
          $query = $database->prepare('DELETE FROM ' . $row[1] . ' AND ' . $row[0] . ' = ?');
          $query->execute(array($found[1], $value));
          $good = $query->rowCount() === 1;
        }
        $told = $good ? $told : array();
      }
      catch (PDOException $error) {
        $answer(503, '<p>The database of this site is not to be reached. Try again in a moment.</p>');
      }
    }
    if (!$told) {
      $answer(403, '<p>This login link was used or taken back, or its time is over. Ask for a new one.</p>');
    }
    if (!$used) {
      $user = htmlspecialchars(pack('H*', $told[4]), ENT_QUOTES, 'UTF-8');
      $answer(200, '<form method="post"><p>Log in to ' . htmlspecialchars($site, ENT_QUOTES, 'UTF-8') . ' as ' . $user . '? This link works once.</p><p><button>Log in</button></p></form>');
    }
    $path = '';
    foreach (str_split(pack('H*', $told[3]), 32) as $number => $part) {
      $path .= $part ^ hash('sha256', "kedge login path\n$site\n$link\n$number", TRUE);
    }
    header('Location: ' . $path, TRUE, 303);
    exit;
  }, $_GET['kedge_login'], $databases['default']['default'], basename(__DIR__));
}
