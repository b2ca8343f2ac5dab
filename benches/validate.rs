//! What a check costs beside the parse of the same bytes.
//!
//! Each round measures every row once, in turn, so that a busy machine slows all of them; a row
//! shows its fastest round. The goal: a valid order within 0.15 of its serde_json parse.

use std::hint::black_box;
use std::time::{Duration, Instant};

use beacon_relay::json::{self, Node};
use beacon_relay::schema::Schema;

const ROUNDS: usize = 40;
const CHECKS_A_ROUND: u32 = 2_000;

/// An order as long as the vendor's example, with this many items.
fn order(items: usize) -> String {
    let item = |n| {
        format!(
            r#"{{"sku":"1222{n}","seller_id":"1234","product_id":"4567","quantity":1,"price":2000.00,"promotional_price":1899.00}}"#
        )
    };
    let items: Vec<String> = (0..items).map(item).collect();
    format!(
        r#"{{"channel":"ecommerce","publisher_id":"xxx","user_id":"6f92d1e9-00b6-4f8b-9645-faeab321e1cc","session_id":"5898b8d1-c250-4bb5-931b-8b9d0ee7b499","order_id":"123","email_hashed":"62a14e44f765419d10fea99367361a727c12365e2520f32218d505ed9aa0f62f","items":[{}],"created_at":"2023-01-01T09:20:00Z"}}"#,
        items.join(",")
    )
}

fn timed(work: &dyn Fn()) -> Duration {
    let start = Instant::now();
    for _ in 0..CHECKS_A_ROUND {
        work();
    }
    start.elapsed() / CHECKS_A_ROUND
}

fn parsed(text: &str) -> Node<'_> {
    match json::parse(text.as_bytes(), 64) {
        Ok(node) => node,
        Err(why) => panic!("{why}"),
    }
}

fn main() {
    let file = include_str!("../config/schemas/conversion-documented.json");
    let schema = match Schema::compile("conversion-documented.json", file) {
        Ok(schema) => schema,
        Err(why) => panic!("{why}"),
    };
    for items in [2, 50] {
        let text = order(items);
        let broken = text.replace("\"sku\":", "\"ksu\":").replace("user_id", "resu_id");
        let (valid, invalid) = (parsed(&text), parsed(&broken));
        assert!(schema.is_valid(&valid) && schema.check(&invalid).len() == items + 1);
        let rows: [(&str, &dyn Fn()); 6] = [
            ("serde_json into Value", &|| {
                black_box(serde_json::from_str::<serde_json::Value>(black_box(&text)).ok());
            }),
            ("our own parse", &|| {
                black_box(json::parse(black_box(text.as_bytes()), 64).ok());
            }),
            ("is_valid, valid", &|| {
                black_box(schema.is_valid(black_box(&valid)));
            }),
            ("check, valid", &|| {
                black_box(schema.check(black_box(&valid)));
            }),
            ("is_valid, invalid", &|| {
                black_box(schema.is_valid(black_box(&invalid)));
            }),
            ("check and to_json, invalid", &|| {
                black_box(schema.check(black_box(&invalid)).to_json());
            }),
        ];
        let mut best = [Duration::MAX; 6];
        for _ in 0..ROUNDS {
            for (best, (_, work)) in best.iter_mut().zip(rows) {
                *best = timed(work).min(*best);
            }
        }
        println!("{items} items, {} bytes", text.len());
        let parse = best[0].as_secs_f64();
        for (best, (name, _)) in best.iter().zip(rows) {
            println!("  {name:28} {best:>10.3?}  x {:.3}", best.as_secs_f64() / parse);
        }
    }
}
