<?php
// Kedge's prelude: parameters in $P, answers by kedge_say(), errors as answers. Read from standard input, never stored.
error_reporting(E_ALL & ~E_DEPRECATED & ~E_NOTICE & ~E_WARNING);
$P = json_decode(base64_decode('%PARAMS%'), true);
$kedge_said = false;
function kedge_write(array $answer): void {
    global $P, $kedge_said;
    $kedge_said = true;
    while (ob_get_level() > 0) { ob_end_flush(); }
    fwrite(STDOUT, "\n" . $P['marker'] . json_encode($answer, JSON_INVALID_UTF8_SUBSTITUTE) . "\n");
}
function kedge_say($value): void { kedge_write(['value' => $value]); }
function kedge_fail(string $error, bool $passing = false): void { kedge_write(['error' => $error, 'passing' => $passing]); exit(1); }
set_exception_handler(function (Throwable $e): void {
    kedge_fail(get_class($e) . ': ' . $e->getMessage() . ' in ' . basename($e->getFile()) . ':' . $e->getLine());
});
register_shutdown_function(function (): void {
    global $kedge_said;
    if ($kedge_said) { return; }
    $e = error_get_last();
    kedge_fail($e ? $e['message'] . ' in ' . basename($e['file']) . ':' . $e['line'] : 'the application ended the script');
});
ob_start();
foreach (['HTTP_HOST', 'SERVER_NAME', 'KEDGE_SITE'] as $kedge_name) { $_SERVER[$kedge_name] = $P['site'] ?? 'localhost'; }
$_SERVER += ['REQUEST_URI' => '/', 'SERVER_PROTOCOL' => 'HTTP/1.1', 'REQUEST_METHOD' => 'GET', 'REMOTE_ADDR' => '127.0.0.1', 'SERVER_PORT' => '80'];

