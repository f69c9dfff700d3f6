//! Test helpers: golden files, in-process HTTP servers and clients.

pub mod golden;
pub mod http;

/// Letters that hardly become fewer when they are compressed, the same ones each time.
pub fn noise(length: usize) -> String {
    let mut seed = 1_u64;
    let letters = std::iter::repeat_with(|| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        char::from(b'a' + (seed >> 33) as u8 % 26)
    });
    letters.take(length).collect()
}
