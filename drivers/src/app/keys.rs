//! Keys and salts in settings files of PHP, found in the forms in which they are written by everybody, and made anew. Pure: whoever asks
//! brings the random texts.

use kedge_workflows::ports::PortResult;

use super::wordpress_settings::literal;

/// The file without its lines `define( 'NAME', 'literal' );` of these names, where they are statements of their own.
pub(super) fn without_constants(file: &[u8], names: &[&str]) -> Vec<u8> {
    let (mut kept, mut begins, mut inside) = (Vec::with_capacity(file.len()), true, false);
    for line in file.split_inclusive(|byte| *byte == b'\n') {
        let named = |name: &[u8]| names.iter().any(|one| one.as_bytes() == name);
        if inside || !begins || !defined(line).is_some_and(named) {
            kept.extend_from_slice(line);
        }
        let code;
        (code, inside) = code_of(line, inside);
        begins = next_begins(&code).unwrap_or(begins);
    }
    kept
}

/// A line without its comments, and whether the next line is inside a block comment, as this one is from its start with `inside`. Of a string
/// that does not end on the line its quote is the last that is told.
fn code_of(line: &[u8], mut inside: bool) -> (Vec<u8>, bool) {
    let (mut code, mut rest) = (Vec::with_capacity(line.len()), line);
    while let Some(&first) = rest.first() {
        if inside {
            let Some(end) = rest.windows(2).position(|two| two == b"*/") else { return (code, true) };
            (inside, rest) = (false, &rest[end + 2..]);
        } else if first == b'#' || rest.starts_with(b"//") {
            break;
        } else if rest.starts_with(b"/*") {
            (inside, rest) = (true, &rest[2..]);
        } else if let b'\'' | b'"' = first {
            code.push(first);
            let Some((_, behind)) = string(rest) else { break };
            rest = behind;
        } else {
            code.push(first);
            rest = &rest[1..];
        }
    }
    (code, inside)
}

/// Whether what comes behind a line's code surely begins a statement: not the one of an `if` without braces. `None`: a line without code.
fn next_begins(code: &[u8]) -> Option<bool> {
    let code = code.trim_ascii();
    let last = code.last()?;
    Some(code == b"<?php" || matches!(last, b';' | b'{' | b'}'))
}

/// The constant that a line defines by a literal or one word (`false`), and does nothing else.
fn defined(line: &[u8]) -> Option<&[u8]> {
    let rest = after(after(line, b"define")?, b"(")?;
    let (name, rest) = string(rest.trim_ascii_start())?;
    let value = after(rest, b",")?.trim_ascii_start();
    let (_, rest) = string(value).or_else(|| word(value))?;
    ends(after(rest, b")")?).then_some(name)
}

/// A word or a number, and what is behind.
fn word(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = text.iter().position(|byte| !(byte.is_ascii_alphanumeric() || *byte == b'_'));
    text.split_at_checked(end.unwrap_or(text.len())).filter(|(word, _)| !word.is_empty())
}

/// The file with another literal in its lines `<variable> = 'literal';` of these variables. `None`: it has no such line.
pub(super) fn with_variables(file: &[u8], variables: &[&str], value: &str) -> PortResult<Option<Vec<u8>>> {
    let value = literal(value)?;
    let (mut new, mut found) = (Vec::with_capacity(file.len()), false);
    for line in file.split_inclusive(|byte| *byte == b'\n') {
        match variables.iter().find(|variable| assigned(line, variable)) {
            Some(variable) => {
                new.extend_from_slice(format!("{variable} = {value};\n").as_bytes());
                found = true;
            }
            None => new.extend_from_slice(line),
        }
    }
    Ok(found.then_some(new))
}

/// Whether a line gives a variable a literal, and does nothing else.
fn assigned(line: &[u8], variable: &str) -> bool {
    let value = after(line, variable.as_bytes()).and_then(|rest| after(rest, b"="));
    value.and_then(|value| string(value.trim_ascii_start())).is_some_and(|(_, rest)| ends(rest))
}

/// What is behind a word, if the text begins with it.
fn after<'a>(text: &'a [u8], word: &[u8]) -> Option<&'a [u8]> {
    text.trim_ascii_start().strip_prefix(word)
}

/// A semicolon, and no more code on the line.
fn ends(rest: &[u8]) -> bool {
    after(rest, b";").map(<[u8]>::trim_ascii).is_some_and(|rest| {
        rest.is_empty() || rest.starts_with(b"//") || rest.starts_with(b"#") || is_a_comment(rest)
    })
}

/// One whole comment of blocks, and nothing else.
fn is_a_comment(text: &[u8]) -> bool {
    let inner = text.strip_prefix(b"/*").and_then(|text| text.strip_suffix(b"*/"));
    inner.is_some_and(|inner| memchr::memmem::find(inner, b"*/").is_none())
}

