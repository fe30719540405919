use bytes::{BufMut, Bytes, BytesMut};
use flate2::Compression;
use flate2::write::ZlibEncoder;
use openwire_client::wire::{Message, MessageKind, encode_mutf8};
use proptest::prelude::*;
use std::io::Write;

use crate::selector::{EvaluationError, Redelivered, Selector, SelectorErrorKind};

fn text(document: &str) -> Message {
    let encoded = encode_mutf8(document);
    let mut content = BytesMut::new();
    content.put_i32(encoded.len() as i32);
    content.put_slice(&encoded);
    Message {
        kind: MessageKind::Text,
        content: Some(content.freeze()),
        ..Message::default()
    }
}

fn bytes(document: &[u8]) -> Message {
    Message {
        kind: MessageKind::Bytes,
        content: Some(Bytes::copy_from_slice(document)),
        ..Message::default()
    }
}

fn deflated(message: Message) -> Message {
    let content = message.content.unwrap();
    let mut out = Vec::new();
    if message.kind == MessageKind::Bytes {
        out.put_i32(content.len() as i32);
    }
    let mut encoder = ZlibEncoder::new(out, Compression::default());
    encoder.write_all(&content).unwrap();
    if message.kind == MessageKind::Bytes {
        encoder.write_all(b"padding").unwrap();
    }
    Message {
        content: Some(encoder.finish().unwrap().into()),
        compressed: true,
        ..message
    }
}

fn asked(xpath: &str, message: &Message) -> Result<bool, EvaluationError> {
    let selector = format!("XPATH '{}'", xpath.replace('\'', "''"));
    Selector::parse(&selector).unwrap().matches(message)
}

fn refused(xpath: &str) -> SelectorErrorKind {
    let selector = format!("XPATH '{}'", xpath.replace('\'', "''"));
    Selector::parse(&selector).unwrap_err().kind()
}

const ORDER: &str = "<?xml version='1.0'?><order id='7' xmlns:x='urn:x'><!-- rush -->\
    <item n='1'>pen</item><item n='2'>ink &amp; quill</item><x:note>é&#x1F600;</x:note><total>12.5</total></order>";

#[test]
fn an_expression_is_asked_of_the_body() {
    let message = text(ORDER);
    for (xpath, expected) in [
        ("/order", true),
        ("order", true),
        ("item", false),
        ("//item[@n = 2] = 'ink & quill'", true),
        ("/order/@id = 7 and count(//item) = 2", true),
        ("/order/total > 12", true),
        ("/order/total > 13", false),
        ("/order/item[last()]/@n - 1", true),
        ("count(/order/item) - 2", false),
        ("//note", false),
        ("//*[local-name() = 'note' and namespace-uri() = 'urn:x']", true),
        ("name(/order/*[3]) = 'x:note'", true),
        ("/order/item/following-sibling::total", true),
        ("//item/@n/following::total", true),
        ("//comment()", false),
        ("processing-instruction()", false),
        ("contains(., 'é\u{1F600}')", true),
        ("translate(//item, 'enp', 'ENP') = 'PEN'", true),
        ("//item/@n = /order/item[2]/@n", true),
        ("string-length(/order/namespace::x) = 5", true),
        // A number where nodes are wanted.
        ("count(1)", false),
    ] {
        assert_eq!(asked(xpath, &message), Ok(expected), "{xpath}");
    }
}

#[test]
fn it_is_one_condition_among_others() {
    let message = Message {
        priority: 4,
        ..text(ORDER)
    };
    let again = Redelivered {
        message: &message,
        count: 1,
    };
    let selector =
        "JMSPriority = 4 AND JMSRedelivered AND (xpath '//a' OR XPATH '//item') AND NOT XPATH '//b'";
    assert_eq!(Selector::parse(selector).unwrap().matches(&again), Ok(true));
}

#[test]
fn bytes_and_deflated_bodies_are_read() {
    for message in [
        bytes(ORDER.as_bytes()),
        bytes(format!("\u{FEFF}{ORDER}").as_bytes()),
        deflated(text(ORDER)),
        deflated(bytes(ORDER.as_bytes())),
    ] {
        assert_eq!(asked("//total = 12.5", &message), Ok(true), "{message:?}");
    }
}

#[test]
fn what_is_not_xml_is_not_selected() {
    let expanding = "<!DOCTYPE a [<!ENTITY e 'x'>]><a>&e;</a>";
    let external = "<!DOCTYPE a [<!ENTITY e SYSTEM 'file:///etc/hostname'>]><a>&e;</a>";
    for message in [
        text(""),
        text("order"),
        text("<order>"),
        text("<order>&unknown;</order>"),
        text(expanding),
        text(external),
        bytes(b"<order>\xFF</order>"),
        bytes(b""),
        Message::default(),
        Message {
            kind: MessageKind::Text,
            content: Some(Bytes::from_static(b"\0\0")),
            ..Message::default()
        },
        Message {
            content: Some(Bytes::from_static(b"\0\0\0\x09nothing")),
            compressed: true,
            ..bytes(b"")
        },
        Message {
            kind: MessageKind::Map,
            ..text(ORDER)
        },
    ] {
        assert_eq!(asked("true()", &message), Ok(false), "{message:?}");
        let negated = Selector::parse("NOT XPATH 'true()'").unwrap();
        assert_eq!(negated.matches(&message), Ok(true), "{message:?}");
    }
}

