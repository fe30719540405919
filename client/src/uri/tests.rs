use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::wire::WireFormatOptions;

const fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

fn parse(text: &str) -> ClientUri {
    ClientUri::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"))
}

/// The error for a URI that must not parse.
fn refused(text: &str) -> String {
    match ClientUri::parse(text) {
        Ok(uri) => panic!("{text} gave {uri:?}"),
        Err(error) => {
            assert!(error.is_uri(), "{error}");
            error.to_string()
        }
    }
}

/// Asserts that `text` is refused at byte `at` with an error that has `what` in it.
fn refused_at(text: &str, at: usize, what: &str) {
    let error = refused(text);
    assert!(
        error.contains(&format!("(byte {at} of")) && error.contains(what),
        "{text}: {error}"
    );
}

fn single(text: &str) -> Endpoint {
    match parse(text).transport {
        TransportUri::Single(endpoint) => endpoint,
        other => panic!("{text} gave {other:?}"),
    }
}

fn failover(text: &str) -> FailoverUri {
    match parse(text).transport {
        TransportUri::Failover(uri) => uri,
        other => panic!("{text} gave {other:?}"),
    }
}

fn discovery(text: &str) -> DiscoveryUri {
    match parse(text).transport {
        TransportUri::Discovery(uri) => uri,
        other => panic!("{text} gave {other:?}"),
    }
}

fn addresses(endpoints: &[Endpoint]) -> Vec<String> {
    endpoints.iter().map(Endpoint::to_string).collect()
}

fn texts(uri: &Uri) -> Vec<&str> {
    match &uri.body {
        Body::List(list) => list.iter().map(Uri::text).collect(),
        _ => panic!("{uri:?} has no list"),
    }
}

fn options(query: &Query) -> Vec<(&str, Option<&str>)> {
    query
        .iter()
        .map(|option| (option.name(), option.value()))
        .collect()
}

mod grammar {
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
        let uri =
            Uri::parse("failover:(static:(tcp://a:1,tcp://b:2)?q=1,tcp://c:3)/path?x=%20+y&z#end").unwrap();
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
}

mod endpoint {
    use super::*;

    #[test]
    fn a_plain_uri_has_the_documented_defaults() {
        let endpoint = single("tcp://h");
        let mut expected = Endpoint::new(Scheme::Tcp, "h", 61616);
        expected.wire_format.host = Some("h".into());
        assert_eq!(
            (endpoint.port, &endpoint.socket),
            (61616, &SocketOptions::default())
        );
        assert_eq!(endpoint.wire_format, expected.wire_format);
        assert_eq!(endpoint.wire_format.max_inactivity_duration, 30_000);
        assert!(endpoint.use_inactivity_monitor && endpoint.use_keep_alive);
        assert!(!endpoint.keep_alive_response_required && !endpoint.ignore_remote_wire_format);
        assert_eq!(endpoint.to_string(), "tcp://h");
        assert_eq!(Endpoint::parse("tcp://h:61616").unwrap(), {
            let mut endpoint = expected;
            endpoint.wire_format.host = None;
            endpoint
        });
    }

    #[test]
    fn the_aliases_are_tcp_and_ssl() {
        for scheme in ["tcp", "nio", "auto", "auto+nio", "NIO"] {
            assert_eq!(single(&format!("{scheme}://h:1")).scheme, Scheme::Tcp);
        }
        for scheme in ["ssl", "nio+ssl", "auto+ssl", "auto+nio+ssl"] {
            let text = format!("{scheme}://h");
            if cfg!(feature = "tls") {
                let endpoint = single(&text);
                assert_eq!((endpoint.scheme, endpoint.port), (Scheme::Ssl, 61617));
            } else {
                assert!(ClientUri::parse(&text).unwrap_err().is_unsupported());
            }
        }
    }

