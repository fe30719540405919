use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::time::Instant;

use super::stream::WriteInner;
use super::*;

/// Longer than anything here takes, and short enough to wait for when it fails.
const DEADLINE: Duration = Duration::from_secs(30);

async fn soon<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(DEADLINE, what)
        .await
        .expect("it takes too long")
}

async fn connect_to(uri: &str) -> Result<Stream> {
    soon(connect(&Endpoint::parse(uri).unwrap(), &TlsOptions::default())).await
}

async fn listener() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

/// Sends there and back what is more than any buffer between holds.
async fn echoes(
    stream: Stream,
    mut peer: impl tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
) {
    const LENGTH: usize = 300_000;
    let (mut read, mut write) = stream.into_split();
    let echo = tokio::spawn(async move {
        let (mut read, mut write) = tokio::io::split(&mut peer);
        tokio::io::copy(&mut read, &mut write).await.unwrap();
        write.shutdown().await.unwrap();
    });
    let sent: Vec<u8> = (0..LENGTH).map(|index| (index % 251) as u8).collect();
    let sending = async {
        write.write_all(&sent).await.unwrap();
        write.shutdown().await.unwrap();
    };
    let mut received = Vec::new();
    let (_, read) = soon(async { tokio::join!(sending, read.read_to_end(&mut received)) }).await;
    read.unwrap();
    assert!(received == sent, "{} bytes came back", received.len());
    echo.await.unwrap();
}

mod tcp {
    use super::*;

    #[tokio::test]
    async fn bytes_go_there_and_back() {
        let (listener, address) = listener().await;
        let stream = connect_to(&format!("tcp://{address}")).await.unwrap();
        let (peer, from) = listener.accept().await.unwrap();
        assert_eq!(stream.peer_addr(), Some(address));
        assert_eq!(stream.local_addr(), Some(from));
        echoes(stream, peer).await;
    }

    #[tokio::test]
    async fn any_address_means_this_machine() {
        let (listener, address) = listener().await;
        for host in ["0.0.0.0", "*", "localhost"] {
            let stream = connect_to(&format!("tcp://{host}:{}", address.port()))
                .await
                .unwrap();
            let (_, from) = soon(listener.accept()).await.unwrap();
            assert_eq!(stream.local_addr(), Some(from), "{host}");
        }
    }

    #[tokio::test]
    async fn options_reach_the_socket() {
        let (_listener, address) = listener().await;
        let stream = connect_to(&format!(
            "tcp://{address}/127.0.0.1:0?tcpNoDelay=false&keepAlive=true&soLinger=0&diffServ=EF\
             &socket.sendBufferSize=30000&socket.receiveBufferSize=20000"
        ))
        .await
        .unwrap();
        assert!(!stream.socket().unwrap().nodelay().unwrap());
        let socket = TcpSocket::from_std_stream(socket_of(stream));
        assert!(socket.keepalive().unwrap());
        assert_eq!(socket.linger().unwrap(), Some(Duration::ZERO));
        // Linux counts its own needs in: it gives twice what was asked for.
        assert!((30_000..=60_000).contains(&socket.send_buffer_size().unwrap()));
        assert!((20_000..=40_000).contains(&socket.recv_buffer_size().unwrap()));
        if cfg!(target_os = "linux") {
            assert_eq!(socket.tos_v4().unwrap(), 46 << 2);
        }
    }

    fn socket_of(stream: Stream) -> std::net::TcpStream {
        match stream.inner {
            Inner::Tcp(stream) => stream.into_std().unwrap(),
            other => panic!("{other:?}"),
        }
    }

    #[tokio::test]
    async fn nodelay_is_on_by_default_and_can_be_switched_after_the_split() {
        let (_listener, address) = listener().await;
        let stream = connect_to(&format!("tcp://{address}")).await.unwrap();
        assert!(stream.socket().unwrap().nodelay().unwrap());
        let (_read, write) = stream.into_split();
        write.set_nodelay(false).unwrap();
        let WriteInner::Tcp(half) = &write.inner else {
            panic!()
        };
        assert!(!half.as_ref().nodelay().unwrap());
    }

