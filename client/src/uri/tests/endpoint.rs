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

#[test]
fn every_step_of_a_connect_has_an_end_unless_it_is_named_infinite() {
    let endpoint = single("tcp://h:1");
    assert_eq!(endpoint.socket.connection_timeout, Some(ms(30_000)));
    assert_eq!(endpoint.negotiation_timeout, Some(ms(10_000)));
    for (text, expected) in [
        ("wireFormat.maxInactivityDurationInitalDelay=0", Some(ms(15_000))),
        ("wireFormat.maxInactivityDurationInitalDelay=5", Some(ms(5))),
        (
            "negotiationTimeout=7&wireFormat.maxInactivityDurationInitalDelay=5",
            Some(ms(7)),
        ),
        ("negotiationTimeout=infinite", None),
        ("negotiationTimeout=0", None),
    ] {
        assert_eq!(
            single(&format!("tcp://h:1?{text}")).negotiation_timeout,
            expected,
            "{text}"
        );
    }
    for none in ["0", "infinite"] {
        let endpoint = single(&format!("tcp://h:1?connectionTimeout={none}"));
        assert_eq!(endpoint.socket.connection_timeout, None);
    }
}
