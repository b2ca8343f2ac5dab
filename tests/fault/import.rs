//! `beacon-relay import` against a running relay: what a shop's file becomes, what is told of each
//! order, and that a run killed at any moment is gone on with.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::process::Command;

use crate::program::Program;
use crate::support::{FakeUpstream, KeptPort};

const EMAIL: &str = "xyz";

fn order(id: &str) -> Value {
    json!({
        "channel": "physical_store", "publisher_id": "pub-1", "user_id": format!("u-{id}"),
        "session_id": format!("s-{id}"), "order_id": id, "email_hashed": EMAIL,
        "items": [{"sku": "7", "quantity": 1, "price": 10.5, "promotional_price": 9}],
        "created_at": "2026-11-20T09:20:00Z",
    })
}

fn lines(ids: impl Iterator<Item = usize>) -> String {
    ids.fold(String::new(), |mut text, id| {
        writeln!(text, "{}", order(&format!("o-{id}"))).unwrap();
        text
    })
}

/// A relay, its upstream and a folder for files.
struct Shop {
    upstream: FakeUpstream,
    relay: Program,
    dir: TempDir,
}

/// How a run ended.
#[derive(Debug)]
struct Ran {
    code: Option<i32>,
    stdout: String,
    stderr: String,
}

impl Shop {
    async fn open() -> Self {
        let upstream = FakeUpstream::start().await;
        let dir = tempfile::tempdir().unwrap();
        let relay = Program::start(&dir.path().join("data"), upstream.addr()).await;
        Self { upstream, relay, dir }
    }

    fn write(&self, name: &str, bytes: impl AsRef<[u8]>) {
        fs::write(self.dir.path().join(name), bytes).unwrap();
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = import(self.dir.path(), args);
        command.args(["--to", &format!("http://{}", self.relay.listen)]);
        command
    }

    async fn import(&self, args: &[&str]) -> Ran {
        ran(self.command(args)).await
    }

