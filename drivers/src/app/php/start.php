<?php
// Start of every script of ours. Comes on standard input in front of the script, ended by NUL; what follows is its parameters.
// Whatever the site's code prints is thrown away but for its end; our answer goes straight to standard output, between two
// frames that only this run knows.

final class Kedge
{
    /** Parameters. */
    public static $in = [];
    /** The end of what the site's code printed. */
    public static $printed = '';
    private static $answered = false;

    public static function begin(): void
    {
        self::$in = json_decode(stream_get_contents(STDIN), true, 8, JSON_THROW_ON_ERROR);
        register_shutdown_function([self::class, 'end']);
        ob_start([self::class, 'printed'], 4096);
    }

    public static function printed($text): string
    {
        self::$printed = substr(self::$printed . $text, -2000);
        return '';
    }

    /** The one answer. */
    public static function answer(array $answer): void
    {
        if (self::$answered) {
            return;
        }
        self::$answered = true;
        $flags = JSON_INVALID_UTF8_SUBSTITUTE | JSON_PARTIAL_OUTPUT_ON_ERROR | JSON_UNESCAPED_SLASHES;
        fwrite(STDOUT, "\n" . self::$in['frame'] . json_encode($answer, $flags) . self::$in['frame'] . "\n");
    }

    public static function refuse(string $message): void
    {
        self::answer(['error' => $message]);
        exit(1);
    }

    /** At the end of the process, however it came about. */
    public static function end(): void
    {
        if (self::$answered) {
            return;
        }
        if (defined('MULTISITE') && MULTISITE) {
            self::answer(['error' => 'the site is a multisite network (MULTISITE), which Kedge cannot move']);
            return;
        }
        $errno = function_exists('mysqli_connect_errno') ? mysqli_connect_errno() : 0;
        if ($errno !== 0) {
            $away = in_array($errno, [1040, 1053, 1203, 2002, 2003, 2005, 2006, 2013], true);
            self::answer(['error' => "the site cannot reach its database (error $errno)", 'away' => $away]);
            return;
        }
        $error = error_get_last();
        $fatal = E_ERROR | E_PARSE | E_CORE_ERROR | E_COMPILE_ERROR | E_USER_ERROR | E_RECOVERABLE_ERROR;
        if ($error !== null && ($error['type'] & $fatal)) {
            $message = strtok($error['message'], "\n");
            self::answer(['error' => "$message in {$error['file']} line {$error['line']}"]);
            return;
        }
        while (ob_get_level() > 0 && ob_end_flush()) {
            continue;
        }
        $printed = trim(preg_replace('/\s+/', ' ', strip_tags(self::$printed)));
        self::answer(['error' => 'the site\'s code ended the process early: ' . substr($printed, -300)]);
    }
}

Kedge::begin();
