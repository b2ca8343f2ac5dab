use super::*;

fn origin(text: &str) -> Origin {
    Origin::parse(text).unwrap_or_else(|fault| panic!("{text}: {fault}"))
}

fn target(url: &str) -> String {
    let url = EventUrl::parse(url).unwrap_or_else(|fault| panic!("{url}: {fault}"));
    String::from_utf8(url.target.to_vec()).unwrap()
}

#[test]
fn one_origin_has_one_spelling() {
    for (spelled, shown) in [
        ("https://events.example.net", "https://events.example.net"),
        ("HTTPS://Events.EXAMPLE.net/", "https://events.example.net"),
        ("https://events.example.net:443", "https://events.example.net"),
        ("https://events.example.net:", "https://events.example.net"),
        ("http://events.example.net:080", "http://events.example.net"),
        ("http://events.example.net:443", "http://events.example.net:443"),
        ("https://BÜCHER.example", "https://xn--bcher-kva.example"),
        ("https://xn--BCHER-kva.example", "https://xn--bcher-kva.example"),
        ("https://ｅｖｅｎｔｓ.example", "https://events.example"),
        ("https://events。example", "https://events.example"),
        ("https://a_b.example", "https://a_b.example"),
        ("http://127.0.0.1:8090", "http://127.0.0.1:8090"),
        ("http://[::1]:8090", "http://[::1]:8090"),
        ("http://[0:0:0:0:0:0:0:1]", "http://[::1]"),
        ("http://[::FFFF:127.0.0.1]", "http://[::ffff:127.0.0.1]"),
    ] {
        assert_eq!(origin(spelled).to_string(), shown, "{spelled}");
        assert_eq!(origin(spelled), origin(shown), "{spelled}");
    }
}

#[test]
fn another_scheme_host_or_port_is_another_origin() {
    let own = origin("https://events.example.net");
    for other in [
        "http://events.example.net",
        "https://events.example.net:8443",
        "https://example.net",
        "https://events.example.net.",
        "https://events.example.net.evil.example",
        "https://evil-events.example.net",
    ] {
        assert_ne!(own, origin(other), "{other}");
    }
    let list = Origins::new(vec![own.clone()]);
    assert!(list.contain(&own) && !list.contain(&origin("https://example.net")));
}

#[test]
fn what_is_not_read_alike_by_everyone_is_refused() {
    for (text, fault) in [
        ("", UrlFault::NotAbsolute),
        ("events.example.net", UrlFault::NotAbsolute),
        ("//events.example.net", UrlFault::NotAbsolute),
        ("/v1/beacon/click/a", UrlFault::NotAbsolute),
        ("https:events.example.net", UrlFault::NotAbsolute),
        ("https:/events.example.net", UrlFault::NotAbsolute),
        (r"https:\\events.example.net", UrlFault::NotAbsolute),
        ("ftp://events.example.net", UrlFault::Scheme),
        ("file:///etc/passwd", UrlFault::Scheme),
        ("javascript:alert(1)", UrlFault::Scheme),
        ("events.example.net:443/x", UrlFault::Scheme),
        (" https://events.example.net", UrlFault::Scheme),
        ("https://user@events.example.net", UrlFault::Userinfo),
        ("https://user:word@events.example.net", UrlFault::Userinfo),
        ("https://events.example.net@evil.example", UrlFault::Userinfo),
        (r"https://events.example.net\@evil.example", UrlFault::Userinfo),
        ("https://@events.example.net", UrlFault::Userinfo),
        ("https://", UrlFault::Host),
        ("https:///v1/beacon", UrlFault::Host),
        ("https://:443", UrlFault::Host),
        (r"https://evil.example\.events.example.net", UrlFault::Host),
        ("https://events%2eexample.net", UrlFault::Host),
        ("https://events example.net", UrlFault::Host),
        ("https://a<b.example", UrlFault::Host),
        ("https://xn--a.example", UrlFault::Host),
        ("https://a..example\u{0}", UrlFault::Host),
        ("http://2130706433", UrlFault::Host),
        ("http://017700000001", UrlFault::Host),
        ("http://0x7f000001", UrlFault::Host),
        ("http://0x7f.0.0.1", UrlFault::Host),
        ("http://0177.0.0.1", UrlFault::Host),
        ("http://127.1", UrlFault::Host),
        ("http://127.0.0.1.", UrlFault::Host),
        ("http://１２７.0.0.0x1", UrlFault::Host),
        ("http://1.2.3.4.5", UrlFault::Host),
        ("http://evil.example.0x", UrlFault::Host),
        ("http://[::1", UrlFault::Host),
        ("http://[::1]8080", UrlFault::Host),
        ("http://[fe80::1%eth0]", UrlFault::Host),
        ("http://[127.0.0.1]", UrlFault::Host),
        ("http://::1", UrlFault::Host),
        ("https://events.example.net:0", UrlFault::Port),
        ("https://events.example.net:+80", UrlFault::Port),
        ("https://events.example.net:65536", UrlFault::Port),
        ("https://events.example.net:80:80", UrlFault::Port),
        ("https://events.example.net:https", UrlFault::Port),
        ("https://events.example.net/hooks", UrlFault::NotBare),
        ("https://events.example.net?x", UrlFault::NotBare),
        ("https://events.example.net#x", UrlFault::NotBare),
    ] {
        assert_eq!(Origin::parse(text), Err(fault), "{text}");
    }
    let long = format!("https://{}.example", ["a"; 130].join("."));
    assert_eq!(Origin::parse(&long), Err(UrlFault::Host));
    let label = format!("https://{}.example", "a".repeat(64));
    assert_eq!(Origin::parse(&label), Err(UrlFault::Host));
}

