use bytes::BytesMut;
use openwire_client::wire::{Message, Value, ValueMap, encode_map};
use proptest::prelude::*;

use super::*;

fn message(properties: impl IntoIterator<Item = (&'static str, Value)>) -> Message {
    let map: ValueMap = properties.into_iter().collect();
    let mut bytes = BytesMut::new();
    encode_map(&map, &mut bytes).unwrap();
    Message {
        marshalled_properties: Some(bytes.freeze()),
        ..Message::default()
    }
}

fn selects(selector: &str, message: &impl Properties) -> bool {
    Selector::parse(selector).unwrap().matches(message).unwrap()
}

fn refused(selector: &str) -> (SelectorErrorKind, usize, usize) {
    let error = Selector::parse(selector).unwrap_err();
    (error.kind(), error.line(), error.column())
}

#[test]
fn errors_tell_the_place() {
    use SelectorErrorKind::*;
    for (selector, expected) in [
        ("x = ", (Syntax, 1, 5)),
        ("x = 1\n AND é = 2", (Syntax, 2, 6)),
        ("x = 'é' y", (Syntax, 1, 9)),
        ("x = 'open", (Syntax, 1, 5)),
        ("x IN (1)", (Syntax, 1, 7)),
        ("a.b = 1", (Syntax, 1, 2)),
        ("y = 1 AND x > 'abc'", (Type, 1, 15)),
        ("x = NULL", (Type, 1, 5)),
        ("5", (Type, 1, 1)),
        ("NOPE(x)", (Type, 1, 1)),
        ("x LIKE 'a' ESCAPE 'ab'", (Type, 1, 19)),
        ("x = 9223372036854775808", (Number, 1, 5)),
        ("REGEX(y, x)", (Unsupported, 1, 7)),
        ("REGEX('(?=a)', x)", (Unsupported, 1, 7)),
        ("convert_string_expressions:x =", (Syntax, 1, 31)),
    ] {
        assert_eq!(refused(selector), expected, "{selector}");
    }
}

#[cfg(not(feature = "xpath"))]
#[test]
fn xpath_is_refused_with_what_it_needs() {
    assert_eq!(refused("XPATH '//a'"), (SelectorErrorKind::Unsupported, 1, 7));
    let error = Selector::parse("XPATH '//a'").unwrap_err();
    assert!(error.to_string().contains("cargo feature `xpath`"), "{error}");
}

/// What ActiveMQ gets wrong in one of the two orders.
#[test]
fn numbers_compare_in_either_order() {
    let message = message([
        ("byte", 5_i8.into()),
        ("short", 5_i16.into()),
        ("float", 1.5_f32.into()),
        ("double", 1.5_f64.into()),
        ("bool", true.into()),
    ]);
    for selector in [
        "5 = short",
        "short = byte",
        "5.0 = byte",
        "double = float",
        "1 < float",
        "1.25 < float",
        "NOT (5 <> short)",
        "convert_string_expressions:bool = 'TRUE'",
    ] {
        assert!(selects(selector, &message), "{selector}");
    }
}

#[test]
fn a_queue_counts_deliveries_beside_the_message() {
    let message = message([("x", 1.into())]);
    let again = Redelivered {
        message: &message,
        count: 2,
    };
    let selector = "x = 1 AND JMSRedelivered AND JMSXDeliveryCount = 3";
    assert!(selects(selector, &again));
    assert!(!selects(selector, &message));
}

#[test]
fn properties_that_cannot_be_read_select_nothing() {
    let message = Message {
        marshalled_properties: Some(bytes::Bytes::from_static(&[0, 0, 0, 9, 0])),
        priority: 4,
        ..Message::default()
    };
    let matches = |selector| Selector::parse(selector).unwrap().matches(&message);
    assert!(matches!(matches("x = 1"), Err(EvaluationError::Properties(_))));
    assert_eq!(matches("JMSPriority = 4"), Ok(true));
}

/// Runs with a stack as small as a thread may have: half of the usual 2 MiB.
fn on_a_small_stack(test: impl FnOnce() + Send + 'static) {
    let thread = std::thread::Builder::new().stack_size(1024 * 1024).spawn(test);
    thread.unwrap().join().unwrap();
}

#[test]
fn nesting_is_bounded_and_chains_are_not() {
    on_a_small_stack(|| {
        let nested = |open: &str, depth: usize, inner: &str, close: &str| {
            format!("{}{inner}{}", open.repeat(depth), close.repeat(depth))
        };
        for (open, inner, close) in [
            ("(", "x", ")"),
            ("(x = 1 OR ", "x = 5", ")"),
            ("NOT (x = 1 AND y OR ", "x = 5", ")"),
            ("NOT ", "x", ""),
            ("-", "x = 5", ""),
            ("1 - (", "x", ") = 0"),
            ("MAKELIST(", "x", ") = x"),
            ("x", "", " IS NULL"),
            ("x = ", "TRUE", ""),
            ("", "x", " LIKE 'a'"),
        ] {
            let deep = Selector::parse(&nested(open, 20_000 / (open.len() + close.len()), inner, close));
            let chain = deep.as_ref().err().map(SelectorError::kind);
            // A text that is no selector at any depth is refused for that.
            assert!(
                matches!(chain, Some(SelectorErrorKind::Limit | SelectorErrorKind::Syntax)),
                "{open}{close}: {chain:?}"
            );
            for depth in 0..120 {
                if let Ok(selector) = Selector::parse(&nested(open, depth, inner, close)) {
                    // Whatever comes out, it comes.
                    let _ = selector.matches(&message([("x", 5.into()), ("y", true.into())]));
                }
            }
        }
        assert!(Selector::parse(&nested("(", 45, "x", ")")).is_ok());
    });
    let message = message([("x", 5000.into())]);
    let chain = |item: &str, glue: &str| vec![item; 5000].join(glue);
    for selector in [
        format!("{} OR x = 5000", chain("x = 1", " OR ")),
        chain("x > 1", " AND "),
        format!("{} = x", chain("1", "+")),
        format!("x IN ({}) IS NULL", chain("'a'", ",")),
    ] {
        assert!(selects(&selector, &message));
    }
    let long = format!("x = '{}'", "a".repeat(Selector::MAX_LENGTH));
    assert_eq!(refused(&long).0, SelectorErrorKind::Limit);
}

/// Pieces of selectors, so that random texts get beyond the first word.
fn pieces() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        Just("x".to_owned()),
        "[a-z]{1,3}",
        "[0-9.eExXL]{1,5}",
        "'[a%_']{0,3}'?",
        Just("JMSMessageID".to_owned()),
        prop::sample::select(vec![
            "NOT",
            "AND",
            "OR",
            "BETWEEN",
            "LIKE",
            "ESCAPE",
            "IN",
            "IS",
            "NULL",
            "TRUE",
            "XQUERY",
            "(",
            ")",
            ",",
            "=",
            "<>",
            "<",
            ">=",
            "+",
            "-",
            "*",
            "/",
            "%",
            "--",
            "/*",
            "*/",
            "\n",
            "REGEX(",
            "SPLIT(",
            "INLIST(",
            "REPLACE(",
            "MAKELIST(",
        ])
        .prop_map(str::to_owned),
        any::<String>(),
    ];
    let glue = prop::sample::select(vec!["", " "]);
    prop::collection::vec((piece, glue), 0..20).prop_map(|pieces| {
        pieces
            .into_iter()
            .flat_map(|(piece, glue)| [piece, glue.to_owned()])
            .collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn no_text_panics(text in pieces(), convert in any::<bool>(), x in prop_oneof![
        Just(Value::Int(5)), any::<f64>().prop_map(Value::from), any::<String>().prop_map(Value::from),
    ]) {
        let prefix = if convert { CONVERT_PREFIX } else { "" };
        match Selector::parse(&format!("{prefix}{text}")) {
            Ok(selector) => {
                let shown = selector.to_string();
                let again = Selector::parse(&shown).unwrap();
                let message = message([("x", x)]);
                prop_assert_eq!(again.matches(&message), selector.matches(&message));
            }
            Err(error) => prop_assert!(error.line() > 0 && error.column() > 0),
        }
    }
}