    #[test]
    fn socket_options_are_read() {
        let endpoint = single(
            "tcp://h:1/[::1]:7?connectionTimeout=1500&soTimeout=1000&soWriteTimeout=2000\
             &socketBufferSize=4096&socket.receiveBufferSize=8192&ioBufferSize=2048&tcpNoDelay=false\
             &socket.keepAlive=true&soLinger=0&diffServ=AF21&minmumWireFormatVersion=9\
             &useInactivityMonitor=false&useKeepAlive=false&keepAliveResponseRequired=true\
             &ignoreRemoteWireFormat=TRUE",
        );
        assert_eq!(
            endpoint.socket,
            SocketOptions {
                connection_timeout: Some(ms(1500)),
                so_timeout: Some(ms(1000)),
                so_write_timeout: Some(ms(2000)),
                send_buffer_size: Some(4096),
                receive_buffer_size: Some(8192),
                io_buffer_size: 2048,
                tcp_no_delay: Some(false),
                keep_alive: Some(true),
                zero_linger: true,
                traffic_class: Some(18 << 2),
            }
        );
        assert_eq!(
            endpoint.local_bind,
            Some(LocalBind {
                host: "::1".into(),
                port: 7
            })
        );
        assert_eq!(endpoint.minimum_wire_format_version, 9);
        assert!(!endpoint.use_inactivity_monitor && !endpoint.use_keep_alive);
        assert!(endpoint.keep_alive_response_required && endpoint.ignore_remote_wire_format);
        assert_eq!(
            single("tcp://h:1?connectionTimeout=0").socket.connection_timeout,
            None
        );
    }

    #[test]
    fn code_points_of_differentiated_services_have_names() {
        for (name, point) in [
            ("EF", 46),
            ("CS0", 0),
            ("CS7", 56),
            ("AF11", 10),
            ("AF23", 22),
            ("AF43", 38),
            ("63", 63),
        ] {
            let class = single(&format!("tcp://h:1?diffServ={name}")).socket.traffic_class;
            assert_eq!(class, Some(point << 2), "{name}");
        }
        refused_at("tcp://h:1?diffServ=64", 10, "diffServ");
        refused_at("tcp://h:1?diffServ=AF14", 10, "diffServ");
        refused_at("tcp://h:1?diffServ=EF&typeOfService=8", 10, "typeOfService");
        refused_at("tcp://h:1?typeOfService=256", 10, "from 0 to 255");
    }

    #[test]
    fn wire_format_options_are_read() {
        let endpoint = single(
            "tcp://h:1?wireFormat.version=9&wireFormat.tightEncodingEnabled=false&wireFormat.cacheEnabled=false\
             &wireFormat.cacheSize=0&wireFormat.stackTraceEnabled=false&wireFormat.tcpNoDelayEnabled=false\
             &wireFormat.maxInactivityDuration=-1&wireFormat.maxInactivityDurationInitalDelay=5\
             &wireFormat.maxFrameSize=9223372036854775807&wireFormat.host=other\
             &wireFormat.maxFrameSizeEnabled=false&wireFormat.sizePrefixDisabled=true\
             &wireFormat.includePlatformDetails=true",
        );
        assert_eq!(
            endpoint.wire_format,
            WireFormatOptions {
                version: 9,
                tight_encoding_enabled: false,
                cache_enabled: false,
                cache_size: 0,
                size_prefix_disabled: true,
                stack_trace_enabled: false,
                tcp_no_delay_enabled: false,
                max_inactivity_duration: 0,
                max_inactivity_duration_initial_delay: 5,
                max_frame_size: i64::MAX,
                max_frame_size_enabled: false,
                host: Some("other".into()),
                include_platform_details: true,
            }
        );
        for bad in [
            "version=13",
            "version=0",
            "cacheSize=99",
            "maxFrameSize=0",
            "bogus=1",
            "providerName=x",
        ] {
            refused_at(&format!("tcp://h:1?wireFormat.{bad}"), 10, "wireFormat.");
        }
    }

    #[test]
    fn what_cannot_be_honoured_is_refused_with_the_reason() {
        for (option, why) in [
            ("daemon=true", "Java's threads"),
            ("stackSize=1", "Java's threads"),
            ("trace=true", "tracing"),
            ("jmxPort=1", "tracing"),
            ("transport.soTimeout=1", "connectors of brokers"),
            ("maximumConnections=1", "connectors of brokers"),
            ("useLocalHost=true", "localhost"),
            ("nested.soTimeout=1", "as a whole"),
            ("verifyHostName=false", "ssl:"),
        ] {
            let error = refused(&format!("tcp://h:1?{option}"));
            assert!(
                error.contains("known to ActiveMQ") && error.contains(why),
                "{error}"
            );
        }
    }

