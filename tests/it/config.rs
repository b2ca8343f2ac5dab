//! The layers of the configuration, and every fault at once with its place and remedy.

use beacon_relay::caller::{KeyDigest, Strangers};
use beacon_relay::clock::Timestamp;
use beacon_relay::config::{Layers, Plan};
use beacon_relay::forward::request::Route;
use beacon_relay::source::Decode;
use tempfile::TempDir;

fn plan(file: &str, environment: &[(&str, &str)]) -> Result<Plan, String> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("relay.toml");
    std::fs::write(&path, file).unwrap();
    let environment = environment.iter().map(|(name, value)| (name.to_string(), value.to_string()));
    let layers = Layers {
        file: Some(path.clone()),
        environment: environment.collect(),
        ..Layers::default()
    };
    let shown = path.display().to_string();
    layers.plan().map_err(|faults| faults.to_string().replace(&shown, "relay.toml"))
}

#[test]
fn the_compiled_in_layer_runs_alone() {
    let plan = Layers::default().plan().unwrap();
    assert_eq!(plan.server.listen.to_string(), "127.0.0.1:8080");
    let names: Vec<&str> = plan.sources.iter().map(|source| source.name.as_str()).collect();
    assert_eq!(names, ["beacon-conversion", "beacon-impression", "beacon-view", "beacon-click"]);
    assert_eq!(plan.destinations.len(), 1);
}

#[test]
fn each_layer_goes_above_the_one_before() {
    let file = "[server]\nlisten = \"127.0.0.1:1\"\nrequests_max = 7\nbody_max = \"1 KiB\"";
    let environment = [
        ("BEACON_RELAY_SERVER__LISTEN", "127.0.0.1:2"),
        ("BEACON_RELAY_SERVER__REQUESTS_MAX", "8"),
        ("BEACON_RELAY_VERSION", "not a setting: no two underscores"),
    ];
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("relay.toml");
    std::fs::write(&path, file).unwrap();
    let layers = Layers {
        file: Some(path),
        environment: environment.map(|(name, value)| (name.into(), value.into())).into(),
        flags: vec![("--listen", &["server", "listen"], "127.0.0.1:3".into())],
        upstream: Some("http://127.0.0.1:4".into()),
    };
    let plan = layers.plan().unwrap();
    assert_eq!(plan.server.listen.port(), 3);
    assert_eq!(plan.server.requests.requests_max, 8);
    assert_eq!(plan.server.requests.body.bytes_max, 1024);
    assert_eq!(plan.destinations[0].shape.origin().to_string(), "http://127.0.0.1:4");
}

#[test]
fn event_urls_are_for_listed_origins_and_that_of_the_base_url() {
    let origins = |plan: &Plan, index: usize| -> Vec<String> {
        let by_url = plan.destinations[index].shape.by_url().unwrap();
        by_url.origins.iter().map(ToString::to_string).collect()
    };
    let production = [
        "https://events.newtail-media.newtail.com.br",
        "https://events-api.ads.vtex.com",
        "https://newtail-media.newtail.com.br",
    ];
    let plan = plan("", &[]).unwrap();
    assert_eq!(origins(&plan, 0), production);
    assert_eq!(plan.destinations[0].shape.by_url().unwrap().route, Route::Own);

    let upstream = Some("http://127.0.0.1:4".to_owned());
    let trial = Layers { upstream, ..Layers::default() }.plan().unwrap();
    let mut expected = vec!["http://127.0.0.1:4"];
    expected.extend(production);
    assert_eq!(origins(&trial, 0), expected);
    assert_eq!(trial.destinations[0].shape.by_url().unwrap().route, Route::Base);

    let file = "[[destination]]\nname = \"events-api\"\norigins = [\"https://A.example:443/\", \"https://a.example\"]\n\
                [[destination]]\nname = \"own\"\nbase_url = \"http://b.example\"\ntarget = \"verbatim\"";
    let plan = self::plan(file, &[]).unwrap();
    assert_eq!(origins(&plan, 0), [production[0], "https://a.example"]);
    assert_eq!(origins(&plan, 1), ["http://b.example"]);
}