    #[tokio::test]
    async fn a_local_address_of_another_machine_is_an_error() {
        let (_listener, address) = listener().await;
        // 192.0.2.0/24 is for documentation: nobody has it.
        let error = connect_to(&format!("tcp://{address}/192.0.2.1:0"))
            .await
            .unwrap_err();
        assert!(error.is_io(), "{error}");
    }

    #[tokio::test]
    async fn nobody_there_is_an_error_that_names_the_endpoint() {
        let (listener, address) = listener().await;
        drop(listener);
        let uri = format!("tcp://{address}");
        let error = connect_to(&uri).await.unwrap_err();
        assert!(error.is_io() && error.to_string().contains(&uri), "{error}");
        // No name has so long a part, so nobody is asked for it.
        let error = connect_to(&format!("tcp://{}:1", "x".repeat(70)))
            .await
            .unwrap_err();
        assert!(error.is_io(), "{error}");
    }

    /// An address that neither accepts nor refuses: those that wait to be accepted are as many as may.
    async fn black_hole() -> (TcpListener, SocketAddr, Vec<TcpStream>) {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
        let listener = socket.listen(1).unwrap();
        let address = listener.local_addr().unwrap();
        let mut waiting = Vec::new();
        // Linux lets one more wait than it was told.
        for _ in 0..2 {
            waiting.push(soon(TcpStream::connect(address)).await.unwrap());
        }
        (listener, address, waiting)
    }

    #[tokio::test]
    async fn a_black_hole_ends_with_the_connection_timeout() {
        let (_listener, address, _waiting) = black_hole().await;
        let started = Instant::now();
        let error = connect_to(&format!("tcp://{address}?connectionTimeout=200"))
            .await
            .unwrap_err();
        assert!(error.is_timeout(), "{error}");
        assert!(started.elapsed() >= Duration::from_millis(200));
    }

    #[tokio::test]
    async fn a_peer_that_takes_nothing_ends_the_write() {
        let (listener, address) = listener().await;
        let stream = connect_to(&format!("tcp://{address}?soWriteTimeout=200"))
            .await
            .unwrap();
        let (_peer, _) = listener.accept().await.unwrap();
        let (_read, mut write) = stream.into_split();
        let chunk = vec![0; 65_536];
        let error = soon(async {
            loop {
                if let Err(error) = write.write_all(&chunk).await {
                    break error;
                }
            }
        })
        .await;
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert!(Error::from(error).is_timeout());
    }

    #[tokio::test]
    async fn a_slow_peer_does_not_end_the_write() {
        let broker = &mut vm::bind("slow").unwrap();
        let mut endpoint = Endpoint::parse("vm://slow").unwrap();
        endpoint.socket.so_write_timeout = Some(Duration::from_millis(500));
        let stream = connect(&endpoint, &TlsOptions::default()).await.unwrap();
        let mut peer = broker.accept().await;
        let (_read, mut write) = stream.into_split();
        // Longer in all than the timeout, but never at a stretch: time stands still except in this order.
        tokio::time::pause();
        let writing = tokio::spawn(async move { write.write_all(&vec![0; 200_000]).await });
        let mut buffer = vec![0; 50_000];
        for _ in 0..4 {
            tokio::time::sleep(Duration::from_millis(400)).await;
            peer.read_exact(&mut buffer).await.unwrap();
        }
        soon(writing).await.unwrap().unwrap();
    }
}

mod vm_pipe {
    use super::*;

    #[tokio::test]
    async fn bytes_go_there_and_back() {
        let mut broker = vm::bind("echo").unwrap();
        assert_eq!(broker.name(), "echo");
        let stream = connect_to("vm://echo").await.unwrap();
        assert_eq!((stream.peer_addr(), stream.local_addr()), (None, None));
        stream.set_nodelay(true).unwrap();
        let peer: DuplexStream = soon(broker.accept()).await;
        echoes(stream, peer).await;
    }