    fn outcomes(&self, name: &str) -> Vec<Value> {
        let text = fs::read_to_string(self.dir.path().join(name)).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// The bodies that arrived, by their orders; each once.
    async fn arrived(&mut self, count: usize) -> BTreeMap<String, String> {
        let mut bodies = BTreeMap::new();
        for arrival in self.upstream.next_events(count).await {
            let text = String::from_utf8(arrival.body.to_vec()).unwrap();
            let order: Value = serde_json::from_str(&text).unwrap();
            let id = order["order_id"].as_str().unwrap().to_owned();
            assert!(bodies.insert(id, text).is_none(), "an order arrived twice");
        }
        bodies
    }
}

fn import(dir: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_beacon-relay"));
    command.current_dir(dir).arg("import").args(args).stdin(Stdio::null()).kill_on_drop(true);
    command
}

async fn ran(mut command: Command) -> Ran {
    let output = command.output().await.unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    let (stdout, stderr) = (text(output.stdout), text(output.stderr));
    Ran { code: output.status.code(), stdout, stderr }
}

const MAP: &str = r#"
created_at_format = "DD/MM/YYYY hh:mm"
created_at_offset = "-03:00"

[columns]
order_id = "Pedido"
created_at = ["Data", "Hora"]
user_id = "Cliente"
session_id = "Pedido"
city = "Cidade"
sku = "Código"
quantity = "Qtde"
price = "Preço"
promotional_price = "Preço pago"
email_hashed = "Resumo"

[fixed]
publisher_id = "pub-1"
channel = "physical_store"
"#;

const TABLE: &str = "Pedido;Data;Hora;Cliente;Cidade;Código;Qtde;Preço;Preço pago;Resumo;Vendedor
A-1;20/11/2026;14:05;c-1;São Paulo;7;1;1.899,00;1.799,90;xyz;Zé
A-1;20/11/2026;14:05;c-1;São Paulo;\"8;b\";2,500;10,00;9,5;xyz;Zé

A-2;20/11/2026;14:06;;Maceió;7;1;5;5;xyz;Zé
A-3;20/11/2026;14:07;c-3;Natal;7;um;5;5;xyz;Zé
;;;;;;;;;;
A-4;20/11/2026;14:08;c-4;\"Foz do \"\"Iguaçu\"\"\";9;1;0;0;xyz;Zé
";

#[tokio::test]
async fn a_till_s_table_becomes_orders_and_each_is_told_of() {
    let mut shop = Shop::open().await;
    let (bytes, _, _) = encoding_rs::WINDOWS_1252.encode(TABLE);
    shop.write("loja.csv", bytes);
    shop.write("loja.toml", MAP);
    let dry = shop.import(&["loja.csv", "--map", "loja.toml", "--dry-run", "--json"]).await;
    assert_eq!(dry.code, Some(1), "{dry:?}");
    let sums: Value = serde_json::from_str(&dry.stdout).unwrap();
    let counts =
        |sums: &Value| [&sums["orders"], &sums["duplicates"], &sums["refused"]].map(Value::as_u64);
    assert_eq!((counts(&sums), &sums["valid"]), ([Some(4), Some(0), Some(2)], &json!(2)));
    let told: Vec<&str> = dry.stderr.lines().collect();
    assert_eq!(
        told,
        [
            "columns that are not sent: Vendedor",
            "loja.csv:5: must have required property 'user_id'",
            "loja.csv:6: column Qtde: is no number with a decimal comma: write 1899,00 or 1.899,00",
        ]
    );

    let run = shop.import(&["loja.csv", "--map", "loja.toml"]).await;
    assert_eq!((run.code, run.stdout.lines().count()), (Some(1), 1), "{run:?}");
    assert!(run.stdout.contains("4 orders") && run.stdout.contains("2 accepted"), "{run:?}");
    let arrived = shop.arrived(2).await;
    let expected = concat!(
        r#"{"channel":"physical_store","publisher_id":"pub-1","user_id":"c-1","session_id":"A-1","#,
        r#""order_id":"A-1","email_hashed":"xyz","created_at":"2026-11-20T14:05:00-03:00","#,
        r#""city":"São Paulo","items":[{"sku":"7","quantity":1,"price":1899.00,"#,
        r#""promotional_price":1799.90},{"sku":"8;b","quantity":2.500,"price":10.00,"#,
        r#""promotional_price":9.5}]}"#
    );
    assert_eq!(arrived["A-1"], expected);
    assert!(arrived["A-4"].contains(r#""city":"Foz do \"Iguaçu\"""#), "{}", arrived["A-4"]);

    let outcomes = shop.outcomes("loja.csv.outcomes.ndjson");
    let brief = |told: &Value| {
        let text = |name: &str| told[name].as_str().unwrap_or("-").to_owned();
        let place = (told["line"].as_u64().unwrap(), told["last_line"].as_u64().unwrap());
        (text("order_id"), place, text("outcome"), told["status"].as_u64(), text("code"))
    };
    let told = |id: &str, lines, outcome: &str, status, code: &str| {
        (id.to_owned(), lines, outcome.to_owned(), status, code.to_owned())
    };
    assert_eq!(
        outcomes.iter().map(brief).collect::<Vec<_>>(),
        [
            told("A-1", (2, 3), "accepted", Some(202), "-"),
            told("A-2", (5, 5), "refused", Some(422), "-"),
            told("A-3", (6, 6), "refused", None, "unreadable_field"),
            told("A-4", (8, 8), "accepted", Some(202), "-"),
        ]
    );
    assert_eq!(outcomes[1]["errors"][0]["params"]["missingProperty"], "user_id");
    assert!(!shop.dir.path().join("loja.csv.import-state").exists(), "nothing to go on with");

    let again = shop.import(&["loja.csv", "--map", "loja.toml", "--json"]).await;
    let sums: Value = serde_json::from_str(&again.stdout).unwrap();
    assert_eq!(counts(&sums), [Some(4), Some(2), Some(2)], "{again:?}");
}

#[tokio::test]
async fn ndjson_goes_as_it_is_and_a_broken_line_costs_no_other() {
    let mut shop = Shop::open().await;
    let one = r#"{"channel":"x","publisher_id":"p","user_id":"u","order_id":"n-1","items":[{"sku":"7","quantity":1,"price":1899.00,"promotional_price":1e1}],"created_at":"2026-11-20T09:20:00Z","session_id":"s","email_hashed":"x","own":[ 1 ]}"#;
    let file = format!("\u{feff}{one}\r\n\n{{\"order_id\":\n{}\n{}\n", order("n-2"), order("n-2"));
    shop.write("orders.ndjson", file);
    let run = shop.import(&["orders.ndjson", "--outcomes", "told.ndjson", "--batch", "1"]).await;
    assert_eq!(run.code, Some(1), "{run:?}");
    let arrived = shop.arrived(2).await;
    assert_eq!(arrived["n-1"], one, "byte for byte");
    let outcomes = shop.outcomes("told.ndjson");
    let brief: Vec<_> = outcomes.iter().map(|told| (&told["line"], &told["outcome"])).collect();
    let told = [(1, "accepted"), (3, "refused"), (4, "accepted"), (5, "duplicate")];
    assert_eq!(json!(brief), json!(told));
    assert_eq!(outcomes[1]["code"], "malformed_json");

    shop.write("fine.ndjson", format!("{}\n", order("n-3")));
    let fine = shop.import(&["fine.ndjson"]).await;
    assert_eq!(fine.code, Some(0), "{fine:?}");
}

#[tokio::test]
async fn an_import_killed_anywhere_is_gone_on_with_and_every_order_arrives_once() {
    const ORDERS: usize = 600;
    let mut shop = Shop::open().await;
    shop.write("night.ndjson", lines(0..ORDERS));
    // At this rate it goes on for seconds behind the last goal, and dies before its end.
    let args = ["night.ndjson", "--batch", "5", "--rate", "100/s"];
    let outcomes = "night.ndjson.outcomes.ndjson";
    let path = shop.dir.path().join(outcomes);
    let written = || fs::read_to_string(&path).map_or(0, |text| text.lines().count());
    for goal in [20, 100, 200] {
        let mut child = shop.command(&args).stderr(Stdio::null()).spawn().unwrap();
        while written() < goal {
            assert_eq!(child.try_wait().unwrap(), None, "it ended before it was killed");
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        child.kill().await.unwrap();
    }
    // A changed file is no file to go on in, and nothing is sent of it.
    shop.write("night.ndjson", lines(1..ORDERS));
    let changed = shop.import(&args).await;
    assert_eq!(changed.code, Some(2), "{changed:?}");
    assert!(changed.stderr.contains("the file was changed since"), "{changed:?}");
    assert!(changed.stderr.contains("--restart"), "{changed:?}");
    shop.write("night.ndjson", lines(0..ORDERS));

    let last = shop.import(&["night.ndjson", "--batch", "5", "--json"]).await;
    assert_eq!(last.code, Some(0), "{last:?}");
    let sums: Value = serde_json::from_str(&last.stdout).unwrap();
    let counts = ["orders", "accepted", "duplicates", "refused"].map(|name| sums[name].as_u64());
    let all = Some(ORDERS as u64);
    assert_eq!(counts, [all, all, Some(0), Some(0)], "{sums}");
    // Of a batch whose outcomes are written but not counted, the relay is asked again.
    assert!(sums["before"].as_u64() >= Some(195), "{sums}");
    let told = shop.outcomes(outcomes);
    let ids: BTreeSet<&str> = told.iter().map(|told| told["order_id"].as_str().unwrap()).collect();
    assert_eq!((told.len(), ids.len()), (ORDERS, ORDERS), "one outcome an order");
    // A backlog is paced, on a busy machine slowly: each arrival has its own time.
    assert_eq!(shop.arrived(ORDERS).await.len(), ORDERS);
    shop.relay.settled().await;
}

#[tokio::test]
async fn an_interrupted_import_says_how_to_go_on() {
    let shop = Shop::open().await;
    shop.write("slow.ndjson", lines(0..100));
    let mut command = shop.command(&["slow.ndjson", "--rate", "2/s"]);
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let told = shop.dir.path().join("slow.ndjson.outcomes.ndjson");
    while fs::metadata(&told).map_or(0, |told| told.len()) == 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let pid = child.id().unwrap().to_string();
    assert!(Command::new("kill").args(["-INT", &pid]).status().await.unwrap().success());
    let output = child.wait_with_output().await.unwrap();
    let told = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{told}");
    assert!(told.contains("stopped by SIGINT after") && told.contains("goes on"), "{told}");
    let rest = shop.import(&["slow.ndjson"]).await;
    assert_eq!(rest.code, Some(0), "{rest:?}");
    assert!(rest.stderr.contains("going on behind the first"), "{rest:?}");
    assert_eq!(shop.outcomes("slow.ndjson.outcomes.ndjson").len(), 100);
}

#[tokio::test]
async fn a_file_that_is_cut_off_meanwhile_is_no_import_that_went_well() {
    let shop = Shop::open().await;
    shop.write("live.ndjson", lines(0..40));
    let args = ["live.ndjson", "--batch", "1", "--rate", "20/s"];
    let mut command = shop.command(&args);
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let told = shop.dir.path().join("live.ndjson.outcomes.ndjson");
    while fs::metadata(&told).map_or(0, |told| told.len()) == 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    shop.write("live.ndjson", lines(0..5));
    let output = child.wait_with_output().await.unwrap();
    let told = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{told}");
    assert!(told.contains("live.ndjson was changed while it was read"), "{told}");
    let again = shop.import(&args).await;
    assert_eq!(again.code, Some(2), "{again:?}");
    assert!(again.stderr.contains("the file was changed since"), "{again:?}");
    shop.write("live.ndjson", lines(0..40));
    let whole = shop.import(&["live.ndjson", "--restart"]).await;
    assert_eq!(whole.code, Some(0), "{whole:?}");
    assert!(whole.stdout.contains("40 orders"), "{whole:?}");
}

#[tokio::test]
async fn a_relay_that_is_away_for_a_while_is_waited_for() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("o.ndjson"), lines(0..3)).unwrap();
    let kept = KeptPort::any();
    let to = format!("http://{}", kept.addr());
    let run = ran(import(dir.path(), &["o.ndjson", "--to", &to, "--patience", "300 ms"])).await;
    assert_eq!(run.code, Some(1), "{run:?}");
    assert!(run.stderr.contains("the relay does not answer"), "{run:?}");
}

#[tokio::test]
async fn a_file_or_a_call_that_is_wrong_is_refused_with_its_place_and_sends_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let secret = "4111-secret";
    let head = "order_id,publisher_id,created_at,sku,quantity,price,promotional_price";
    let row = |id: &str, price: &str| format!("{id},p,2026-11-20T09:20:00Z,7,1,\"{price}\",1");
    let file = |rows: &[String]| format!("{head}\n{}\n", rows.join("\n"));
    let extra = format!("{},{secret}", row("b", "1"));
    for (name, text, told) in [
        ("empty.csv", String::new(), "line 1: the file is empty"),
        ("empty.ndjson", "\u{feff}\n \n".to_owned(), "empty.ndjson: the file is empty"),
        ("cut.csv", file(&[format!("{},\"{secret}", row("a", "1"))]), "line 2: a quote has no end"),
        ("headless.csv", format!("{secret},p\n"), "line 1: no column for publisher_id, order_id"),
        ("long.csv", file(&[row("a", "1"), extra]), "line 3: the line has 8 fields where"),
        (
            "apart.csv",
            file(&[row("a", "1"), row("b", "1"), row("a", "2")]),
            "line 4: this order began at line 2 already",
        ),
        (
            "signs.csv",
            file(&[row("a", "1,5"), row("b", "1.5")]),
            "line 3, column price: another decimal sign than at line 2",
        ),
        ("either.csv", file(&[row("a", "1,500")]), "line 2, column price: the number can be read"),
        (
            "quote.csv",
            format!("{}\n\"{}", file(&[row("a", "1")]), "x".repeat(2 << 20)),
            "a line is over 1 MiB; a quote may lack its end",
        ),
    ] {
        fs::write(dir.path().join(name), text).unwrap();
        let run = ran(import(dir.path(), &[name, "--dry-run"])).await;
        assert_eq!((run.code, run.stdout.as_str()), (Some(2), ""), "{name}: {run:?}");
        assert!(run.stderr.contains(told), "{name}: {run:?}");
        assert!(!run.stderr.contains(secret), "{name} told a value");
    }
    fs::write(dir.path().join("fine.ndjson"), lines(0..1)).unwrap();
    for (args, told) in [
        (&["none.csv"][..], "cannot read none.csv"),
        (&["."], "is no file"),
        (&["fine.ndjson", "--to", "relay"], "--to is no URL"),
        (&["fine.ndjson", "--key-env", "NO_SUCH_KEY"], "NO_SUCH_KEY holds no key"),
        (&["fine.ndjson", "--map", "none.toml"], "cannot read none.toml"),
        (&["fine.ndjson", "--rate", "fast"], "is no rate"),
        (&["fine.ndjson", "--outcomes", "."], "the outcomes . cannot be written"),
        (&["fine.ndjson", "--outcomes", "fine.ndjson"], "holds something else than outcomes"),
        (&["fine.ndjson", "--outcomes", "long.csv"], "holds something else than outcomes"),
    ] {
        let run = ran(import(dir.path(), args)).await;
        assert_eq!(run.code, Some(2), "{run:?}");
        assert!(run.stderr.contains(told), "{run:?}");
    }
    assert!(!dir.path().join("fine.ndjson.import-state").exists());
    let kept = fs::read_to_string(dir.path().join("fine.ndjson")).unwrap();
    assert_eq!(kept, lines(0..1), "the input is no file of outcomes");
}

#[tokio::test]
async fn a_key_lets_a_shop_in_and_lets_raw_identity_be_hashed() {
    let mut upstream = FakeUpstream::start().await;
    let dir = tempfile::tempdir().unwrap();
    let made = ran({
        let mut command = Command::new(env!("CARGO_BIN_EXE_beacon-relay"));
        command.args(["key", "new", "shop", "--json"]);
        command
    });
    let made: Value = serde_json::from_str(&made.await.stdout).unwrap();
    let config = dir.path().join("relay.toml");
    fs::write(&config, made["table"].as_str().unwrap()).unwrap();
    let data = dir.path().join("data");
    let relay = Program::start_with(&data, upstream.addr(), &config).await;
    let head = "order_id,publisher_id,user_id,session_id,channel,created_at,sku,quantity,price,promotional_price,E-mail";
    let map = "[columns]\nemail = \"E-mail\"\n";
    let row = "k-1,p,u,s,physical_store,2026-11-20T09:20:00Z,7,1,5,5, Ana@Shop.example ";
    fs::write(dir.path().join("o.csv"), format!("{head}\n{row}\n")).unwrap();
    fs::write(dir.path().join("m.toml"), map).unwrap();
    let to = format!("http://{}", relay.listen);
    let args = ["o.csv", "--map", "m.toml", "--to", &to];
    let stranger = ran(import(dir.path(), &args)).await;
    assert_eq!(stranger.code, Some(1), "{stranger:?}");
    assert!(stranger.stderr.contains("401 unauthorized"), "{stranger:?}");
    assert!(stranger.stderr.contains("--key-env"), "{stranger:?}");
    // Beforehand, by a configuration that knows no client: as for whom the order is meant.
    let dry = ["o.csv", "--map", "m.toml", "--dry-run"];
    let strange = ran(import(dir.path(), &dry)).await;
    assert_eq!(strange.code, Some(1), "{strange:?}");
    assert!(strange.stderr.contains("o.csv:2: /email boolean schema is false"), "{strange:?}");
    assert!(strange.stderr.contains("raw identity is refused"), "{strange:?}");
    let mut command = import(dir.path(), &dry);
    command.args(["--key-env", "SHOP_KEY"]);
    let own = ran(command).await;
    assert_eq!((own.code, own.stderr.as_str()), (Some(0), ""), "{own:?}");
    let mut command = import(dir.path(), &args);
    command.args(["--key-env", "SHOP_KEY"]).env("SHOP_KEY", made["key"].as_str().unwrap());
    let known = ran(command).await;
    assert_eq!(known.code, Some(0), "{known:?}");
    let body = upstream.next_event().await.body.clone();
    let text = String::from_utf8(body.to_vec()).unwrap();
    assert!(text.contains("email_hashed") && !text.contains("Ana"), "{text}");
}