#[test]
fn an_origin_that_is_none_is_refused() {
    let file = "[[destination]]\nname = \"events-api\"\norigins = [\"https://a.example/x\", \"a\"]\n\
                [[destination]]\nname = \"hook\"\nbase_url = \"https://b.example/hook\"\norigins = []";
    let faults = plan(file, &[]).unwrap_err();
    for line in [
        "holds \"https://a.example/x\", which has more than scheme, host and port",
        "holds \"a\", which is no absolute URL",
        "destination \"hook\".origins says where event URLs go, but every event goes to one path",
    ] {
        assert!(faults.contains(line), "{line:?} is not in:\n{faults}");
    }
}

#[test]
fn what_cannot_be_gone_through_or_believed_is_refused() {
    let file = r#"
[[destination]]
name = "events-api"
origins = ["https://10.0.0.1", "http://[::1]"]
proxy = "https://proxy.example:3128"
ca_file = "none.pem"
connection_max_age = "0 s"
[[destination]]
name = "own"
base_url = "http://127.0.0.1:8090"
proxy = "http://user:hush@proxy.example"
allow_private = "yes"
ca_file = "relay.toml"
[[destination]]
name = "hook"
base_url = "http://b.example"
proxy_credentials_env = "CREDENTIALS"
"#;
    let faults = plan(file, &[("CREDENTIALS", "user:hush")]).unwrap_err();
    for line in [
        "origins holds https://10.0.0.1, a private address",
        "origins holds http://[::1], a private address",
        "proxy is spoken to over TLS, which is not supported",
        "ca_file names none.pem, which cannot be read",
        "connection_max_age lets no connection be used twice",
        "proxy holds a user name or password",
        "allow_private is a text, not true or false",
        "ca_file names relay.toml, which holds no PEM certificate",
        "proxy_credentials_env stands without a proxy",
    ] {
        assert!(faults.contains(line), "{line:?} is not in:\n{faults}");
    }
    assert!(!faults.contains("hush"), "{faults}");
}

#[test]
fn what_cannot_stand_above_a_body_is_refused_and_no_secret_is_told() {
    let file = r#"
[[destination]]
name = "hook"
base_url = "http://b.example"
method = "GET"
auth = { type = "basic", token_env = "TOKEN", token_fil = "x" }
sign = { type = "standard-webhooks", secret_env = "TOKEN" }
[destination.headers]
authorization = "Bearer x"
host = "c.example"
x-number = 5
x-nothing = {}
x-secret = { env = "UNSET" }
"a b" = "c"
[[destination]]
name = "bare"
base_url = "http://b.example"
forward_headers = ["Cookie", "x-shop", "Content-Encoding", "user-agent"]
client_ip_header = "user-agent"
headers = { X-Shop = "12" }
auth = {}
sign = { secret_env = "SHORT" }
"#;
    let faults = plan(file, &[("TOKEN", "hush?"), ("SHORT", "whsec_aHVzaA==")]).unwrap_err();
    for line in [
        r#"destination "hook".method is "GET""#,
        r#"destination "hook".auth.type is "basic""#,
        r#"destination "hook".auth.token_fil is not a setting"#,
        r#"destination "hook".sign.secret_env holds a secret that is no base64"#,
        r#"destination "hook".headers.authorization holds credentials"#,
        r#"destination "hook".headers.host belongs to the connection"#,
        r#"destination "hook".headers.x-number is no header's value"#,
        r#"destination "hook".headers.x-nothing.env is missing"#,
        r#"destination "hook".headers.x-secret.env names the variable UNSET, which is not set"#,
        r#"destination "hook".headers.a b is no header's name"#,
        r#"destination "bare".forward_headers holds "Cookie", which holds credentials"#,
        r#"destination "bare".forward_headers holds "x-shop", which stands in `headers` too"#,
        r#"destination "bare".forward_headers holds "Content-Encoding", which speaks of the body"#,
        r#"destination "bare".client_ip_header stands in `headers` or `forward_headers` too"#,
        r#"destination "bare".auth.type is missing"#,
        r#"destination "bare".auth.token_env is missing"#,
        r#"destination "bare".sign.type is missing"#,
        r#"destination "bare".sign.secret_env holds a secret of less than 24 bytes"#,
    ] {
        assert!(faults.contains(line), "{line:?} is not in:\n{faults}");
    }
    assert!(!faults.contains("hush") && !faults.contains("aHVzaA"), "{faults}");
}

