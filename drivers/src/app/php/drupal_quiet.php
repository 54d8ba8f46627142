// BEGIN quiet kedge 1: no mail, no cron, no requests to others but drupal.org, until `kedge task configure` with quiet=false. Has to be
// the end of this file.
$conf['mail_system'] = array('default-system' => 'KedgeQuietMailSystem');
$conf['cron_safe_threshold'] = 0;
$conf['cron_key'] = hash('sha256', 'quiet ' . $databases['default']['default']['password']);
$conf['elysia_cron_disabled'] = TRUE;
$conf['drupal_http_request_function'] = 'kedge_quiet_http_request';
$config['automated_cron.settings']['interval'] = 0;
$config['system.mail']['mailer_dsn'] = array('scheme' => 'null', 'host' => 'null');
$settings['http_client_config']['handler'] = 'kedge_quiet_handler';
$settings['deployment_identifier'] = (isset($settings['deployment_identifier']) ? $settings['deployment_identifier'] : '') . ' quiet';
$GLOBALS['conf']['container_service_providers']['kedge_quiet'] = 'KedgeQuietServices';
$GLOBALS['kedge_own_names'] = isset($settings['trusted_host_patterns']) ? $settings['trusted_host_patterns'] : array();
if (!function_exists('kedge_quiet_reaches')) {
  function kedge_quiet_reaches($host) {
    foreach (array_merge($GLOBALS['kedge_own_names'], array('^localhost$', '(^|\.)drupal\.org$')) as $pattern) {
      if (preg_match('{' . $pattern . '}i', (string) $host)) {
        return TRUE;
      }
    }
    return FALSE;
  }
  // Drupal 7 asks this one instead of sending.
  function kedge_quiet_http_request($url, array $options = array()) {
    global $conf;
    if (!kedge_quiet_reaches(parse_url($url, PHP_URL_HOST))) {
      return (object) array('request' => '', 'data' => '', 'protocol' => '', 'headers' => array(), 'code' => -111, 'error' => 'Kedge keeps this site quiet: no requests to others.');
    }
    $conf['drupal_http_request_function'] = FALSE;
    $answer = drupal_http_request($url, $options);
    $conf['drupal_http_request_function'] = 'kedge_quiet_http_request';
    return $answer;
  }
  // Newer ones send through this one.
  function kedge_quiet_handler($request, array $options) {
    static $handler;
    if (!kedge_quiet_reaches($request->getUri()->getHost())) {
      return new \GuzzleHttp\Promise\RejectedPromise(new \GuzzleHttp\Exception\ConnectException('Kedge keeps this site quiet: no requests to others.', $request));
    }
    $handler = $handler ? $handler : \GuzzleHttp\HandlerStack::create();
    return $handler($request, $options);
  }
  spl_autoload_register(function ($class) {
    if ($class === 'KedgeQuietMailSystem') {
      class KedgeQuietMailSystem implements MailSystemInterface {
        public function format(array $message) {
          $message['body'] = implode("\n\n", (array) $message['body']);
          return $message;
        }
        public function mail(array $message) {
          return TRUE;
        }
      }
    }
    elseif ($class === 'KedgeQuietServices') {
      class KedgeQuietServices implements \Drupal\Core\DependencyInjection\ServiceModifierInterface {
        public function alter(\Drupal\Core\DependencyInjection\ContainerBuilder $container) {
          $container->setDefinition('kedge.loud_mail', $container->getDefinition('plugin.manager.mail'));
          $loud = new \Symfony\Component\DependencyInjection\Reference('kedge.loud_mail');
          $mail = new \Symfony\Component\DependencyInjection\Definition('KedgeQuietMail', array($loud));
          $cron = new \Symfony\Component\DependencyInjection\Definition('KedgeQuietCron');
          $container->setDefinition('plugin.manager.mail', $mail->setPublic(TRUE));
          $container->setDefinition('cron', $cron->setPublic(TRUE));
        }
      }
    }
    elseif ($class === 'KedgeQuietCron') {
      class KedgeQuietCron implements \Drupal\Core\CronInterface {
        public function run() {
          return FALSE;
        }
      }
    }
    elseif ($class === 'KedgeQuietMail') {
      class KedgeQuietMail implements \Drupal\Core\Mail\MailManagerInterface {
        protected $loud;
        public function __construct($loud) {
          $this->loud = $loud;
        }
        public function mail($module, $key, $to, $langcode, $params = array(), $reply = NULL, $send = TRUE) {
          return array('id' => $module . '_' . $key, 'module' => $module, 'key' => $key, 'to' => $to, 'from' => '', 'reply-to' => $reply, 'langcode' => $langcode, 'params' => $params, 'send' => FALSE, 'subject' => '', 'body' => array(), 'headers' => array(), 'result' => TRUE);
        }
        public function getDefinition($plugin_id, $exception_on_invalid = TRUE) {
          return $this->loud->getDefinition($plugin_id, $exception_on_invalid);
        }
        public function getDefinitions() {
          return $this->loud->getDefinitions();
        }
        public function hasDefinition($plugin_id) {
          return $this->loud->hasDefinition($plugin_id);
        }
        public function createInstance($plugin_id, array $configuration = array()) {
          return $this->loud->createInstance($plugin_id, $configuration);
        }
        public function getInstance(array $options) {
          return $this->loud->getInstance($options);
        }
      }
    }
  });
}
// `drush cron` of Drupal 7 runs without a key.
$kedge_words = PHP_SAPI === 'cli' && isset($_SERVER['argv']) ? array_values(preg_grep('/^[^@\-]/', array_slice((array) $_SERVER['argv'], 1))) : array();
if (isset($kedge_words[0]) && in_array($kedge_words[0], array('cron', 'core-cron', 'core:cron'), TRUE)) {
  fwrite(STDERR, "Kedge keeps this site quiet: no cron.\n");
  exit(0);
}
// END quiet kedge
