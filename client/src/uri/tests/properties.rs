use super::*;

/// Pieces of URIs, so that what is put together gets far.
fn pieces() -> impl Strategy<Value = String> {
    let piece = prop::sample::select(vec![
        "failover:",
        "static:",
        "masterslave:",
        "discovery:",
        "fanout:",
        "multicast:",
        "vm:",
        "tcp:",
        "ssl:",
        "//",
        "(",
        ")",
        ",",
        "?",
        "&",
        "=",
        "/",
        "#",
        "@",
        "%",
        "%2",
        "%20",
        "+",
        " ",
        "[",
        "]",
        ":",
        "a",
        "1",
        "é",
        "default",
        "nested.",
        "jms.",
        "wireFormat.",
        "socket.",
        "soTimeout",
        "maxReconnectAttempts",
        "password",
        "randomize",
        "true",
        "prefetchPolicy.all",
        "\0",
        "tcp://a:1",
        "multicast://default",
    ]);
    prop::collection::vec(piece, 0..40).prop_map(|pieces| pieces.concat())
}

fn endpoint() -> impl Strategy<Value = String> {
    (
        prop::sample::select(vec!["tcp", "nio", "auto", "vm"]),
        "[a-z][a-z0-9_.-]{0,8}",
        any::<u16>(),
        prop::collection::vec(
            prop::sample::select(vec![
                "wireFormat.maxInactivityDuration=0",
                "useKeepAlive=false",
                "wireFormat.host=%C3%A9",
            ]),
            0..3,
        ),
    )
        .prop_map(|(scheme, host, port, options)| {
            let port = match (scheme, port) {
                ("vm", _) | (_, 0) => String::new(),
                (_, port) => format!(":{port}"),
            };
            let query = if options.is_empty() { "" } else { "?" };
            format!("{scheme}://{host}{port}{query}{}", options.join("&"))
        })
}

fn client_uri() -> impl Strategy<Value = String> {
    let list = (
        prop::sample::select(vec![
            "failover:(",
            "failover://( ",
            "masterslave:(",
            "static:(",
            "discovery:(static:(",
        ]),
        prop::collection::vec(endpoint(), 2..5),
        prop::sample::select(vec![
            "",
            "?randomize=false",
            "?jms.prefetchPolicy.all=5&jms.clientID=a%20b&maxReconnectDelay=77",
            "?nested.useInactivityMonitor=false",
        ]),
    )
        .prop_map(|(head, list, tail)| {
            let close = if head.starts_with("discovery") { "))" } else { ")" };
            format!("{head}{}{close}{tail}", list.join(", "))
        });
    prop_oneof![endpoint(), list]
}

proptest! {
    #[test]
    fn no_text_panics(text in prop_oneof![".*", pieces()]) {
        let _ = ClientUri::parse(&text);
        let _ = Agent::parse(&text);
        let _ = FailoverOptions::default().learn_list(&text);
    }

    #[test]
    fn the_text_of_a_uri_parses_to_the_same(text in client_uri()) {
        let uri = parse(&text);
        prop_assert_eq!(&parse(&uri.to_string()), &uri);
    }
}

#[test]
fn the_worst_texts_are_parsed_in_a_moment() {
    let long = |piece: &str| piece.repeat(65_000 / piece.len());
    let started = std::time::Instant::now();
    for text in [
        format!("failover:({})", long("tcp://a,")),
        format!("failover:{}", long("(")),
        format!("tcp://h:1?{}", long("a&")),
        format!("tcp://h:1?{}", long("?password=")),
        long("//"),
        long("//@"),
        format!(
            "failover:({})?{}",
            "tcp://a,".repeat(4000),
            "nested.soTimeout=1&".repeat(1500)
        ),
        format!(
            "failover:({})?priorityURIs={}",
            "tcp://a,".repeat(4000),
            "tcp://a,".repeat(4000)
        ),
    ] {
        let _ = ClientUri::parse(&text);
    }
    // Linear, all of it takes some hundred milliseconds without optimisation; quadratic, minutes.
    assert!(started.elapsed() < Duration::from_secs(20));
}