#[test]
fn a_table_of_the_same_name_overrides_member_by_member() {
    let file = "[[destination]]\nname = \"events-api\"\nretry = { wait_first = \"200 ms\" }\n\
                [[source]]\nname = \"beacon-conversion\"\ndedupe = false";
    let plan = plan(file, &[]).unwrap();
    let backoff = plan.destinations[0].backoff;
    assert_eq!((backoff.wait_first.as_millis(), backoff.wait_max.as_secs()), (200, 900));
    assert_eq!(plan.destinations[0].concurrency, 32);
    assert!(plan.sources[0].dedupe.is_none());
    assert_eq!(plan.sources.len(), 4);
}

#[test]
fn every_fault_is_told_at_once_with_place_and_remedy() {
    let file = r#"
[server]
listen = "0.0.0.0:8080"
body_max = 5
head_within = "15"
lisen = "x"

[[source]]
name = "hook"
kind = "notification"
path = "/hook"
schema = "schemas/none.json"
auth = { type = "none" }
to = ["backoffice"]

[[source]]
name = "hook2"
kind = "click"
path = "/v1/beacon/conversion"
schema = "schemas/ad-event.json"
to = ["events-api"]
dedupe = { key = ["order_id"] }

[[destination]]
name = "no url"
[[destination]]
name = "loop"
base_url = "http://user:pass@host"
target = "hooks"
retry = { wait_first = "0 s", wait_frist = "1 s" }
[surprise]
"#;
    let faults = plan(file, &[("BEACON_RELAY_SERVER__GRACE", "soon")]).unwrap_err();
    let expected = [
        "environment variable BEACON_RELAY_SERVER__GRACE: server.grace is not a quantity",
        "relay.toml:3:1: server.listen is 0.0.0.0:8080, where anyone could post",
        "relay.toml:4:1: server.body_max is a number, not a text",
        "relay.toml:5:1: server.head_within has no unit",
        "relay.toml:6:1: server.lisen is not a setting",
        "did you mean \"listen\"?",
        "relay.toml:12:1: source \"hook\".schema names \"schemas/none.json\", which is not there",
        "relay.toml:14:1: source \"hook\".to names \"backoffice\", which is no destination",
        "relay.toml:19:1: source \"hook2\".path and the path of source \"beacon-conversion\" take",
        "source \"hook2\".dedupe.key holds \"order_id\"",
        "source \"hook2\".dedupe.window is missing",
        "destination \"no url\".name is no name",
        "destination \"no url\".base_url is missing",
        "destination \"loop\".base_url holds a user name",
        "destination \"loop\".target is no path",
        "destination \"loop\".retry.wait_first is no wait",
        "destination \"loop\".retry.wait_frist is not a setting",
        "relay.toml:31:2: surprise is not a setting",
    ];
    for line in expected {
        assert!(faults.contains(line), "{line:?} is not in:\n{faults}");
    }
    assert!(faults.ends_with("faults"), "{faults}");
}

