//! TLS on the public listener.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rcgen::{CertificateParams, CertifiedKey, KeyPair, date_time_ymd, generate_simple_self_signed};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::support::{FakeUpstream, RawClient, SOON, TestRelay, post};

/// Writes a certificate for `relay.test` and its key into `dir`; the certificate.
fn certify(dir: &Path) -> CertificateDer<'static> {
    let CertifiedKey { cert, signing_key } =
        generate_simple_self_signed(["relay.test".to_owned()]).unwrap();
    std::fs::write(dir.join("key.pem"), signing_key.serialize_pem()).unwrap();
    std::fs::write(dir.join("chain.pem"), cert.pem()).unwrap();
    CertificateDer::from_pem_slice(cert.pem().as_bytes()).unwrap()
}

fn config(dir: &Path, more: &str) -> String {
    let file = |name: &str| dir.join(name).display().to_string();
    format!(
        "[server]\n{more}\n[server.tls]\ncertificate_file = \"{}\"\nkey_file = \"{}\"\n\
         look_every = \"20 ms\"\n",
        file("chain.pem"),
        file("key.pem")
    )
}

/// A connection that believes `certificate` alone and offers `protocols`.
async fn connect(
    addr: SocketAddr,
    certificate: &CertificateDer<'static>,
    protocols: &[&[u8]],
) -> std::io::Result<TlsStream<TcpStream>> {
    let mut roots = RootCertStore::empty();
    roots.add(certificate.clone()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = protocols.iter().map(|name| name.to_vec()).collect();
    let stream = TcpStream::connect(addr).await?;
    let name = ServerName::try_from("relay.test").unwrap();
    let connecting = TlsConnector::from(Arc::new(config)).connect(name, stream);
    timeout(SOON, connecting).await.expect("in time")
}

/// Posts an event and reads the status line.
async fn status(stream: &mut TlsStream<TcpStream>) -> String {
    let request = post("/v1/beacon/click/1", "Connection: close\r\n", r#"{"user_id":"u"}"#);
    stream.write_all(&request).await.unwrap();
    let mut answer = String::new();
    timeout(SOON, stream.read_to_string(&mut answer)).await.expect("in time").unwrap();
    answer.lines().next().unwrap().to_owned()
}

#[tokio::test]
async fn events_come_in_by_tls_and_both_protocols_are_offered() {
    let (dir, upstream) = (tempfile::tempdir().unwrap(), FakeUpstream::start().await);
    let certificate = certify(dir.path());
    let relay = TestRelay::start_with(&config(dir.path(), ""), &upstream).await;
    for offered in [&[][..], &[&b"http/1.1"[..]]] {
        let mut stream = connect(relay.addr(), &certificate, offered).await.unwrap();
        assert_eq!(status(&mut stream).await, "HTTP/1.1 202 Accepted");
    }
    let stream = connect(relay.addr(), &certificate, &[b"h2", b"http/1.1"]).await.unwrap();
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
    let io = hyper_util::rt::TokioIo::new(stream);
    let executor = hyper_util::rt::TokioExecutor::new();
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(executor, io).await.unwrap();
    let serving = tokio_util::task::TaskTracker::new().spawn(connection);
    let request = http::Request::post("https://relay.test/v1/beacon/click/2")
        .body(http_body_util::Full::new(bytes::Bytes::from_static(br#"{"user_id":"u"}"#)));
    let answer = timeout(SOON, sender.send_request(request.unwrap())).await.unwrap().unwrap();
    assert_eq!(answer.status(), 202);
    drop(sender);
    serving.abort();
    // 4096-01-01, as the certificates of these tests have it.
    let until = "beacon_relay_certificate_expires_timestamp_seconds 67090118400\n";
    assert!(relay.metrics().await.contains(until));
    relay.settled().await;
    relay.finish().await;
}

#[tokio::test]
async fn certificates_that_change_are_used_and_those_that_do_not_fit_are_not() {
    let (dir, upstream) = (tempfile::tempdir().unwrap(), FakeUpstream::start().await);
    let old = certify(dir.path());
    let relay = TestRelay::start_with(&config(dir.path(), ""), &upstream).await;
    let open = connect(relay.addr(), &old, &[]).await.unwrap();
    // A key that does not go with the certificate, and no key at all: the old ones stay.
    let other = tempfile::tempdir().unwrap();
    let renewed = certify(other.path());
    let copy = |name: &str| std::fs::copy(other.path().join(name), dir.path().join(name)).unwrap();
    copy("key.pem");
    tokio::time::sleep(Duration::from_millis(100)).await;
    connect(relay.addr(), &old, &[]).await.unwrap();
    copy("chain.pem");
    let waiting = async {
        while connect(relay.addr(), &renewed, &[]).await.is_err() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(SOON, waiting).await.expect("the renewed certificate is used");
    assert!(connect(relay.addr(), &old, &[]).await.is_err(), "the old one is not");
    // A connection that is open ends with what it began with.
    let mut open = open;
    assert_eq!(status(&mut open).await, "HTTP/1.1 202 Accepted");
    relay.settled().await;
    relay.finish().await;
}

#[tokio::test]
async fn who_shakes_no_hands_is_let_go_in_time() {
    let (dir, upstream) = (tempfile::tempdir().unwrap(), FakeUpstream::start().await);
    certify(dir.path());
    let config = config(dir.path(), "head_within = \"100 ms\"");
    let relay = TestRelay::start_with(&config, &upstream).await;
    let mut silent = TcpStream::connect(relay.addr()).await.unwrap();
    let mut nothing = Vec::new();
    timeout(SOON, silent.read_to_end(&mut nothing)).await.expect("is closed").unwrap();
    // Nor is plain HTTP answered.
    let mut plain = RawClient::connect(relay.addr()).await;
    assert!(plain.try_exchange(&post("/v1/beacon/click/1", "", "{}")).await.is_err());
    relay.finish().await;
}

#[test]
fn files_that_cannot_be_used_are_told_with_what_to_do() {
    let dir = tempfile::tempdir().unwrap();
    let told = || {
        let file = dir.path().join("relay.toml");
        std::fs::write(&file, config(dir.path(), "")).unwrap();
        let layers = beacon_relay::config::Layers {
            file: Some(file),
            ..beacon_relay::config::Layers::default()
        };
        layers.plan().map(|_| ()).map_err(|faults| faults.to_string())
    };
    let missing = told().unwrap_err();
    assert!(missing.contains("server.tls.certificate_file names "), "{missing}");
    assert!(missing.contains("cannot be read"), "{missing}");
    certify(dir.path());
    told().unwrap();
    std::fs::write(dir.path().join("chain.pem"), "no certificate").unwrap();
    let empty = told().unwrap_err();
    assert!(empty.contains("holds no PEM certificate\n  remedy: name a PEM file"), "{empty}");
    let other = tempfile::tempdir().unwrap();
    certify(other.path());
    std::fs::copy(other.path().join("chain.pem"), dir.path().join("chain.pem")).unwrap();
    let apart = told().unwrap_err();
    assert!(apart.contains("server.tls.key_file does not go with the certificate"), "{apart}");
    std::fs::write(dir.path().join("key.pem"), "secret").unwrap();
    let keyless = told().unwrap_err();
    assert!(
        keyless.contains("holds no PEM private key") && !keyless.contains("secret"),
        "{keyless}"
    );
}

#[test]
fn certificates_that_do_not_hold_are_told_of_and_run_all_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let check = |not_before, not_after| {
        let mut params = CertificateParams::new(["relay.test".to_owned()]).unwrap();
        (params.not_before, params.not_after) = (not_before, not_after);
        let key = KeyPair::generate().unwrap();
        let leaf = params.self_signed(&key).unwrap();
        // An authority behind it that holds for long.
        let (authority, key_of_it) = (CertificateParams::default(), KeyPair::generate().unwrap());
        let chain = leaf.pem() + &authority.self_signed(&key_of_it).unwrap().pem();
        std::fs::write(dir.path().join("chain.pem"), chain).unwrap();
        std::fs::write(dir.path().join("key.pem"), key.serialize_pem()).unwrap();
        let file = dir.path().join("relay.toml");
        std::fs::write(&file, config(dir.path(), "")).unwrap();
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_beacon-relay"));
        let output = command.args(["check", "--config"]).arg(file).current_dir(dir.path()).output();
        let output = output.unwrap();
        assert_eq!(output.status.code(), Some(0));
        String::from_utf8(output.stdout).unwrap()
    };
    let (past, far) = (date_time_ymd(2020, 1, 31), date_time_ymd(2999, 12, 31));
    let told = check(past, far);
    assert!(told.contains(", certificate until 2999-12-31T00:00:00.000Z"), "{told}");
    assert!(!told.contains("the certificate of server.tls"), "{told}");
    let told = check(date_time_ymd(2019, 1, 1), past);
    assert!(told.contains("certificate of server.tls ended at 2020-01-31T00:00:00.000Z"), "{told}");
    let told = check(far, date_time_ymd(3000, 1, 1));
    assert!(told.contains("holds from 2999-12-31T00:00:00.000Z on, not yet"), "{told}");
}