    #[test]
    fn wrong_options_and_values_are_refused_with_their_name() {
        for option in [
            "bogus=1",
            "socket.bogus=1",
            "soTimeout=soon",
            "soTimeout=-1",
            "soTimeout",
            "tcpNoDelay=yes",
            "soLinger=5",
            "socketBufferSize=0",
            "ioBufferSize=1",
            "jms.nope=1",
            "jms.nope=1&jms.useAsyncSend=true",
        ] {
            let name = option.split(['=', '&']).next().unwrap();
            refused_at(&format!("tcp://h:1?{option}"), 10, &format!("option {name} "));
        }
        assert!(refused("tcp://h:1?sotimeout=1").contains("did you mean soTimeout"));
    }

    #[test]
    fn addresses_that_cannot_be_are_refused() {
        refused_at("tcp://:1", 0, "no host");
        refused_at("tcp:h:1", 0, "no host");
        refused_at("tcp://h:0", 0, "port 0");
        refused_at("tcp://h:1#x", 0, "#fragment");
        refused_at("tcp://h:1/x", 0, "local address");
        refused_at("tcp://me:secret@h:1", 6, "jms.userName");
        assert!(!refused("tcp://me:secret@h:1").contains("secret"));
        for scheme in [
            "http",
            "udp",
            "ws",
            "stomp",
            "peer",
            "multicast",
            "reliable",
            "xmpp",
        ] {
            refused_at(&format!("{scheme}://h:1"), 0, &format!("{scheme}: "));
        }
    }

    #[test]
    fn vm_has_a_name_and_two_options_of_its_own() {
        let endpoint = single("vm://localhost?create=false&waitForStart=2000&wireFormat.cacheEnabled=false");
        assert_eq!((endpoint.scheme, endpoint.port), (Scheme::Vm, 0));
        assert_eq!(
            (endpoint.create, endpoint.wait_for_start),
            (false, Some(ms(2000)))
        );
        assert!(!endpoint.use_inactivity_monitor && !endpoint.wire_format.cache_enabled);
        assert_eq!(endpoint.wire_format.host, None);
        assert_eq!(single("vm://b?waitForStart=-1").wait_for_start, None);
        for (text, what) in [
            ("vm://b?broker.persistent=false", "up to the application"),
            ("vm://b?brokerConfig=xbean:x.xml", "up to the application"),
            ("vm://b?marshal=false", "as frames"),
            ("vm://b?asyncQueueDepth=1", "pipe"),
            ("vm://b?soTimeout=1", "not an option of vm:"),
            ("vm://b:1", "no port"),
            ("vm://b/x", "no path"),
            ("vm:(broker:(tcp://localhost:1)/name)", "started by the client"),
        ] {
            assert!(refused(text).contains(what), "{}", refused(text));
        }
    }

    #[cfg(feature = "tls")]
    #[test]
    fn tls_options_are_read() {
        let endpoint = single(
            "ssl://h?verifyHostName=false&socket.enabledProtocols=TLSv1.2,TLSv1.3\
             &socket.enabledCipherSuites=TLS_AES_128_GCM_SHA256",
        );
        assert_eq!(
            endpoint.tls,
            EndpointTls {
                verify_host_name: false,
                enabled_protocols: vec![TlsVersion::Tls12, TlsVersion::Tls13],
                enabled_cipher_suites: vec!["TLS_AES_128_GCM_SHA256".into()],
            }
        );
        assert!(!single("ssl://h?socket.verifyHostName=false").tls.verify_host_name);
        refused_at("ssl://h?socket.enabledProtocols=SSLv3", 8, "SSLv3");
    }
}

mod composite {
    use super::*;

    #[test]
    fn failover_has_the_documented_defaults() {
        let uri = failover(DEFAULT_BROKER_URL);
        assert_eq!(uri.options, FailoverOptions::default());
        assert_eq!(addresses(&uri.endpoints), ["tcp://localhost:61616"]);
        let options = uri.options;
        assert_eq!(options.initial_reconnect_delay, ms(10));
        assert_eq!(options.max_reconnect_delay, ms(30_000));
        assert!((options.reconnect_delay_exponent - 2.0).abs() < f64::EPSILON);
        assert_eq!(options.max_reconnect_attempts, None);
        assert_eq!(options.connect_timeout, Some(ms(30_000)));
        assert!(options.randomize && options.jitter && options.use_exponential_back_off);
    }