#[test]
fn every_fault_of_a_client_is_told() {
    let digest = |key: &str| format!("{:x}", KeyDigest::of(key.as_bytes()));
    let (one, two) = (digest("one"), digest("two"));
    let file = format!(
        r#"
[[client]]
name = "bare"
[[client]]
name = "typo"
key_sha256 = "{one}"
source = ["beacon-click"]
[[client]]
name = "typo"
key_sha256 = ["{two}", "{one}"]
sources = ["beacon-clik"]
publishers = []
[[client]]
name = "three"
key_sha256 = ["{two}", "{two}", "{empty}", "secret"]
rate = "5/d"
[[client]]
name = "page"
origins = ["https://shop.example", "shop.example", "https://shop.example/path"]
key_sha256 = "{one}"
[[client]]
name = "other-page"
origins = ["https://shop.example:443"]
[server]
trusted_proxies = ["10.0.0.1/8", "all"]
cors_origins = ["*"]
rate_per_address = "many"
"#,
        empty = digest("")
    );
    let faults = plan(&file, &[]).unwrap_err();
    let expected = [
        "relay.toml:2:1: client \"bare\".key_sha256 is missing",
        "relay.toml:7:1: client \"typo\".source is not a setting\n  remedy: did you mean \"sources\"?",
        "relay.toml:9:1: client \"typo\".name is taken by another client",
        "relay.toml:10:1: client \"typo\".key_sha256 holds a key of client \"typo\"",
        "relay.toml:11:1: client \"typo\".sources names \"beacon-clik\", which is no source",
        "relay.toml:12:1: client \"typo\".publishers names nothing",
        "relay.toml:15:1: client \"three\".key_sha256 holds 4 digests",
        "client \"three\".key_sha256 holds one digest twice",
        "client \"three\".key_sha256 is the SHA-256 of an empty text",
        "client \"three\".key_sha256 is no SHA-256",
        "relay.toml:16:1: client \"three\".rate is no rate: write \"50/s\"",
        "relay.toml:19:1: client \"page\".origins names \"shop.example\", which is no absolute URL",
        "client \"page\".origins names \"https://shop.example/path\", which has more than scheme",
        "relay.toml:20:1: client \"page\".key_sha256 stands beside origins",
        "relay.toml:23:1: client \"other-page\".origins holds https://shop.example, which is client",
        "server.trusted_proxies names \"10.0.0.1/8\", which has an address that does not begin",
        "server.trusted_proxies names \"all\", which is no block of addresses",
        "server.cors_origins names \"*\", which is no absolute URL",
        "server.rate_per_address is no rate",
    ];
    for line in expected {
        assert!(faults.contains(line), "{line:?} is not in:\n{faults}");
    }
    assert!(!faults.contains(&one) && !faults.contains("secret"), "{faults}");
}

#[test]
fn a_client_lets_the_relay_listen_anywhere() {
    let client = format!("[[client]]\nname = \"a\"\nkey_sha256 = \"{:x}\"", KeyDigest::of(b"k"));
    let anywhere = "[server]\nlisten = \"0.0.0.0:8080\"\n";
    let told = plan(anywhere, &[]).unwrap_err();
    assert!(told.contains("add a [[client]]"), "{told}");
    let strangers = |file: &str| plan(file, &[]).unwrap().access.strangers;
    assert_eq!(strangers(&format!("{anywhere}{client}")), Strangers::Refused);
    assert_eq!(strangers(&format!("{anywhere}auth = \"open\"\n{client}")), Strangers::Taken);
    assert_eq!(strangers(&client), Strangers::Refused);
    assert_eq!(strangers(""), Strangers::Taken);
}

