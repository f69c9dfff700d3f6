//! Examples of RFC 7541, our own blocks read back, and anything else without a panic.

use proptest::prelude::*;

use super::*;

fn decode(decoder: &mut Decoder, block: &[u8]) -> Result<Vec<(String, String)>, Invalid> {
    let mut fields = Vec::new();
    decoder.decode(block, |name, value, _| {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        fields.push((text(name), text(value)));
    })?;
    Ok(fields)
}

fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text
        .bytes()
        .filter_map(|byte| char::from(byte).to_digit(16).map(|digit| digit as u8))
        .collect();
    digits
        .chunks(2)
        .map(|pair| pair[0] << 4 | pair[1])
        .collect()
}

#[test]
fn three_requests_share_a_dynamic_table() {
    // RFC 7541 C.4.
    let mut decoder = Decoder::default();
    for (block, last) in [
        (
            "8286 8441 8cf1 e3c2 e5f2 3a6b a0ab 90f4 ff",
            (":authority", "www.example.com"),
        ),
        (
            "8286 84be 5886 a8eb 1064 9cbf",
            ("cache-control", "no-cache"),
        ),
        (
            "8287 85bf 4088 25a8 49e9 5ba9 7d7f 8925 a849 e95b b8e8 b4bf",
            ("custom-key", "custom-value"),
        ),
    ] {
        let fields = decode(&mut decoder, &hex(block)).expect("valid");
        let (name, value) = fields.last().expect("a field");
        assert_eq!((name.as_str(), value.as_str()), last);
    }
    assert_eq!((decoder.table.len(), decoder.size), (3, 164));
}

#[test]
fn what_no_encoder_may_send_is_refused() {
    for (block, why) in [
        ("80", "index 0"),
        ("be", "beyond the tables"),
        ("3fe21f", "a table larger than announced"),
        ("82 20", "a resize after a field"),
        ("ffffffffff7f", "an integer without end"),
        ("000a61", "a string that is cut"),
        ("00 82 ffff 00", "a string with too much padding"),
    ] {
        assert_eq!(
            decode(&mut Decoder::default(), &hex(block)),
            Err(Invalid),
            "{why}"
        );
    }
}

#[test]
fn a_field_larger_than_the_table_empties_it() {
    let mut decoder = Decoder::default();
    decode(&mut decoder, &hex("40 01 61 01 62")).expect("valid");
    assert_eq!(decoder.table.len(), 1);
    let mut block = vec![0x40, 1, b'a'];
    write_integer(&mut block, 5000, 7, 0);
    block.extend([b'x'; 5000]);
    decode(&mut decoder, &block).expect("valid");
    assert_eq!((decoder.table.len(), decoder.size), (0, 0));
}

#[test]
fn a_table_can_be_made_smaller_and_larger_again() {
    let mut decoder = Decoder::default();
    decode(&mut decoder, &hex("40 01 61 01 62")).expect("valid");
    assert_eq!(
        decode(&mut decoder, &hex("20 3fe11f 82")).map(|fields| fields.len()),
        Ok(1)
    );
    assert_eq!((decoder.table.len(), decoder.limit), (0, TABLE_SIZE));
}

proptest! {
    #[test]
    fn our_own_blocks_read_back(
        status in 100u16..1000,
        fields in prop::collection::vec(("[A-Za-z-]{1,40}", "[ -~]{0,300}"), 0..20),
    ) {
        let mut block = Vec::new();
        write_status(&mut block, status);
        for (name, value) in &fields {
            write(&mut block, name.as_bytes(), value.as_bytes());
        }
        let decoded = decode(&mut Decoder::default(), &block).expect("valid");
        prop_assert_eq!(&decoded[0], &(":status".to_owned(), status.to_string()));
        let sent = fields.iter().map(|(name, value)| (name.to_lowercase(), value.clone()));
        prop_assert_eq!(&decoded[1..], &sent.collect::<Vec<_>>()[..]);
    }

    #[test]
    fn any_bytes_end_in_fields_or_in_an_error(blocks in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..200), 0..5)) {
        let mut decoder = Decoder::default();
        for block in &blocks {
            let _ = decode(&mut decoder, block);
            prop_assert!(decoder.size <= TABLE_SIZE);
        }
    }
}

#[test]
fn what_is_known_of_a_name_writes_the_same_field() {
    let mut decoder = Decoder::default();
    // Twice: as literals that enter the table, and from the table.
    let literals = b"\x40\x0auser-agent\x01a\x40\x05x-own\x01b\x58\x04host\x40\x06cookie\x01c";
    for block in [
        &literals[..],
        b"\xc1\xc0\xbf\xbe",
        b"\x0f\x0d\x013\x7b\x01d",
    ] {
        let (mut plain, mut known) = (Vec::new(), Vec::new());
        let mut seen = Vec::new();
        decoder
            .decode(block, |name, value, of_name| {
                write(&mut plain, name, value);
                write_known(&mut known, (name, of_name), value);
                seen.push(of_name);
            })
            .expect("valid");
        assert_eq!(plain, known, "{block:x?}");
        if block == b"\xc1\xc0\xbf\xbe" {
            let index = |name: &[u8]| Known::At(static_name(name).expect("known"));
            let cache = Known::At(24);
            let all = [
                index(b"user-agent"),
                Known::Nowhere,
                cache,
                index(b"cookie"),
            ];
            assert_eq!(seen, all);
        }
    }
}