    #[tokio::test]
    async fn a_name_has_one_broker_at_a_time() {
        let broker = vm::bind("one").unwrap();
        assert!(vm::bind("one").unwrap_err().is_io());
        drop(broker);
        let _broker = vm::bind("one").unwrap();
    }

    #[tokio::test]
    async fn no_broker_is_an_error_that_says_who_has_to_start_it() {
        let error = connect_to("vm://nobody").await.unwrap_err();
        assert!(
            error.is_io() && error.to_string().contains("create=true"),
            "{error}"
        );
        let error = connect_to("vm://nobody?create=false").await.unwrap_err();
        assert!(
            error.is_io() && !error.to_string().contains("create=true"),
            "{error}"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_broker_that_comes_late_is_waited_for() {
        let started = Instant::now();
        let error = connect_to("vm://late?waitForStart=5000").await.unwrap_err();
        assert!(error.is_io(), "{error}");
        assert_eq!(started.elapsed().as_millis() / 100, 50);

        let connecting = tokio::spawn(connect_to("vm://late?waitForStart=5000"));
        tokio::time::sleep(Duration::from_secs(1)).await;
        let _other = vm::bind("early").unwrap();
        tokio::time::sleep(Duration::from_secs(1)).await;
        let mut broker = vm::bind("late").unwrap();
        soon(broker.accept()).await;
        connecting.await.unwrap().unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a_broker_that_accepts_nothing_ends_with_the_connection_timeout() {
        let _broker = vm::bind("busy").unwrap();
        let mut waiting = Vec::new();
        let error = loop {
            match connect_to("vm://busy").await {
                Ok(stream) => waiting.push(stream),
                Err(error) => break error,
            }
        };
        assert!(error.is_timeout(), "{error}");
        assert!(!waiting.is_empty());
    }

    #[tokio::test]
    async fn who_is_not_accepted_sees_the_broker_go() {
        let broker = vm::bind("gone").unwrap();
        let (mut read, _write) = connect_to("vm://gone").await.unwrap().into_split();
        drop(broker);
        assert_eq!(soon(read.read(&mut [0; 1])).await.unwrap(), 0);
        assert!(connect_to("vm://gone").await.unwrap_err().is_io());
    }
}

#[cfg(not(feature = "tls"))]
#[tokio::test]
async fn ssl_needs_the_feature() {
    let endpoint = Endpoint::new(Scheme::Ssl, "localhost", 1);
    let error = connect(&endpoint, &TlsOptions::default()).await.unwrap_err();
    assert!(error.is_unsupported(), "{error}");
}

#[cfg(feature = "tls")]
mod tls_handshake {
    use std::sync::Arc;

    use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
    use rustls::crypto::ring;
    use rustls::server::WebPkiClientVerifier;
    use rustls::{RootCertStore, ServerConfig};
    use rustls_pki_types::pem::PemObject;
    use rustls_pki_types::{CertificateDer, PrivateKeyDer};
    use tokio_rustls::TlsAcceptor;

    use super::*;

    type Ca = CertifiedIssuer<'static, KeyPair>;

    /// A certificate and its key, PEM.
    struct Pair {
        chain: String,
        key: String,
    }

    fn authority(name: &str) -> Ca {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name.push(rcgen::DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
    }

    fn issue(ca: &Ca, name: &str) -> Pair {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new([name.to_owned()]).unwrap();
        Pair {
            chain: params.signed_by(&key, ca).unwrap().pem(),
            key: key.serialize_pem(),
        }
    }

    fn self_signed(params: CertificateParams) -> Pair {
        let key = KeyPair::generate().unwrap();
        Pair {
            chain: params.self_signed(&key).unwrap().pem(),
            key: key.serialize_pem(),
        }
    }

    /// A broker that takes one connection, sends what the client's certificate is, and echoes.
    struct Broker {
        address: SocketAddr,
        task: tokio::task::JoinHandle<io::Result<Option<CertificateDer<'static>>>>,
    }

    async fn broker(own: &Pair, clients: Option<&Ca>) -> Broker {
        let provider = Arc::new(ring::default_provider());
        let config = ServerConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .unwrap();
        let config = match clients {
            Some(ca) => {
                let mut roots = RootCertStore::empty();
                roots.add(ca.der().clone()).unwrap();
                let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
                config.with_client_cert_verifier(verifier.build().unwrap())
            }
            None => config.with_no_client_auth(),
        };
        let chain = CertificateDer::from_pem_slice(own.chain.as_bytes()).unwrap();
        let key = PrivateKeyDer::from_pem_slice(own.key.as_bytes()).unwrap();
        let config = config.with_single_cert(vec![chain], key).unwrap();
        let (listener, address) = listener().await;
        let task = tokio::spawn(async move {
            let (stream, _) = listener.accept().await?;
            let mut stream = TlsAcceptor::from(Arc::new(config)).accept(stream).await?;
            let certificate = stream
                .get_ref()
                .1
                .peer_certificates()
                .and_then(|chain| chain.first())
                .map(|certificate| certificate.clone().into_owned());
            let (mut read, mut write) = tokio::io::split(&mut stream);
            tokio::io::copy(&mut read, &mut write).await?;
            write.shutdown().await?;
            Ok(certificate)
        });
        Broker { address, task }
    }

    impl Broker {
        async fn connect_as(&self, host: &str, options: &str, tls: &TlsOptions) -> Result<Stream> {
            let uri = format!(
                "ssl://{host}:{}?connectionTimeout=20000{options}",
                self.address.port()
            );
            soon(connect(&Endpoint::parse(&uri).unwrap(), tls)).await
        }
    }

    /// Sends through a stream and checks what comes back.
    async fn echo(stream: Stream) -> Result<()> {
        let (mut read, mut write) = stream.into_split();
        let both = async {
            write.write_all(b"hello").await?;
            write.flush().await?;
            write.shutdown().await?;
            let mut echo = Vec::new();
            read.read_to_end(&mut echo).await?;
            assert_eq!(echo, b"hello");
            Ok::<_, io::Error>(())
        };
        Ok(soon(both).await?)
    }

    #[tokio::test]
    async fn a_broker_of_a_trusted_authority_is_believed() {
        let ca = authority("ca");
        let tls = TlsOptions::new().ca_pem(ca.pem()).unwrap();
        for (name, host, options) in [
            ("localhost", "localhost", ""),
            ("127.0.0.1", "127.0.0.1", ""),
            ("localhost", "localhost", "&socket.enabledProtocols=TLSv1.2"),
            (
                "localhost",
                "localhost",
                "&socket.enabledCipherSuites=TLS_AES_128_GCM_SHA256",
            ),
        ] {
            let broker = broker(&issue(&ca, name), None).await;
            let stream = broker.connect_as(host, options, &tls).await.unwrap();
            assert_eq!(stream.peer_addr(), Some(broker.address));
            let Inner::Tls(session) = &stream.inner else {
                panic!()
            };
            let session = session.get_ref().1;
            if options.contains("Protocols") {
                assert_eq!(session.protocol_version(), Some(rustls::ProtocolVersion::TLSv1_2));
            }
            if options.contains("Cipher") {
                let suite = session.negotiated_cipher_suite().unwrap().suite();
                assert_eq!(suite, rustls::CipherSuite::TLS13_AES_128_GCM_SHA256);
            }
            echo(stream).await.unwrap();
            assert_eq!(broker.task.await.unwrap().unwrap(), None);
        }
    }

    #[tokio::test]
    async fn large_amounts_go_there_and_back() {
        let ca = authority("ca");
        let tls = TlsOptions::new().ca_pem(ca.pem()).unwrap();
        let broker = broker(&issue(&ca, "localhost"), None).await;
        let stream = broker.connect_as("localhost", "", &tls).await.unwrap();
        stream.set_nodelay(true).unwrap();
        let (mut read, mut write) = stream.into_split();
        write.set_nodelay(false).unwrap();
        let sent = vec![7; 1_000_000];
        let mut received = Vec::new();
        let sending = async {
            write.write_all(&sent).await.unwrap();
            write.shutdown().await.unwrap();
        };
        let (_, read) = soon(async { tokio::join!(sending, read.read_to_end(&mut received)) }).await;
        read.unwrap();
        assert_eq!(received.len(), sent.len());
    }

    #[tokio::test]
    async fn a_broker_of_another_authority_is_refused() {
        let broker = broker(&issue(&authority("theirs"), "localhost"), None).await;
        let tls = TlsOptions::new().ca_pem(authority("ours").pem()).unwrap();
        let error = broker.connect_as("localhost", "", &tls).await.unwrap_err();
        assert!(error.is_security(), "{error}");
    }

    #[tokio::test]
    async fn leaving_out_the_name_does_not_leave_out_the_chain() {
        let broker = broker(&issue(&authority("theirs"), "localhost"), None).await;
        let tls = TlsOptions::new().ca_pem(authority("ours").pem()).unwrap();
        let error = broker
            .connect_as("localhost", "&verifyHostName=false", &tls)
            .await
            .unwrap_err();
        assert!(error.is_security(), "{error}");
    }

    #[tokio::test]
    async fn the_certificate_of_another_host_is_refused_unless_names_do_not_count() {
        let ca = authority("ca");
        let tls = TlsOptions::new().ca_pem(ca.pem()).unwrap();
        let pair = issue(&ca, "other.example");
        let error = broker(&pair, None)
            .await
            .connect_as("localhost", "", &tls)
            .await
            .unwrap_err();
        assert!(error.is_security(), "{error}");
        let broker = broker(&pair, None).await;
        let stream = broker
            .connect_as("localhost", "&verifyHostName=false", &tls)
            .await;
        echo(stream.unwrap()).await.unwrap();
    }

    #[tokio::test]
    async fn the_systems_authorities_do_not_know_ours() {
        let broker = broker(&issue(&authority("ca"), "localhost"), None).await;
        let error = broker
            .connect_as("localhost", "", &TlsOptions::default())
            .await
            .unwrap_err();
        assert!(error.is_security(), "{error}");
    }

    #[tokio::test]
    async fn a_trusted_self_signed_certificate_is_believed_for_its_host() {
        for ca in [false, true] {
            let mut params = CertificateParams::new(["localhost".to_owned()]).unwrap();
            if ca {
                params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
            }
            let pair = self_signed(params);
            let tls = TlsOptions::new().ca_pem(&pair.chain).unwrap();
            let broker_ = broker(&pair, None).await;
            let stream = broker_.connect_as("localhost", "", &tls).await.unwrap();
            echo(stream).await.unwrap();
            let error = broker(&pair, None)
                .await
                .connect_as("127.0.0.1", "", &tls)
                .await
                .unwrap_err();
            assert!(error.is_security(), "{error}");
        }
    }

    #[tokio::test]
    async fn an_outdated_certificate_is_refused_even_if_trusted_by_itself() {
        let mut params = CertificateParams::new(["localhost".to_owned()]).unwrap();
        params.not_before = rcgen::date_time_ymd(2001, 1, 1);
        params.not_after = rcgen::date_time_ymd(2002, 1, 1);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let pair = self_signed(params);
        let tls = TlsOptions::new().ca_pem(&pair.chain).unwrap();
        let broker = broker(&pair, None).await;
        let error = broker.connect_as("localhost", "", &tls).await.unwrap_err();
        assert!(error.is_security(), "{error}");
    }

    #[tokio::test]
    async fn who_accepts_anything_gets_anything() {
        let tls = TlsOptions::new().danger_accept_invalid_certs(true);
        let broker = broker(&issue(&authority("ca"), "other.example"), None).await;
        let stream = broker.connect_as("localhost", "", &tls).await.unwrap();
        echo(stream).await.unwrap();
    }

    #[tokio::test]
    async fn a_client_certificate_is_presented() {
        let ca = authority("ca");
        let client = issue(&ca, "client");
        let tls = TlsOptions::new()
            .ca_pem(ca.pem())
            .unwrap()
            .client_certificate_pem(&client.chain, &client.key)
            .unwrap();
        let broker = broker(&issue(&ca, "localhost"), Some(&ca)).await;
        let stream = broker.connect_as("localhost", "", &tls).await.unwrap();
        echo(stream).await.unwrap();
        let expected = CertificateDer::from_pem_slice(client.chain.as_bytes()).unwrap();
        assert_eq!(broker.task.await.unwrap().unwrap(), Some(expected));
    }

    #[tokio::test]
    async fn a_broker_that_refuses_the_client_is_a_security_error() {
        let ca = authority("ca");
        let stranger = issue(&authority("strangers"), "client");
        let none = TlsOptions::new().ca_pem(ca.pem()).unwrap();
        let wrong = none
            .clone()
            .client_certificate_pem(&stranger.chain, &stranger.key)
            .unwrap();
        for tls in [none, wrong] {
            for protocol in ["TLSv1.2", "TLSv1.3"] {
                let broker = broker(&issue(&ca, "localhost"), Some(&ca)).await;
                let options = format!("&socket.enabledProtocols={protocol}");
                // With TLS 1.3 a client is done before the broker has seen its certificate.
                let error = match broker.connect_as("localhost", &options, &tls).await {
                    Ok(stream) => {
                        let (mut read, _write) = stream.into_split();
                        Error::from(soon(read.read(&mut [0; 1])).await.unwrap_err())
                    }
                    Err(error) => error,
                };
                assert!(error.is_security(), "{protocol}: {error}");
            }
        }
    }

    #[tokio::test]
    async fn a_peer_without_tls_or_without_a_word_is_an_error() {
        let (_silent, address) = listener().await;
        let uri = format!("ssl://127.0.0.1:{}?connectionTimeout=300", address.port());
        let error = connect_to(&uri).await.unwrap_err();
        assert!(error.is_timeout(), "{error}");
        // Not the same listener: on a busy machine the time may have passed before the first attempt came to it.
        let (listener, address) = listener().await;
        let talking = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            stream.write_all(b"\0\0\0\x10\x01ActiveMQ").await.unwrap();
            stream
        });
        let uri = format!("ssl://127.0.0.1:{}", address.port());
        let error = connect_to(&uri).await.unwrap_err();
        assert!(!error.is_timeout() && !error.is_security(), "{error}");
        soon(talking).await.unwrap();
    }

    #[test]
    fn what_is_no_certificate_is_refused_when_it_is_given() {
        let ca = authority("ca");
        let (one, other) = (issue(&ca, "one"), issue(&ca, "other"));
        let bad = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        let new = TlsOptions::new;
        for error in [
            new().ca_pem("").unwrap_err(),
            new().ca_pem(&one.key).unwrap_err(),
            new().ca_pem(bad).unwrap_err(),
            new().client_certificate_pem(&one.chain, "").unwrap_err(),
            new().client_certificate_pem("", &one.key).unwrap_err(),
            new().client_certificate_pem(&one.chain, &other.key).unwrap_err(),
        ] {
            assert!(error.is_security(), "{error}");
        }
        assert!(new().ca_file("no such file").unwrap_err().is_io());
        let debug = format!(
            "{:?}",
            new().client_certificate_pem(&one.chain, &one.key).unwrap()
        );
        assert!(debug.contains("client_certificate: true") && !debug.contains("PRIVATE"));
    }
}
