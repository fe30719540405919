use super::*;

#[test]
fn failover_has_the_documented_defaults() {
    let uri = failover(DEFAULT_BROKER_URL);
    assert_eq!(uri.options, FailoverOptions::default());
    assert_eq!(addresses(&uri.endpoints), ["tcp://localhost:61616"]);
    let options = uri.options;
    assert_eq!(options.initial_reconnect_delay, None);
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
         &updateURIsInterval=infinite&restoreTimeout=8&jitter=false&stablePeriod=7&connectTimeout=infinite",
    )
    .options;
    assert_eq!(
        FailoverOptions {
            priority_uris: Vec::new(),
            ..options.clone()
        },
        FailoverOptions {
            initial_reconnect_delay: Some(ms(1)),
            max_reconnect_delay: ms(2),
            reconnect_delay: Some(ms(3)),
            use_exponential_back_off: false,
            reconnect_delay_exponent: 1.5,
            jitter: false,
            stable_period: ms(7),
            connect_timeout: None,
            restore_timeout: Some(ms(8)),
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
            update_uris_url: Some(UpdateUrl::File("/etc/brokers".into())),
            update_uris_interval: None,
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
        (
            "failover:(tcp://h:1)?updateURIsURL=ftp://h/x",
            21,
            "neither a file",
        ),
        (
            "failover:(tcp://h:1)?updateURIsURL=https://user:word@h/x",
            21,
            "password",
        ),
        ("failover:(tcp://h:1)?updateURIsURL=file:", 21, "names no file"),
        ("failover:(tcp://h:1)?updateURIsInterval=0", 21, "write infinite"),
        ("failover:(tcp://h:1)?restoreTimeout=0", 21, "write infinite"),
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
#[cfg(feature = "http")]
fn a_list_of_uris_may_be_on_the_web() {
    let options = failover("failover:()?updateURIsURL=https://config.example/brokers%3Fsite=1").options;
    assert_eq!(
        options.update_uris_url,
        Some(UpdateUrl::Http("https://config.example/brokers?site=1".into()))
    );
}

#[test]
#[cfg(not(feature = "http"))]
fn a_list_on_the_web_needs_the_feature() {
    let text = "failover:()?updateURIsURL=https://config.example/brokers";
    refused_at(text, 12, "the feature http");
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
    assert_eq!(uri.options.initial_reconnect_delay, Some(ms(1)));
    assert!(uri.to_failover().is_none());
    let Agent::Multicast(agent) = Agent::parse(
        "multicast://224.1.2.3:6255?group=g&timeToLive=2&loopBackMode=true&keepAliveInterval=3&interface=i\
         &networkInterface=n&joinNetworkInterface=j&initialReconnectDelay=4&maxReconnectDelay=5\
         &useExponentialBackOff=true&backOffMultiplier=6&maxReconnectAttempts=7",
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
                ..AgentRetry::default()
            },
        }
    );
    refused_at("discovery:(multicast://default?keepAliveInterval=0)", 31, "is 0");
    for scheme in ["discovery", "fanout"] {
        refused_at(
            &format!("{scheme}:(multicast://default?initialReconnectDelay=1)"),
            scheme.len() + 22,
            "behind the last parenthesis",
        );
    }
    assert!(Agent::parse("multicast://default?minConnectTime=1").is_err());
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
