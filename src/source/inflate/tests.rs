use std::io::Write;

use flate2::Compression;
use flate2::write::{DeflateEncoder, GzEncoder, ZlibEncoder};
use ruzstd::encoding::{CompressionLevel, compress_to_vec};

use super::*;

const MOST: usize = 256 << 10;

fn gzip_of(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn zlib_of(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn bare_deflate_of(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = DeflateEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn brotli_of(bytes: &[u8]) -> Vec<u8> {
    let mut coded = Vec::new();
    let params = ::brotli::enc::BrotliEncoderParams { quality: 5, ..Default::default() };
    ::brotli::BrotliCompress(&mut &*bytes, &mut coded, &params).unwrap();
    coded
}

fn zstd_of(bytes: &[u8]) -> Vec<u8> {
    compress_to_vec(bytes, CompressionLevel::Fastest)
}

/// Every coding by its name. What other programs wrote is in `tests/corpus/coded`.
type Encode = fn(&[u8]) -> Vec<u8>;
const CODINGS: [(&str, Encode); 5] = [
    ("gzip", gzip_of),
    ("br", brotli_of),
    ("zstd", zstd_of),
    ("deflate", zlib_of),
    ("deflate", bare_deflate_of),
];

fn undone(codings: &str, body: &[u8], most: usize) -> Result<Vec<u8>, InflateFault> {
    inflate(Codings::of([codings.as_bytes()]).unwrap(), body, most)
}

/// Text that compresses about as well as orders do.
fn orders(bytes: usize) -> Vec<u8> {
    let mut text = Vec::new();
    for n in 0.. {
        if text.len() >= bytes {
            break;
        }
        let sum = n * 7919 % 10_007;
        write!(text, r#"{{"sku":"{sum}","quantity":{},"price":{sum}.90}},"#, n % 7).unwrap();
    }
    text.truncate(bytes);
    text
}

#[test]
fn a_coded_body_comes_back_whole_at_every_size_up_to_the_limit() {
    for (name, encode) in CODINGS {
        for size in [1, 100, STEP - 1, STEP, STEP + 1, 2 * STEP, 200_000, MOST] {
            let body = orders(size);
            assert!(undone(name, &encode(&body), MOST) == Ok(body), "{name} {size}");
        }
        assert_eq!(undone(name, b"", MOST), Ok(Vec::new()), "{name}");
        assert_eq!(undone(name, &encode(b""), MOST), Ok(Vec::new()), "{name}");
    }
}

#[test]
fn one_byte_over_the_limit_is_too_large() {
    for (name, encode) in CODINGS {
        for most in [1, 1000, STEP, MOST] {
            let over = orders(most + 1);
            let told = undone(name, &encode(&over), most);
            assert_eq!(told, Err(InflateFault::TooLarge { most }), "{name} {most}");
            assert!(undone(name, &encode(&over[..most]), most).is_ok(), "{name} {most}");
        }
    }
}

#[test]
fn a_body_that_is_cut_off_or_goes_on_is_corrupt() {
    for (name, encode) in CODINGS {
        let coded = encode(&orders(3000));
        for end in 1..coded.len() {
            let told = undone(name, &coded[..end], MOST);
            assert_eq!(told, Err(InflateFault::Corrupt), "{name} cut at {end}");
        }
        for more in [&b"\0"[..], b"{}", b"\0\0\0\0\0\0\0\0", &coded[..4]] {
            let told = undone(name, &[&coded, more].concat(), MOST);
            assert_eq!(told, Err(InflateFault::Corrupt), "{name} goes on with {more:?}");
        }
    }
}

#[test]
fn no_damaged_byte_passes_where_the_coding_has_a_sum() {
    // Brotli and bare deflate have none: what is damaged there may be another sound body.
    for (name, encode) in [CODINGS[0], CODINGS[2], CODINGS[3]] {
        let body = orders(2000);
        let coded = encode(&body);
        for at in 0..coded.len() {
            for bit in [1, 0x80] {
                let mut damaged = coded.clone();
                damaged[at] ^= bit;
                let told = undone(name, &damaged, MOST);
                // A name or a time in gzip's head may change without the body changing.
                let sound = told.as_ref() == Ok(&body);
                assert!(sound || told.is_err(), "{name} damaged at {at} gives another body");
            }
        }
    }
}

#[test]
fn codings_on_top_of_each_other_are_undone_under_the_same_limit() {
    let body = orders(5000);
    let stacked = gzip_of(&brotli_of(&body));
    assert_eq!(undone("br, gzip", &stacked, MOST), Ok(body.clone()));
    assert_eq!(undone("gzip, br", &stacked, MOST), Err(InflateFault::Corrupt));
    let bomb = gzip_of(&gzip_of(&vec![0; 32 << 20]));
    assert!(bomb.len() < 300, "{}", bomb.len());
    assert_eq!(undone("gzip, gzip", &bomb, MOST), Err(InflateFault::TooLarge { most: MOST }));
    // What lies between counts too: here the inner body is empty and the way to it is long.
    let empties: Vec<u8> = std::iter::repeat_n([0, 0, 0, 0xff, 0xff], 60_000).flatten().collect();
    let hollow = gzip_of(&[&empties[..], &bare_deflate_of(b"{}")].concat());
    let told = undone("deflate, gzip", &hollow, MOST);
    assert_eq!(told, Err(InflateFault::TooLarge { most: MOST }));
}

#[test]
fn several_members_are_one_body_but_not_without_end() {
    for (name, encode) in [CODINGS[0], CODINGS[2]] {
        let two = [encode(b"{\"a\":"), encode(b"1}")].concat();
        assert_eq!(undone(name, &two, MOST).as_deref(), Ok(&b"{\"a\":1}"[..]), "{name}");
        let many = |count| std::iter::repeat_n(encode(b""), count).flatten().collect::<Vec<u8>>();
        assert_eq!(undone(name, &many(PARTS_MAX), MOST), Ok(Vec::new()), "{name}");
        let told = undone(name, &many(PARTS_MAX + 1), MOST);
        assert_eq!(told, Err(InflateFault::Corrupt), "{name}");
    }
    // A skippable frame before and behind, RFC 8878, section 3.1.2.
    let skipped = [&b"\x50\x2a\x4d\x18\x03\0\0\0abc"[..], &zstd_of(b"{}")].concat();
    let skipped = [&skipped[..], b"\x5f\x2a\x4d\x18\0\0\0\0"].concat();
    assert_eq!(undone("zstd", &skipped, MOST).as_deref(), Ok(&b"{}"[..]));
    let told = undone("zstd", b"\x50\x2a\x4d\x18\xff\xff\xff\xffabc", MOST);
    assert_eq!(told, Err(InflateFault::Corrupt));
}

#[test]
fn a_bomb_is_refused_for_what_it_says_before_it_is_filled() {
    // Zstandard: a frame of unknown length in a window of 8 MiB, made of blocks that repeat one
    // byte 128 KiB long. Nothing comes out of such a window before it is full.
    let block = |last: u32| ((128 << 10) << 3 | 1 << 1 | last).to_le_bytes();
    let mut frame = b"\x28\xb5\x2f\xfd\0\x68".to_vec();
    for n in 0..64 {
        frame.extend(&block(u32::from(n == 63))[..3]);
        frame.push(b' ');
    }
    assert_eq!(undone("zstd", &frame, MOST), Err(InflateFault::TooLarge { most: MOST }));
    assert_eq!(undone("zstd", &frame, 8 << 20).map(|body| body.len()), Ok(8 << 20));
    // Without its last blocks: had they been asked for, this would be a body that was cut off.
    let told = undone("zstd", &frame[..6 + 10 * 4], MOST);
    assert_eq!(told, Err(InflateFault::TooLarge { most: MOST }));
    // A window over what RFC 9659 allows.
    frame[5] = 0x69;
    assert_eq!(undone("zstd", &frame, 8 << 20), Err(InflateFault::Corrupt));
    // A content size over the limit is enough.
    let declared = [&b"\x28\xb5\x2f\xfd\xa0"[..], &(1_u32 << 20).to_le_bytes(), b"\x01\0\0"];
    let told = undone("zstd", &declared.concat(), MOST);
    assert_eq!(told, Err(InflateFault::TooLarge { most: MOST }));
    // Brotli: one metablock of 16 MiB less one, in some 20 bytes.
    let bomb = brotli_of(&vec![b' '; 16 << 20]);
    assert!(bomb.len() < 64, "{}", bomb.len());
    assert_eq!(undone("br", &bomb, MOST), Err(InflateFault::TooLarge { most: MOST }));
    // Its head alone, which says how long it is and gives no byte of it.
    let head = b"\xcb\xff\xff\x3f\0\x24\x40\xe2\xb1\x40\x72\xef";
    assert!(bomb.starts_with(head), "{:02x?}", &bomb[..head.len()]);
    assert_eq!(undone("br", head, MOST), Err(InflateFault::TooLarge { most: MOST }));
    assert_eq!(undone("br", head, 16 << 20), Err(InflateFault::Corrupt));
    assert_eq!(undone("br", &bomb, 16 << 20).map(|body| body.len()), Ok(16 << 20));
}

#[test]
fn a_coding_that_is_not_the_bodys_is_corrupt() {
    for (name, encode) in CODINGS {
        let others = CODINGS.iter().filter(|(other, _)| *other != name);
        for (other, _) in others {
            let told = undone(other, &encode(&orders(500)), MOST);
            assert!(told.is_err(), "{name} read as {other}");
        }
        for plain in [&b"{\"user_id\":\"u\"}"[..], b"{", b"\0", b"\xff\xff\xff\xff\xff\xff\xff"] {
            assert_eq!(undone(name, plain, MOST), Err(InflateFault::Corrupt), "{name} {plain:?}");
        }
    }
}
