//! What an XPath expression may be: bounded, and made of what can be evaluated.

use xpath_eval::{Expr, FilterExpr, LocationPath, NodeTest, PathExpr, PrimaryExpr, QName};

use crate::selector::SelectorErrorKind;

type Checked = Result<(), (SelectorErrorKind, String)>;

/// The longest expression, in bytes.
const MAX_LENGTH: usize = 4096;
/// How deep parentheses and brackets may nest. Each is a dozen stack frames.
const MAX_NESTING: usize = 16;
/// The most operators, hyphens in names among them. Each may be a few stack frames.
const MAX_OPERATORS: usize = 64;
/// The most characters that `translate` looks for: it looks at all of them for each of the text.
const MAX_TRANSLATED: usize = 128;

/// The functions of XPath 1.0, with the fewest and the most arguments.
const FUNCTIONS: [(&str, usize, usize); 27] = [
    ("boolean", 1, 1),
    ("ceiling", 1, 1),
    ("concat", 2, usize::MAX),
    ("contains", 2, 2),
    ("count", 1, 1),
    ("false", 0, 0),
    ("floor", 1, 1),
    ("id", 1, 1),
    ("lang", 1, 1),
    ("last", 0, 0),
    ("local-name", 0, 1),
    ("name", 0, 1),
    ("namespace-uri", 0, 1),
    ("normalize-space", 0, 1),
    ("not", 1, 1),
    ("number", 0, 1),
    ("position", 0, 0),
    ("round", 1, 1),
    ("starts-with", 2, 2),
    ("string", 0, 1),
    ("string-length", 0, 1),
    ("substring", 2, 3),
    ("substring-after", 2, 2),
    ("substring-before", 2, 2),
    ("sum", 1, 1),
    ("translate", 3, 3),
    ("true", 0, 0),
];

/// Bounds the text before it is parsed: parsing, evaluating and dropping it take stack for each level.
pub(super) fn size(text: &str) -> Checked {
    let limit = |reason: String| Err((SelectorErrorKind::Limit, reason));
    if text.len() > MAX_LENGTH {
        return limit(format!("an XPath has at most {MAX_LENGTH} bytes"));
    }
    let (mut depth, mut operators) = (0_usize, 0);
    let mut rest = text;
    loop {
        let (code, literal) = rest.split_at(rest.find(['"', '\'']).unwrap_or(rest.len()));
        for byte in code.bytes() {
            match byte {
                b'(' | b'[' => depth += 1,
                b')' | b']' => depth = depth.saturating_sub(1),
                b'+' | b'-' | b'*' | b'=' | b'<' | b'>' | b'|' => operators += 1,
                _ => {}
            }
            if depth > MAX_NESTING {
                return limit(format!("an XPath nests at most {MAX_NESTING} levels deep"));
            }
        }
        let words = code.split(|c: char| !c.is_alphanumeric() && !matches!(c, '_' | '-' | '.'));
        operators += words
            .map(|word| word.trim_start_matches(|c: char| c == '.' || c.is_ascii_digit()))
            .filter(|word| matches!(*word, "or" | "and" | "div" | "mod"))
            .count();
        if operators > MAX_OPERATORS {
            return limit(format!("an XPath has at most {MAX_OPERATORS} operators"));
        }
        let Some(quote) = literal.chars().next() else {
            return Ok(());
        };
        match literal[1..].split_once(quote) {
            Some((_, after)) => rest = after,
            // The parser says what is wrong.
            None => return Ok(()),
        }
    }
}

/// Refuses what would fail for each message: names that nobody declares, functions that nobody knows.
pub(super) fn expression(expression: &Expr) -> Checked {
    match expression {
        Expr::Or(left, right)
        | Expr::And(left, right)
        | Expr::Equality(left, _, right)
        | Expr::Relational(left, _, right)
        | Expr::Additive(left, _, right)
        | Expr::Multiplicative(left, _, right)
        | Expr::Union(left, right) => {
            self::expression(left)?;
            self::expression(right)
        }
        Expr::Negate(operand) => self::expression(operand),
        Expr::Path(PathExpr::Location(path)) => location(path),
        Expr::Path(PathExpr::Filter(filter)) => self::filter(filter),
        Expr::Path(PathExpr::FilterLocation(filter, path)) => {
            self::filter(filter)?;
            location(path)
        }
    }
}

fn location(path: &LocationPath) -> Checked {
    for step in &path.steps {
        match &step.node_test {
            NodeTest::NamespaceWildcard(prefix)
            | NodeTest::QName(QName {
                prefix: Some(prefix), ..
            }) => {
                return unsupported(format!(
                    "no namespace is declared for the prefix `{prefix}`; ask for local-name() and namespace-uri()"
                ));
            }
            _ => {}
        }
        step.predicates.iter().try_for_each(expression)?;
    }
    Ok(())
}

fn filter(filter: &FilterExpr) -> Checked {
    match &filter.primary {
        PrimaryExpr::Variable(name) => {
            return unsupported(format!("there is no variable `{}`", name.local));
        }
        PrimaryExpr::Parenthesized(inner) => expression(inner)?,
        PrimaryExpr::Literal(_) | PrimaryExpr::Number(_) => {}
        PrimaryExpr::Function(call) => function(&call.name, &call.args)?,
    }
    filter.predicates.iter().try_for_each(expression)
}

fn function(name: &QName, arguments: &[Expr]) -> Checked {
    let known = FUNCTIONS.iter().find(|(known, ..)| *known == name.local);
    let Some((_, fewest, most)) = known.filter(|_| name.prefix.is_none()) else {
        return unsupported(format!("XPath 1.0 has no function `{}`", name.local));
    };
    if !(*fewest..=*most).contains(&arguments.len()) {
        return Err((
            SelectorErrorKind::Type,
            format!("`{}` does not take {} arguments", name.local, arguments.len()),
        ));
    }
    if name.local == "translate" && !is_short_literal(&arguments[1]) {
        return unsupported(format!(
            "what `translate` replaces must be a literal of at most {MAX_TRANSLATED} characters"
        ));
    }
    arguments.iter().try_for_each(expression)
}

fn is_short_literal(argument: &Expr) -> bool {
    match argument {
        Expr::Path(PathExpr::Filter(FilterExpr {
            primary: PrimaryExpr::Literal(text),
            predicates,
        })) => predicates.is_empty() && text.chars().count() <= MAX_TRANSLATED,
        _ => false,
    }
}

fn unsupported(reason: String) -> Checked {
    Err((SelectorErrorKind::Unsupported, reason))
}
