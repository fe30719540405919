use super::*;

#[test]
fn the_options_behind_the_parentheses_are_the_outer_ones() {
    for text in [
        "failover://(tcp://a:1,tcp://b:2)?randomize=false",
        "failover:(tcp://a:1,tcp://b:2)?randomize=false",
        "failover: ( tcp://a:1 , tcp://b:2 ) ? randomize = false ",
    ] {
        let uri = Uri::parse(text).unwrap();
        assert_eq!(texts(&uri), ["tcp://a:1", "tcp://b:2"]);
        assert_eq!(options(&uri.query), [("randomize", Some("false"))]);
    }
}

#[test]
fn without_parentheses_everything_belongs_to_the_list() {
    let uri = Uri::parse("failover:tcp://a:1,tcp://b:1?randomize=false").unwrap();
    assert_eq!(texts(&uri), ["tcp://a:1", "tcp://b:1?randomize=false"]);
    assert!(uri.query.is_empty());
}

#[test]
fn lists_nest_and_have_a_tail() {
    let uri = Uri::parse("failover:(static:(tcp://a:1,tcp://b:2)?q=1,tcp://c:3)/path?x=%20+y&z#end").unwrap();
    assert_eq!(texts(&uri), ["static:(tcp://a:1,tcp://b:2)?q=1", "tcp://c:3"]);
    assert_eq!(uri.path, "path");
    assert_eq!(options(&uri.query), [("x", Some("  y")), ("z", None)]);
    assert_eq!(uri.fragment.as_deref(), Some("end"));
    let Body::List(list) = &uri.body else { panic!() };
    assert_eq!(texts(&list[0]), ["tcp://a:1", "tcp://b:2"]);
    assert_eq!(options(&list[0].query), [("q", Some("1"))]);
}

#[test]
fn only_the_last_uri_of_a_list_may_be_empty() {
    assert_eq!(
        texts(&Uri::parse("failover:(tcp://a:1,)").unwrap()),
        ["tcp://a:1"]
    );
    assert!(texts(&Uri::parse("failover:()").unwrap()).is_empty());
    assert!(texts(&Uri::parse("failover:").unwrap()).is_empty());
    refused_at("failover:(,tcp://a:1)", 10, "an empty URI");
    refused_at("failover:(tcp://a:1,,tcp://b:1)", 20, "an empty URI");
}

#[test]
fn blanks_are_dropped_except_within_options() {
    let uri = Uri::parse("static:(tcp:// 0.0.0.0 : 61617,\n\ttcp://\u{a0}b:2)").unwrap();
    assert_eq!(texts(&uri), ["tcp://0.0.0.0:61617", "tcp://b:2"]);
    refused_at("tcp://h:1?jms.clientID=my client", 25, "%20");
    refused_at("tcp://h:1?use Async=true", 13, "%20");
}

#[test]
fn parentheses_must_match() {
    refused_at("failover:(tcp://a:1", 9, "no ) for this (");
    refused_at("failover:((tcp://a:1),tcp://b:1)", 10, "no scheme before the (");
    refused_at("failover:(tcp://a:1))", 20, "no ( for this )");
    refused_at("failover:tcp://a:1)", 18, "no ( for this )");
    refused_at("failover:tcp://a:1,static:(tcp://b:1", 26, "no ) for this (");
    refused_at("failover:(tcp://a:1)x?y=1", 20, "behind the )");
}

#[test]
fn nesting_and_length_are_bounded() {
    let nest = |depth| format!("{}tcp://a:1{}", "failover:(".repeat(depth), ")".repeat(depth));
    assert!(Uri::parse(&nest(7)).is_ok());
    refused_at(&nest(8), 80, "nested more than 8");
    assert!(refused(&nest(5000)).contains("nested"));
    let long = format!("failover:({})", "tcp://a:1,".repeat(10_000));
    assert!(refused(&long).contains("longer than 65536"));
}

#[test]
fn authorities_are_hosts_and_ports() {
    let authority = |text| match Uri::parse(text).unwrap().body {
        Body::Authority(Authority { host, port, .. }) => (host, port),
        other => panic!("{other:?}"),
    };
    assert_eq!(authority("tcp://h:1/local:0?x=1"), ("h".into(), Some(1)));
    assert_eq!(authority("TCP://h"), ("h".into(), None));
    assert_eq!(authority("tcp://[::1]:61616"), ("::1".into(), Some(61616)));
    assert_eq!(authority("tcp://[fe80::1%eth0]"), ("fe80::1%eth0".into(), None));
    assert_eq!(authority("vm://my_broker-1.x"), ("my_broker-1.x".into(), None));
    assert_eq!(authority("tcp://*:0"), ("*".into(), Some(0)));
    refused_at("tcp://h:65536", 8, "port");
    refused_at("tcp://h:", 8, "port");
    refused_at("tcp://h:+1", 8, "port");
    refused_at("tcp://h:1:2", 8, "port");
    refused_at("tcp://[::1", 6, "no ]");
    refused_at("tcp://[::1]x", 6, "behind the ]");
    refused_at("tcp://a b%20c:1", 6, "host name");
}

#[test]
fn what_is_no_uri_is_refused_with_its_place() {
    refused_at("", 0, "empty");
    refused_at("   ", 3, "empty");
    refused_at("localhost", 0, "no scheme");
    refused_at("://h:1", 0, "not a scheme");
    refused_at("1tcp://h:1", 0, "not a scheme");
    refused_at("tcp://h:1?a=%4", 12, "hexadecimal");
    refused_at("tcp://h:1?a=%+1", 12, "hexadecimal");
    refused_at("tcp://h:1?a=%ff", 12, "UTF-8");
    refused_at("tcp://h:1?=1", 10, "no name");
    refused_at("tcp://h:1?a=b?c=d", 13, "%3F");
}

#[test]
fn the_last_of_equal_options_counts_and_empty_ones_are_dropped() {
    let mut query = Uri::parse("tcp://h:1?a=1&&b=2&a=3&A=4&").unwrap().query;
    let mut a = 0_u32;
    query.read("a", &mut a).unwrap();
    assert_eq!(a, 4);
    assert_eq!(options(&query), [("b", Some("2"))]);
}

#[test]
fn a_query_gives_what_is_asked_and_reports_the_rest() {
    let mut query = Uri::parse("tcp://h:1?One=1&p.q.x=2&Three=3&four").unwrap().query;
    assert_eq!(query.take("one").unwrap().parse_as::<u8>().unwrap(), 1);
    assert!(query.take("One").is_none());
    let mut inner = query.take_prefix("p.").take_prefix("q.");
    assert_eq!(inner.take("x").unwrap().value(), Some("2"));
    assert!(inner.finish("p").is_ok());
    let four = query.take("four").unwrap();
    assert!(four.parse_as::<String>().unwrap_err().is_uri());
    assert!(query.take("tHREE").is_none());
    let error = query.finish("tcp:").unwrap_err().to_string();
    assert!(
        error.contains("Three") && error.contains("did you mean tHREE"),
        "{error}"
    );
}

#[test]
fn a_list_of_uris_is_split_as_within_a_composite() {
    let list = Uri::parse_list("tcp://a:1, failover:(tcp://b:1,tcp://c:1),nonsense,").unwrap();
    let texts: Vec<_> = list
        .iter()
        .map(|uri| uri.as_ref().map(Uri::text).map_err(|error| error.is_uri()))
        .collect();
    assert_eq!(
        texts,
        [Ok("tcp://a:1"), Ok("failover:(tcp://b:1,tcp://c:1)"), Err(true)]
    );
    assert!(Uri::parse_list("tcp://a:1)").is_err());
}
