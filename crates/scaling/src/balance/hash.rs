//! xxHash64, as its specification says (Cyan4973/xxHash, `doc/xxhash_spec.md`).
//!
//! Every gateway, and every other proxy that uses this hash, maps a key to the same number.

const PRIMES: [u64; 5] = [
    0x9e37_79b1_85eb_ca87,
    0xc2b2_ae3d_27d4_eb4f,
    0x1656_67b1_9e37_79f9,
    0x85eb_ca77_c2b2_ae63,
    0x27d4_eb2f_1656_67c5,
];

/// The hash of `bytes`.
pub fn hash(bytes: &[u8]) -> u64 {
    seeded(bytes, 0)
}

/// The hash of `bytes` with a seed.
pub(crate) fn seeded(bytes: &[u8], seed: u64) -> u64 {
    let (stripes, mut rest) = bytes.as_chunks::<32>();
    let mut state = if stripes.is_empty() {
        seed.wrapping_add(PRIMES[4])
    } else {
        converge(stripes, seed)
    };
    state = state.wrapping_add(bytes.len() as u64);
    while let Some((word, after)) = rest.split_first_chunk::<8>() {
        state ^= round(0, u64::from_le_bytes(*word));
        state = state
            .rotate_left(27)
            .wrapping_mul(PRIMES[0])
            .wrapping_add(PRIMES[3]);
        rest = after;
    }
    if let Some((word, after)) = rest.split_first_chunk::<4>() {
        state ^= u64::from(u32::from_le_bytes(*word)).wrapping_mul(PRIMES[0]);
        state = state
            .rotate_left(23)
            .wrapping_mul(PRIMES[1])
            .wrapping_add(PRIMES[2]);
        rest = after;
    }
    for byte in rest {
        state ^= u64::from(*byte).wrapping_mul(PRIMES[4]);
        state = state.rotate_left(11).wrapping_mul(PRIMES[0]);
    }
    avalanche(state)
}

fn converge(stripes: &[[u8; 32]], seed: u64) -> u64 {
    let mut lanes = [
        seed.wrapping_add(PRIMES[0]).wrapping_add(PRIMES[1]),
        seed.wrapping_add(PRIMES[1]),
        seed,
        seed.wrapping_sub(PRIMES[0]),
    ];
    for stripe in stripes {
        for (lane, word) in lanes.iter_mut().zip(stripe.as_chunks::<8>().0) {
            *lane = round(*lane, u64::from_le_bytes(*word));
        }
    }
    let turns = [1, 7, 12, 18];
    let sum = lanes.iter().zip(turns).fold(0_u64, |sum, (lane, turn)| {
        sum.wrapping_add(lane.rotate_left(turn))
    });
    lanes.iter().fold(sum, |sum, lane| {
        (sum ^ round(0, *lane))
            .wrapping_mul(PRIMES[0])
            .wrapping_add(PRIMES[3])
    })
}

fn round(lane: u64, word: u64) -> u64 {
    lane.wrapping_add(word.wrapping_mul(PRIMES[1]))
        .rotate_left(31)
        .wrapping_mul(PRIMES[0])
}

fn avalanche(mut state: u64) -> u64 {
    state = (state ^ (state >> 33)).wrapping_mul(PRIMES[1]);
    state = (state ^ (state >> 29)).wrapping_mul(PRIMES[2]);
    state ^ (state >> 32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn published_values_hold() {
        for (text, expected) in [
            ("", 0xef46_db37_51d8_e999),
            ("a", 0xd24e_c4f1_a98c_6e5b),
            ("abc", 0x44bc_2cf5_ad77_0999),
            (
                "Nobody inspects the spammish repetition",
                0xfbce_a83c_8a37_8bf1,
            ),
        ] {
            assert_eq!(hash(text.as_bytes()), expected, "{text:?}");
        }
        assert_ne!(seeded(b"abc", 1), hash(b"abc"));
    }
}
