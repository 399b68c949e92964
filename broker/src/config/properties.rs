//! Java properties, the format of Kafka's `server.properties`: what `java.util.Properties.load` takes, and no more.

/// One name and its value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Property {
    pub(super) name: String,
    pub(super) value: String,
}

/// Reads a file. The error says in which line what is wrong.
pub(super) fn parse(text: &str) -> Result<Vec<Property>, String> {
    let mut lines = text.lines().zip(1..);
    let mut properties = Vec::new();
    while let Some((line, number)) = lines.next() {
        let mut line = line.trim_start_matches(is_blank).to_owned();
        if line.is_empty() || line.starts_with(['#', '!']) {
            continue;
        }
        // A line that ends with a backslash of its own goes on in the next one.
        while ends_open(&line) {
            line.pop();
            let Some((next, _)) = lines.next() else { break };
            line.push_str(next.trim_start_matches(is_blank));
        }
        properties.push(property(&line).map_err(|why| format!("line {number}: {why}"))?);
    }
    Ok(properties)
}

/// `name=value`, `name: value` or `name value`.
fn property(line: &str) -> Result<Property, String> {
    let end = name_end(line).ok_or("expected name=value")?;
    let (name, rest) = line.split_at(end);
    let rest = rest.trim_start_matches(is_blank);
    let value = rest.strip_prefix(['=', ':']).unwrap_or(rest).trim_start_matches(is_blank);
    Ok(Property { name: unescape(name)?, value: unescape(value.trim_end_matches(is_blank))? })
}

/// Where the name ends: at the first sign between name and value that no backslash makes a part of it.
fn name_end(line: &str) -> Option<usize> {
    let mut escaped = false;
    line.char_indices().find_map(|(at, sign)| {
        let ends = !escaped && (is_blank(sign) || matches!(sign, '=' | ':'));
        escaped = sign == '\\' && !escaped;
        ends.then_some(at)
    })
}

fn unescape(text: &str) -> Result<String, String> {
    let mut plain = String::with_capacity(text.len());
    let mut signs = text.chars();
    while let Some(sign) = signs.next() {
        if sign != '\\' {
            plain.push(sign);
            continue;
        }
        match signs.next() {
            Some('t') => plain.push('\t'),
            Some('n') => plain.push('\n'),
            Some('r') => plain.push('\r'),
            Some('f') => plain.push('\u{c}'),
            Some('u') => {
                let digits: String = signs.by_ref().take(4).collect();
                let code = u32::from_str_radix(&digits, 16).ok().filter(|_| digits.len() == 4);
                let sign = code.and_then(char::from_u32);
                plain.push(sign.ok_or_else(|| format!("`\\u{digits}` is no character"))?);
            }
            Some(other) => plain.push(other),
            None => {}
        }
    }
    Ok(plain)
}

fn ends_open(line: &str) -> bool {
    let backslashes = line.bytes().rev().take_while(|byte| *byte == b'\\').count();
    backslashes % 2 == 1
}

fn is_blank(sign: char) -> bool {
    matches!(sign, ' ' | '\t' | '\u{c}')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: Result<&[(&str, &str)], &str>) {
        let got = parse(text).map(|all| all.into_iter().map(|one| (one.name, one.value)).collect::<Vec<_>>());
        let expected = expected.map(|all| all.iter().map(|(n, v)| ((*n).into(), (*v).into())).collect());
        assert_eq!(got, expected.map_err(Into::into), "{text:?}");
    }

    #[test]
    fn names_and_values_are_told_apart_as_java_does() {
        for text in ["a=b", "a:b", "a b", " a = b ", "a\t:\tb", "a  =b\r\n"] {
            check(text, Ok(&[("a", "b")]));
        }
        check("a==b", Ok(&[("a", "=b")]));
        check("a=b=c:d e", Ok(&[("a", "b=c:d e")]));
        check("a=", Ok(&[("a", "")]));
        check(r"a\=b\:c\ d=e", Ok(&[("a=b:c d", "e")]));
        check("# a=b\n\n  ! a=b \\\nc=d", Ok(&[("c", "d")]));
    }

    #[test]
    fn lines_go_on_after_a_backslash() {
        check("dirs=/a,\\\n   /b,\\\n/c\nx=y", Ok(&[("dirs", "/a,/b,/c"), ("x", "y")]));
        check("a=b\\\\\nc=d", Ok(&[("a", "b\\"), ("c", "d")]));
        check("a=\\\n#b", Ok(&[("a", "#b")]));
        check("a=b\\", Ok(&[("a", "b")]));
    }

    #[test]
    fn escapes_are_resolved_or_refused_with_their_line() {
        check(r"a=\u0041\t\q\\", Ok(&[("a", "A\tq\\")]));
        check("a=b\nc=\\\n1\nd=\\u00z1", Err(r"line 4: `\u00z1` is no character"));
        check(r"a=\u41", Err(r"line 1: `\u41` is no character"));
        check("a=b\nalone", Err("line 2: expected name=value"));
    }
}