    #[test]
    fn failover_options_are_read() {
        let options = failover(
            "failover:(tcp://a:1)?initialReconnectDelay=1&maxReconnectDelay=2&reconnectDelay=3\
             &useExponentialBackOff=false&reconnectDelayExponent=1.5&maxReconnectAttempts=4\
             &startupMaxReconnectAttempts=5&warnAfterReconnectAttempts=0&timeout=3000&Randomize=false&backup=true\
             &backupPoolSize=2&priorityBackup=true&priorityURIs=tcp://a:1,tcp://b:2&trackMessages=true\
             &maxCacheSize=6&trackTransactionProducers=false&reconnectSupported=false\
             &updateURIsSupported=false&updateURIsURL=file:///etc/brokers&rebalanceUpdateURIs=false\
             &jitter=false&stablePeriod=7&connectTimeout=infinite",
        )
        .options;
        assert_eq!(
            FailoverOptions {
                priority_uris: Vec::new(),
                ..options.clone()
            },
            FailoverOptions {
                initial_reconnect_delay: ms(1),
                max_reconnect_delay: ms(2),
                reconnect_delay: Some(ms(3)),
                use_exponential_back_off: false,
                reconnect_delay_exponent: 1.5,
                jitter: false,
                stable_period: ms(7),
                connect_timeout: None,
                max_reconnect_attempts: Some(4),
                startup_max_reconnect_attempts: Some(5),
                warn_after_reconnect_attempts: None,
                timeout: Some(ms(3000)),
                randomize: false,
                backup: true,
                backup_pool_size: 2,
                priority_backup: true,
                priority_uris: Vec::new(),
                track_messages: true,
                max_cache_size: 6,
                track_transaction_producers: false,
                reconnect_supported: false,
                update_uris_supported: false,
                update_uris_file: Some("/etc/brokers".into()),
                rebalance_update_uris: false,
                ..FailoverOptions::default()
            }
        );
        assert_eq!(addresses(&options.priority_uris), ["tcp://a:1", "tcp://b:2"]);
    }

    #[test]
    fn minus_one_is_no_end_and_the_documented_name_of_the_exponent_counts() {
        let options = failover(
            "failover:(tcp://a:1)?maxReconnectAttempts=-1&startupMaxReconnectAttempts=-1&timeout=-1\
             &warnAfterReconnectAttempts=-1&backOffMultiplier=3",
        )
        .options;
        assert_eq!(
            options,
            FailoverOptions {
                reconnect_delay_exponent: 3.0,
                warn_after_reconnect_attempts: None,
                ..FailoverOptions::default()
            }
        );
    }

    #[test]
    fn wrong_options_of_failover_are_refused_at_once() {
        for (text, at, what) in [
            ("failover:(tcp://h:1)?bogus=1", 21, "option bogus is not"),
            ("failover:(tcp://h:1)?connectTimeout=0", 21, "write infinite"),
            (
                "failover:(tcp://h:1)?reconnectDelayExponent=0.5",
                21,
                "less than 1",
            ),
            (
                "failover:(tcp://h:1)?reconnectDelayExponent=NaN",
                21,
                "not a number",
            ),
            (
                "failover:(tcp://h:1)?wireFormat.cacheEnabled=false",
                21,
                "nested.",
            ),
            ("failover:(tcp://h:1)?nestedExtraQueryOptions=a", 21, "nested."),
            ("failover:(tcp://h:1)?updateURIsURL=http://h/x", 21, "not a file"),
            ("failover:(tcp://h:1)?priorityURIs=nonsense", 21, "no scheme"),
            ("failover:(tcp://h:1)?z", 21, "option z is not"),
            ("failover:(tcp://h:1?bogus=1)", 20, "option bogus is not"),
            (
                "failover:(tcp://h:1,tcp://i:1?jms.useAsyncSend=true)",
                30,
                "as a whole",
            ),
            ("failover:tcp://h:1?jms.useAsyncSend=true", 19, "as a whole"),
            (
                "failover:(tcp://h:1)?nested.wireFormat.bogus=1",
                21,
                "nested.wireFormat.bogus",
            ),
            (
                "failover:(tcp://a:1,tcp://b:1)?nested.bogus=1",
                31,
                "nested.bogus",
            ),
            ("failover:tcp://a:1,tcp://b:1?randomize=false", 29, "randomize"),
            ("failover:()", 0, "no URI in the list"),
            ("failover:(static:(tcp://a:1))", 10, "static: is a list"),
            ("failover:(http://a:1)", 10, "http: is known"),
            ("failover:(tcp://a:1)/path", 0, "path"),
            ("failover:(tcp://a:1)#x", 0, "#fragment"),
        ] {
            refused_at(text, at, what);
        }
        assert!(
            failover("failover:()?updateURIsURL=brokers.txt")
                .endpoints
                .is_empty()
        );
    }