/// A string of PHP in quotes, as it is written: what is between them, and what is behind.
fn string(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let quote = *text.first().filter(|quote| matches!(quote, b'\'' | b'"'))?;
    let mut at = 1;
    while at < text.len() {
        match text[at] {
            b'\\' => at += 2,
            byte if byte == quote => return Some((&text[1..at], &text[at + 1..])),
            _ => at += 1,
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn constants_are_taken_out_in_the_forms_that_are_in_use() {
        for line in [
            "define( 'AUTH_KEY', 'a;b)c' );",
            "define('AUTH_KEY',         'it\\'s $x');",
            "  define(\"AUTH_KEY\", \"a'b\") ; // mine",
            "define('AUTH_KEY', '');\r",
            "define( 'AUTH_KEY', 'x' ); /* by the panel */",
        ] {
            let file = format!("<?php\n{line}\nrest\n");
            assert_eq!(without_constants(file.as_bytes(), &["AUTH_KEY"]), b"<?php\nrest\n", "{line}");
        }
        for line in [
            "define( 'AUTH_KEY', getenv( 'X' ) );",
            "define( 'AUTH_KEY_2', 'a' );",
            "define( 'AUTH_KEY', 'a' ); define( 'B', 'b' );",
            "define( 'AUTH_KEY', 'a",
            "define( 'AUTH_KEY', 'a' ); /* one */ define( 'B', 'b' ); /* two */",
            "define( 'AUTH_KEY', 'a' ); /* begins",
            "// define( 'AUTH_KEY', 'a' );",
        ] {
            let file = format!("<?php\n{line}\n");
            assert_eq!(without_constants(file.as_bytes(), &["AUTH_KEY"]), file.as_bytes(), "{line}");
        }
    }

    #[test]
    fn a_constant_that_is_somebody_elses_statement_stays() {
        let without = |file: &str| {
            let new = without_constants(file.as_bytes(), &["A", "B"]);
            String::from_utf8(new).unwrap()
        };
        for file in [
            "<?php\nif ( $x )\n    define( 'A', 'a' );\nelse\n    define( 'B', 'b' );\n",
            "<?php\nif ( $x ) // so it is;\n\n    /** A */\n    define( 'A', 'a' );\n",
            "<?php\n$x = $y ? 1 : # no\ndefine( 'A', 'a' );\n",
            "<?php\n$x = 'a\ndefine( 'A', 'a' );\n",
            "<?php\n$x = 'a;\ndefine( 'A', 'a' );\n",
            "<?php\n/* staging */ if ( $x )\n    define( 'A', 'a' );\nrest();\n",
            "<?php\n/* staging\nonly */ if ( $x )\n    define( 'A', 'a' );\nrest();\n",
            "<?php\n$x = 2\n* 3 +\ndefine( 'A', 'a' );\n",
            "<?php\n/*\ndefine( 'A', 'a' );\n*/\n",
            "<?php\n/*\n */ define( 'A', 'a' );\n",
        ] {
            assert_eq!(without(file), file);
        }
        let file = "<?php\n$x = 'http://y'; // z\n/** A\n */\ndefine( 'A', false );\nif ( $x ) {\ndefine('B', 5);\n}\n";
        assert_eq!(without(file), "<?php\n$x = 'http://y'; // z\n/** A\n */\nif ( $x ) {\n}\n");
    }

    #[test]
    fn comments_say_nothing_of_what_comes_behind() {
        for above in [
            "/*\n Authentication keys: it's yours\n*/\n",
            "/* Keys,\n\n   if you want ( them )\n and salts */ // so\n",
            "$x = 1; /* begun\n here */ $y = '/*'; // it's /* nothing\n",
            "$x = 1; # /* nothing\n/**/ /*/ if ( $x ) */\n",
        ] {
            let file = format!("<?php\n{above}define( 'A', 'a' );\nrest();\n");
            let new = without_constants(file.as_bytes(), &["A"]);
            assert_eq!(String::from_utf8(new).unwrap(), format!("<?php\n{above}rest();\n"));
        }
    }

    #[test]
    fn variables_get_another_literal() {
        let file = b"<?php\n$salt = 'old'; // x\n$settings['salt'] = $salt;\n";
        let new = with_variables(file, &["$salt", "$settings['salt']"], "it's new").unwrap().unwrap();
        assert_eq!(new, b"<?php\n$salt = 'it\\'s new';\n$settings['salt'] = $salt;\n");
        assert_eq!(with_variables(b"<?php\n$salt = f();\n", &["$salt"], "x").unwrap(), None);
    }
}