#[test]
fn what_could_never_be_evaluated_is_refused() {
    use SelectorErrorKind::*;
    for (xpath, expected) in [
        ("", Syntax),
        ("//", Syntax),
        ("//a[", Syntax),
        ("//a = 'b", Syntax),
        ("nope()", Unsupported),
        ("x:count(//a)", Unsupported),
        ("//x:a", Unsupported),
        ("//a[x:*]", Unsupported),
        ("$a", Unsupported),
        ("count()", Type),
        ("translate(., //a, '')", Unsupported),
    ] {
        assert_eq!(refused(xpath), expected, "{xpath}");
    }
}

#[test]
fn depth_and_length_are_bounded() {
    let small = std::thread::Builder::new().stack_size(512 * 1024);
    let test = || {
        let message = text("<a><a><a>1</a></a></a>");
        let nested = |open: &str, inner: &str, close: &str, depth: usize| {
            format!("{}{inner}{}", open.repeat(depth), close.repeat(depth))
        };
        for (open, inner, close) in [
            ("(", "1", ")"),
            ("a[", "1", "]"),
            ("not(", "1", ")"),
            ("-", "1", ""),
            ("1+", "1", ""),
            ("1or ", "1", ""),
            (".or ", ".", ""),
            ("1 div ", "1", ""),
            ("a|", "a", ""),
        ] {
            let hostile = nested(open, inner, close, 4000 / (open.len() + close.len()));
            assert_eq!(refused(&hostile), SelectorErrorKind::Limit, "{open}");
            // The deepest that is allowed fits the stack.
            let deepest = (1..=200).rev().find_map(|depth| {
                let xpath = nested(open, inner, close, depth);
                Selector::parse(&format!("XPATH '{xpath}'")).ok()
            });
            assert!(deepest.unwrap().matches(&message).is_ok(), "{open}");
        }
        assert_eq!(refused(&"a/".repeat(3000)), SelectorErrorKind::Limit);
    };
    small.spawn(test).unwrap().join().unwrap();
}

#[test]
fn hostile_documents_and_expressions_end() {
    let many = |count| format!("<a>{}</a>", "<b c='1'/>".repeat(count));
    let deep = |count| format!("{}{}", "<a>".repeat(count), "</a>".repeat(count));
    let attributes = |count: usize| {
        let attributes: Vec<String> = (0..count).map(|at| format!("b{at}='<'")).collect();
        format!("<a {}/>", attributes.join(" ").replace('<', "&lt;>"))
    };
    let namespaces: Vec<String> = (0..1000).map(|at| format!("<a xmlns:b{at}='c'>")).collect();
    for document in [
        many(20_000),
        deep(20_000),
        attributes(300),
        namespaces.concat(),
        format!("<a>{}</a>", "x".repeat(super::MAX_DOCUMENT)),
    ] {
        assert_eq!(asked("//b", &text(&document)), Err(EvaluationError::TooMuch));
        assert_eq!(
            asked("//b", &deflated(text(&document))),
            Err(EvaluationError::TooMuch)
        );
    }
    assert_eq!(asked("a/@b9", &text(&attributes(200))), Ok(true));
    let (many, deep) = (text(&many(4_000)), text(&deep(4_000)));
    for xpath in [
        "//*[//*[//*[//* = 2]]]",
        "count(//*/ancestor::*/descendant::*) = 1",
        "//*/preceding::*/following::*/preceding::* = 2",
        "//b[@c = //b[@c = //b/@d]/@c]",
        "//b[following-sibling::b[preceding-sibling::b = 2]]",
        "//*[string-length(/) = 1]/..//*/..//* = 2",
    ] {
        for message in [&many, &deep] {
            let result = asked(xpath, message);
            assert!(
                matches!(result, Ok(false) | Err(EvaluationError::TooMuch)),
                "{xpath}"
            );
        }
    }
    assert_eq!(asked("//b/@c = //b/@d", &many), Ok(false));
    assert_eq!(
        asked("count(//*/ancestor::*) = 1", &deep),
        Err(EvaluationError::TooMuch)
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn no_expression_and_no_document_panics(
        pieces in prop::collection::vec(prop::sample::select(vec![
            "a", "b", "@n", "/", "//", "*", ".", "..", "[", "]", "(", ")", "1", "'x'", "=", "<", " and ", " or ",
            " div ", "-", "|", "position()", "last()", "count(", "string(", "sum(", "::", "following", "preceding",
            "namespace::*", "ancestor::", "text()", "node()", "substring(", ",", "id(", "lang('e')", "name()",
        ]), 1..12),
        document in prop_oneof![Just(ORDER.to_owned()), "(<a n='1'>|</a>|x|<b/>|&lt;|<!--){0,12}"],
    ) {
        let selector = format!("XPATH '{}'", pieces.concat().replace('\'', "''"));
        if let Ok(selector) = Selector::parse(&selector) {
            let _ = selector.matches(&text(&document));
        }
    }
}