    #[test]
    fn nested_options_are_for_each_uri_and_for_those_learnt_later() {
        let uri = failover(
            "failover:(tcp://a:1?soTimeout=1,tcp://b:2)?nested.soTimeout=2&nested.wireFormat.cacheEnabled=false",
        );
        let learnt = uri.options.learn("tcp://c:3").unwrap();
        for endpoint in uri.endpoints.iter().chain([&learnt]) {
            assert_eq!(endpoint.socket.so_timeout, Some(ms(2)), "{endpoint}");
            assert!(!endpoint.wire_format.cache_enabled, "{endpoint}");
        }
        let list = uri.options.learn_list("tcp://d:4,http://x, tcp://e:5,");
        let list: Vec<_> = list
            .iter()
            .map(|learnt| learnt.as_ref().map(Endpoint::to_string))
            .collect();
        assert_eq!(list.len(), 3);
        assert_eq!(list[0].as_deref().unwrap(), "tcp://d:4");
        assert!(list[1].as_ref().unwrap_err().is_uri());
        assert_eq!(list[2].as_deref().unwrap(), "tcp://e:5");
    }

    #[test]
    fn masterslave_is_failover_in_order() {
        let uri = failover("masterslave:(tcp://a:1, tcp://b:1,tcp://c:1)?maxReconnectAttempts=3");
        assert_eq!(addresses(&uri.endpoints), ["tcp://a:1", "tcp://b:1", "tcp://c:1"]);
        assert!(!uri.options.randomize);
        assert_eq!(uri.options.max_reconnect_attempts, Some(3));
        assert_eq!(
            failover("masterslave:tcp://a:1,tcp://b:1")
                .options
                .max_reconnect_attempts,
            None
        );
        assert!(
            failover("masterslave:(tcp://a:1,tcp://b:1)?randomize=true")
                .options
                .randomize
        );
        refused_at("masterslave:(tcp://a:1)", 0, "at least two");
    }

    #[test]
    fn static_lists_are_discovered() {
        for text in [
            "static:(tcp:// a:1, tcp://b:2)?randomize=false&minConnectTime=9&discovered.soTimeout=3",
            "simple:(tcp://a:1,tcp://b:2)?randomize=false&stablePeriod=9&discovered.soTimeout=3",
            "discovery:(static:(tcp://a:1,tcp://b:2))?randomize=false&stablePeriod=9&nested.soTimeout=3",
        ] {
            let uri = discovery(text);
            let list = uri.to_failover().unwrap();
            assert_eq!(addresses(&list.endpoints), ["tcp://a:1", "tcp://b:2"]);
            assert!(!list.options.randomize);
            assert_eq!(list.options.stable_period, ms(9));
            let learnt = uri.options.learn("tcp://c:3").unwrap();
            for endpoint in list.endpoints.iter().chain([&learnt]) {
                assert_eq!(endpoint.socket.so_timeout, Some(ms(3)), "{text}");
            }
        }
        refused_at("static:()", 0, "at least 1");
        refused_at("discovery:(static:(tcp://a:1))?bogus=1", 31, "bogus");
        refused_at("discovery:(static:(tcp://a:1)?bogus=1)", 30, "bogus");
        refused_at(
            "discovery:(static:(tcp://a:1)?maxReconnectDelay=1)",
            30,
            "behind the last parenthesis",
        );
    }

    #[test]
    fn a_discovered_masterslave_is_in_order() {
        let uri = discovery("discovery:(masterslave:(tcp://a:1,tcp://b:2))");
        assert!(matches!(&uri.agent, Agent::MasterSlave(agent) if agent.endpoints.len() == 2));
        assert!(!uri.options.randomize);
    }