#[test]
fn what_a_source_makes_of_its_bodies_is_written_and_checked() {
    let hook = |decode: &str| {
        format!(
            "[[source]]\nname = \"hook\"\nkind = \"click\"\npath = \"/hook\"\n{decode}\n\
             schema = \"schemas/ad-event.json\"\nto = [\"events-api\"]"
        )
    };
    let decode = |written: &str| plan(&hook(written), &[]).map(|plan| plan.sources[4].decode);
    assert_eq!(decode(""), Ok(Decode::Json));
    assert_eq!(decode(r#"decode = { POST = "json" }"#), Ok(Decode::Json));
    assert_eq!(decode(r#"decode = { POST = "beacon" }"#), Ok(Decode::Beacon));
    let built_in = plan("", &[]).unwrap().sources;
    let built_in: Vec<Decode> = built_in.iter().map(|source| source.decode).collect();
    assert_eq!(built_in, [Decode::Json, Decode::Beacon, Decode::Beacon, Decode::Beacon]);
    for (written, told, remedy) in [
        (r#"decode = { POST = "from" }"#, "decode.POST is \"from\"", r#"write "json" or "beacon""#),
        (r#"decode = { PUT = "json" }"#, "decode.PUT is not a setting", "POST"),
        ("decode = {}", "decode.POST is missing", r#"write decode = { POST = "json" }"#),
        (r#"decode = "json""#, "decode is a text, not a table", ""),
    ] {
        let faults = decode(written).unwrap_err();
        assert!(faults.contains(told) && faults.contains(remedy), "{faults}");
    }
    let faults = plan("[server]\ninflate_ratio_max = 0", &[]).unwrap_err();
    assert!(faults.contains("server.inflate_ratio_max is 0"), "{faults}");
}

#[test]
fn what_is_not_toml_is_told_with_its_place() {
    let faults = plan("[server\nlisten = ", &[]).unwrap_err();
    assert!(faults.starts_with("relay.toml:1:"), "{faults}");
}

#[test]
fn a_secret_that_is_not_there_is_a_fault_and_never_shown() {
    let file = "[admin]\ntoken_env = \"RELAY_ADMIN_TOKEN\"";
    let faults = plan(file, &[]).unwrap_err();
    assert!(faults.contains("names the variable RELAY_ADMIN_TOKEN, which is not set"), "{faults}");
    let plan = plan(file, &[("RELAY_ADMIN_TOKEN", "hush-hush")]).unwrap();
    assert!(!format!("{plan:?}").contains("hush-hush"));
}

/// Wherever the relay is started from: as certificates and schemas are.
#[test]
fn a_secrets_file_is_found_from_the_file_that_names_it() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("relay.toml");
    std::fs::write(&file, "[admin]\ntoken_file = \"token\"").unwrap();
    let layers = || Layers { file: Some(file.clone()), ..Layers::default() };
    let faults = layers().plan().unwrap_err().to_string();
    let secret = dir.path().join("token");
    let told = format!("admin.token_file names {}, which cannot be read", secret.display());
    assert!(faults.contains(&told), "{faults}");
    std::fs::write(&secret, "hush-hush\n").unwrap();
    assert!(layers().plan().unwrap().admin.token.is_some());
}

#[test]
fn every_example_would_run() {
    let examples = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("config/examples");
    let mut seen = 0;
    for entry in std::fs::read_dir(examples).unwrap() {
        let file = entry.unwrap().path();
        let secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw".to_owned();
        let environment = vec![("BACKOFFICE_SECRET".to_owned(), secret)];
        let layers = Layers { file: Some(file.clone()), environment, ..Layers::default() };
        layers.plan().unwrap_or_else(|faults| panic!("{}: {faults}", file.display()));
        seen += 1;
    }
    assert!(seen >= 2);
}

#[test]
fn publishers_of_several_sites_are_named_in_sources_of_orders() {
    let file = r#"
[[source]]
name = "beacon-conversion"
multi_site = ["pub-9", "", "pub-9"]
[[source]]
name = "beacon-view"
multi_site = ["pub-9"]
[[source]]
name = "beacon-click"
multi_site = "pub-9"
[[source]]
name = "orders"
kind = "conversion"
path = "/v1/validate/beacon"
schema = "anything.json"
multi_site = ["pub-9"]
to = ["events-api"]
"#;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("relay.toml");
    std::fs::write(&path, file).unwrap();
    std::fs::write(dir.path().join("anything.json"), "true").unwrap();
    let faults = Layers { file: Some(path), ..Layers::default() }.plan().unwrap_err().to_string();
    for line in [
        "source \"beacon-conversion\".multi_site holds an empty publisher id",
        "source \"beacon-conversion\".multi_site names \"pub-9\" twice",
        "source \"beacon-view\".multi_site is about orders, which this source does not take",
        "source \"beacon-click\".multi_site is a text, not a list of texts",
        "source \"orders\".path is taken by the relay itself",
        "source \"orders\".multi_site cannot make brand required by \"anything.json\"",
    ] {
        assert!(faults.contains(line), "{line:?} is not in:\n{faults}");
    }
}

#[test]
fn bounds_of_dead_letters_that_keep_none_are_refused() {
    let faults = plan("[spool]\ndead_max_bytes = \"1 KiB\"\ndead_max_age = \"0 s\"", &[]);
    let faults = faults.unwrap_err();
    assert!(faults.contains("spool.dead_max_bytes is too small"), "{faults}");
    assert!(faults.contains("spool.dead_max_age is no time"), "{faults}");
    let kept = plan("[spool]\ndead_max_bytes = \"3 MiB\"\ndead_max_age = \"2 d\"", &[]).unwrap();
    assert_eq!((kept.spool.dead_max_bytes, kept.spool.dead_max_age.as_secs()), (3 << 20, 172_800));
}

#[test]
fn a_profile_or_alias_that_cannot_be_used_is_refused() {
    let file = r#"
[pii.order]
email_spaces = "single"
phone_region = "Brazil"
rules = [
  { from = "/email", to = "/email_hashed", as = "e-mail" },
  { from = "phone", to = "/a b", as = "phone-e164" },
  { from = "/a", to = "/b", as = "name" },
  { from = "/b", to = "/c", as = "name" },
  { form = "/x" },
]
[pii.bare]
[pii.own]
rules = [{ from = "/x", to = "/email", as = "email" }]
[[source]]
name = "beacon-conversion"
pii = "own"
aliases = [
  { rename = "/*", to = "a" },
  { copy = "/a", to = "b/c" },
  { rename = "/a", copy = "/a", to = "b" },
  { to = "b" },
]
[[source]]
name = "beacon-click"
pii = "orders"
utc = true
"#;
    let faults = plan(file, &[]).unwrap_err();
    for line in [
        "relay.toml:3:1: pii.order.email_spaces is \"single\"",
        "relay.toml:4:1: pii.order.phone_region is no region with a numbering plan",
        "rules.as is \"e-mail\"",
        "rules.from is no top-level member",
        "rules.to is no top-level member",
        "rules.from or `to` is named twice in this profile",
        "rules.form is not a setting",
        "rules.from is missing",
        "pii.bare.rules is missing",
        "source \"beacon-conversion\".pii writes a digest to /email, which the schema forbids",
        "aliases.rename is no path",
        "aliases.to is no name",
        "aliases.rename is missing",
        "source \"beacon-click\".pii names \"orders\", which is no profile",
        "add a [pii.orders] table, or use one of: bare, order, own",
        "source \"beacon-click\".utc is about an order's time",
    ] {
        assert!(faults.contains(line), "{line:?} is not in:\n{faults}");
    }
}

#[test]
fn a_schema_that_lets_plain_identity_pass_is_warned_of() {
    assert_eq!(plan("", &[]).unwrap().warnings(Timestamp::from_millis(0)), [""; 0]);
    let wire =
        "[[source]]\nname = \"beacon-conversion\"\nschema = \"schemas/conversion-wire.json\"";
    assert_eq!(plan(wire, &[]).unwrap().warnings(Timestamp::from_millis(0)), [""; 0]);
    let dir = TempDir::new().unwrap();
    let file = dir.path().join("own.json");
    let text = r#"{"properties":{"email":false,"phone":{"type":"number"},"user_id":{"pattern":"^u-"},
        "email_hashed":{"pattern":"^[0-9a-f]{64}$"}}}"#;
    std::fs::write(&file, text).unwrap();
    let own = |more: &str| {
        let file = format!("[[source]]\nname = \"beacon-conversion\"\nschema = {file:?}\n{more}");
        plan(&file, &[]).unwrap().warnings(Timestamp::from_millis(0)).join("\n")
    };
    let warned = own("");
    for line in [
        "raw identity in social_id, first_name, last_name; [pii.order] turns away what it names",
        "tax ids in phone_hashed, social_id_hashed, first_name_hashed, last_name_hashed, which",
    ] {
        assert!(warned.contains(line), "{line:?} is not in:\n{warned}");
    }
    assert!(own("pii = false").contains("last_name, and they would be stored and sent"));
}

#[test]
fn a_key_of_the_spool_comes_from_outside_and_is_never_quoted() {
    let file = "[spool]\nencryption_key_env = \"SPOOL_KEY\"";
    let key = "ab".repeat(32);
    let keyed = plan(file, &[("SPOOL_KEY", key.as_str())]).unwrap();
    assert!(keyed.spool.keys.is_active());
    assert!(!format!("{keyed:?}").contains("abab"));
    assert!(!plan("", &[]).unwrap().spool.keys.is_active());
    let short = plan(file, &[("SPOOL_KEY", &key[1..])]).unwrap_err();
    assert!(short.contains("spool.encryption_key_env holds what is no key of 32 bytes"), "{short}");
    assert!(short.contains("openssl rand -hex 32") && !short.contains("abab"), "{short}");
    let twice = format!("{key} {key}");
    let twice = plan(file, &[("SPOOL_KEY", twice.as_str())]).unwrap_err();
    assert!(twice.contains("holds the same key twice"), "{twice}");
    let unset = plan(file, &[]).unwrap_err();
    assert!(unset.contains("names the variable SPOOL_KEY, which is not set"), "{unset}");
}

#[test]
fn one_fault_is_told_once_and_with_its_remedy() {
    let told = |file: &str, environment: &[(&str, &str)]| plan(file, environment).unwrap_err();
    let own = |line: &str| format!("[[destination]]\nname = \"events-api\"\n{line}");
    for (file, environment, says) in [
        // What is sent there by the built-in sources is no fault of theirs.
        (own("target = \"hooks\""), &[][..], "write \"verbatim\" or a path as \"/hooks\""),
        (own("origins = \"https://x\""), &[], "write it in brackets, as [\"…\", \"…\"]"),
        (own("concurrency = \"5\""), &[], "write digits alone, without quotes"),
        (own("allow_private = \"yes\""), &[], "write true or false, without quotes"),
        (own("max_age = \"1 d\""), &[], "write it in braces, as { key = value }"),
        (
            own("max_age = { click = \"0 s\" }"),
            &[],
            "relay.toml:3:13: destination \"events-api\".max_age.click lets every event expire before it is sent",
        ),
        (
            own("retry = { wait_first = \"20 m\" }"),
            &[],
            "relay.toml:3:11: destination \"events-api\".retry.wait_first is longer than wait_max\n  remedy: wait_max is at least",
        ),
        (
            "[server]\nbody_max = 12".to_owned(),
            &[],
            "write it in quotes, a time or a size with its unit",
        ),
        ("[admin]\ntoken = \"t\"".to_owned(), &[], "did you mean \"token_env\"?"),
        ("foo = 1".to_owned(), &[], "known here: admin, client"),
        (
            String::new(),
            &[("BEACON_RELAY_SERVER__CORS_ORIGINS", "https://a.example")],
            "write it in a file: variables and flags hold one value",
        ),
    ] {
        let faults = told(&file, environment);
        assert!(faults.contains(says), "{says:?} is not in:\n{faults}");
        assert!(faults.ends_with("the configuration has 1 fault"), "{faults}");
    }
}

#[test]
fn a_path_of_its_own_takes_the_place_of_the_built_in_event_urls() {
    let own = |line: &str| format!("[[destination]]\nname = \"events-api\"\n{line}");
    let fixed = plan(&own("target = \"/hooks\""), &[]).unwrap();
    assert!(fixed.destinations[0].shape.by_url().is_none());
    let both = plan(&own("target = \"/hooks\"\norigins = [\"https://a.example\"]"), &[]);
    let both = both.unwrap_err();
    assert!(both.contains("relay.toml:4:1: destination \"events-api\".origins says"), "{both}");
}