#[test]
fn a_signed_target_stays_byte_for_byte() {
    for signed in [
        "/v1/beacon/click/a'1?pname={x}&t=a|b^c&p=%2e%2e//&q=%zz&d=a%20b+c&sign=0f",
        "/v1/../beacon//click/./%2E%2E/a?a=1&a=2&&=&sign",
        r"/v1\beacon\click?x=\&y=`&z=[1]",
        "/{v}/b@c:d;e=f,g!$&*()~",
        "/?",
        "/",
    ] {
        assert_eq!(target(&format!("https://events.example.net{signed}")), signed);
    }
}

#[test]
fn what_a_request_line_cannot_carry_is_encoded_as_a_browser_does() {
    for (written, sent) in [
        ("", "/"),
        ("?x=1", "/?x=1"),
        ("#top", "/"),
        ("/a?b=c#d?e", "/a?b=c"),
        ("/a b?c=d e > f", "/a%20b?c=d%20e%20%3E%20f"),
        ("/a\"<>`?b=\"<>`", "/a%22%3C%3E%60?b=%22%3C%3E`"),
        ("/é?t=promoção&e=🛒", "/%C3%A9?t=promo%C3%A7%C3%A3o&e=%F0%9F%9B%92"),
        ("/%20%é", "/%20%%C3%A9"),
        ("/a?b ", "/a?b"),
    ] {
        let url = format!("https://events.example.net{written}");
        assert_eq!(target(&url), sent, "{written}");
        assert!(http::uri::PathAndQuery::try_from(sent).is_ok(), "{sent}");
    }
    assert_eq!(target("  https://events.example.net/a  "), "/a");
}

#[test]
fn every_printable_byte_makes_a_target_that_can_be_sent() {
    let all: String = (0x20_u8..0x7f).map(char::from).filter(|c| !"#?".contains(*c)).collect();
    let sent = target(&format!("https://events.example.net/{all}x?{all}x"));
    assert!(http::uri::PathAndQuery::try_from(sent.as_str()).is_ok(), "{sent}");
}

#[test]
fn a_url_reads_back_from_what_an_event_keeps() {
    for written in ["HTTPS://Events.Example.NET:443/a b?c=é#d", "http://[::1]:8090?x"] {
        let url = EventUrl::parse(written).unwrap();
        let kept = url.absolute();
        let kept = std::str::from_utf8(&kept).unwrap();
        assert_eq!(EventUrl::parse(kept), Ok(url), "{kept}");
    }
}

#[test]
fn a_url_that_could_end_a_request_line_is_refused() {
    for url in [
        "https://events.example.net/a\r\nX: y",
        "https://events.example.net/a\tb",
        "https://events.example.net/a\n",
        "\nhttps://events.example.net/",
        "https://events.example.net/a\u{0}",
        "https://events.example.net/a\u{7f}",
        "https://ev\nents.example.net/a",
    ] {
        assert_eq!(EventUrl::parse(url), Err(UrlFault::Control), "{url:?}");
    }
    let long = format!("https://events.example.net/{}", "a".repeat(20_000));
    assert_eq!(EventUrl::parse(&long), Err(UrlFault::TooLong));
}

#[test]
fn private_and_special_addresses_are_told_from_public_ones() {
    for private in [
        "0.0.0.0",
        "0.1.2.3",
        "10.0.0.1",
        "10.255.255.255",
        "100.64.0.1",
        "100.127.255.255",
        "127.0.0.1",
        "127.255.0.1",
        "169.254.169.254",
        "172.16.0.1",
        "172.31.255.255",
        "192.0.0.1",
        "192.0.2.1",
        "192.88.99.1",
        "192.168.1.1",
        "198.18.0.1",
        "198.19.255.255",
        "198.51.100.1",
        "203.0.113.1",
        "224.0.0.1",
        "239.1.1.1",
        "240.0.0.1",
        "255.255.255.255",
        "::",
        "::1",
        "::2",
        "::127.0.0.1",
        "::ffff:127.0.0.1",
        "::ffff:10.0.0.1",
        "::ffff:0:169.254.169.254",
        "64:ff9b::a9fe:a9fe",
        "64:ff9b:1::1",
        "2002:7f00:1::",
        "2002:c0a8:101::1",
        "2001::1",
        "2001:1::1",
        "2001:db8::1",
        "3fff::1",
        "fc00::1",
        "fd12:3456::1",
        "fe80::1",
        "fec0::1",
        "ff02::1",
        "100::1",
        "4000::1",
        "5f00::1",
    ] {
        assert!(!is_public(private.parse().unwrap()), "{private}");
    }
    for public in [
        "1.1.1.1",
        "8.8.8.8",
        "9.255.255.255",
        "11.0.0.1",
        "100.63.255.255",
        "100.128.0.1",
        "126.255.255.255",
        "128.0.0.1",
        "169.253.1.1",
        "172.15.1.1",
        "172.32.0.1",
        "192.0.1.1",
        "192.167.1.1",
        "192.169.1.1",
        "198.17.1.1",
        "198.20.0.1",
        "223.255.255.255",
        "2606:4700::1111",
        "2001:200::1",
        "2001:4860:4860::8888",
        "2804:14c::1",
        "::ffff:8.8.8.8",
        "64:ff9b::808:808",
        "2002:808:808::1",
    ] {
        assert!(is_public(public.parse().unwrap()), "{public}");
    }
}