    #[test]
    fn multicast_agents_have_the_documented_defaults() {
        let uri = discovery("discovery:(multicast://default)?initialReconnectDelay=1");
        assert_eq!(uri.agent, Agent::Multicast(MulticastAgent::default()));
        assert_eq!(uri.options.initial_reconnect_delay, ms(1));
        assert!(uri.to_failover().is_none());
        let Agent::Multicast(agent) = Agent::parse(
            "multicast://224.1.2.3:6255?group=g&timeToLive=2&loopBackMode=true&keepAliveInterval=3&interface=i\
             &networkInterface=n&joinNetworkInterface=j&initialReconnectDelay=4&maxReconnectDelay=5\
             &useExponentialBackOff=true&backOffMultiplier=6&maxReconnectAttempts=7&minConnectTime=8",
        )
        .unwrap() else {
            panic!()
        };
        assert_eq!(
            agent,
            MulticastAgent {
                host: "224.1.2.3".into(),
                port: 6255,
                group: "g".into(),
                time_to_live: 2,
                loop_back_mode: true,
                keep_alive_interval: ms(3),
                interface: Some("i".into()),
                network_interface: Some("n".into()),
                join_network_interface: Some("j".into()),
                retry: AgentRetry {
                    initial_reconnect_delay: ms(4),
                    max_reconnect_delay: ms(5),
                    use_exponential_back_off: true,
                    back_off_multiplier: 6.0,
                    max_reconnect_attempts: Some(7),
                    min_connect_time: ms(8),
                },
            }
        );
        refused_at("discovery:(multicast://default?keepAliveInterval=0)", 31, "is 0");
    }

    #[test]
    fn discovery_needs_one_agent_that_there_is() {
        refused_at("discovery:()", 0, "needs a discovery agent");
        refused_at("discovery:(tcp://a:1)", 11, "not a discovery agent");
        refused_at(
            "discovery:(static:(tcp://a:1),static:(tcp://b:1))",
            30,
            "one discovery agent",
        );
        refused_at("discovery:(zeroconf:_activemq)", 11, "known to ActiveMQ");
        refused_at("discovery:(multicast:)", 11, "needs an address");
    }

    #[test]
    fn agents_of_networks_have_a_retry_of_their_own() {
        let Agent::Static(agent) = Agent::parse("static:(tcp://a:1)?maxReconnectAttempts=2").unwrap() else {
            panic!()
        };
        assert_eq!(
            agent.retry,
            AgentRetry {
                max_reconnect_attempts: Some(2),
                ..AgentRetry::default()
            }
        );
        assert_eq!(agent.retry.initial_reconnect_delay, ms(1000));
    }

    #[test]
    fn fanout_is_read() {
        let TransportUri::Fanout(uri) = parse(
            "fanout:(static:(tcp://a:1,tcp://b:1))?minAckCount=1&fanOutQueues=true&initialReconnectDelay=2\
             &maxReconnectDelay=3&reconnectDelayExponent=4&maxReconnectAttempts=0",
        )
        .transport
        else {
            panic!()
        };
        assert!(matches!(&uri.agent, Agent::Static(agent) if agent.endpoints.len() == 2));
        assert_eq!(
            uri.options,
            FanoutOptions {
                min_ack_count: 1,
                fan_out_queues: true,
                initial_reconnect_delay: ms(2),
                max_reconnect_delay: ms(3),
                reconnect_delay_exponent: 4.0,
                max_reconnect_attempts: None,
            }
        );
        refused_at("fanout:(multicast://default)?randomize=true", 29, "randomize");
        refused_at("fanout:(tcp://a:1,tcp://b:1)", 18, "fanout:(static:(");
    }

    #[test]
    fn the_password_is_in_no_text() {
        let uri = parse("failover:(tcp://a:1)?jms.userName=me&jms.password=s%65cret&nested.soTimeout=1");
        assert_eq!(uri.options.password.as_ref().unwrap().expose(), "secret");
        assert_eq!(
            uri.to_string(),
            "failover:(tcp://a:1)?jms.userName=me&jms.password=***&nested.soTimeout=1"
        );
        for text in [
            format!("{uri:?}"),
            format!("{:?}", Uri::parse("tcp://h:1?jms.password=s%65cret")),
            refused("tcp://h:1?jms.password=s%65cret&bogus=1"),
            refused("failover:(tcp://h:1?jms.password=s%65cret)"),
        ] {
            assert!(!text.contains("cret"), "{text}");
        }
    }
}

mod properties {
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
}
