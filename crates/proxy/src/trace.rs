//! Which trace a request belongs to, as it says itself: W3C Trace Context, or B3 in one field or
//! several.

use crate::message::View;

/// The trace's id in lower-case hex digits.
pub(crate) fn id(view: View<'_>) -> Option<String> {
    let field = |name| std::str::from_utf8(view.field(name)?).ok();
    from_w3c(field("traceparent"))
        .or_else(|| from_b3(field("x-b3-traceid")))
        .or_else(|| from_b3(field("b3")?.split('-').next()))
}

/// What a request says of the span that it was sent in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Parent {
    pub(crate) trace: [u8; 16],
    pub(crate) span: [u8; 8],
    /// Whether the trace is recorded; B3 may leave it to us.
    pub(crate) is_sampled: Option<bool>,
    pub(crate) form: Form,
}

/// How a request says it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    W3c,
    B3Single,
    B3Multiple,
}

impl Parent {
    /// W3C's counts before B3's, and B3's single field before the several (its own rule).
    pub(crate) fn of(view: View<'_>) -> Option<Self> {
        let field = |name: &str| std::str::from_utf8(view.field(name)?).ok();
        Self::from_w3c(field("traceparent"))
            .or_else(|| Self::from_b3(field("b3")?))
            .or_else(|| {
                Some(Self {
                    trace: trace_bytes(field("x-b3-traceid")?)?,
                    span: bytes(field("x-b3-spanid")?)?,
                    is_sampled: match (field("x-b3-flags"), field("x-b3-sampled")) {
                        (Some("1"), _) | (_, Some("1" | "true")) => Some(true),
                        (_, Some("0" | "false")) => Some(false),
                        _ => None,
                    },
                    form: Form::B3Multiple,
                })
            })
    }

    fn from_w3c(field: Option<&str>) -> Option<Self> {
        let trace = from_w3c(field)?;
        let mut parts = field?.split('-').skip(2);
        let span = bytes(parts.next()?)?;
        let [flags]: [u8; 1] = hex_bytes(parts.next()?)?;
        Some(Self {
            trace: hex_bytes(&trace)?,
            span,
            is_sampled: Some(flags & 1 == 1),
            form: Form::W3c,
        })
    }

    /// `trace-span[-sampled[-parent]]`. A decision alone (`0`) names no span.
    fn from_b3(field: &str) -> Option<Self> {
        let mut parts = field.split('-');
        Some(Self {
            trace: trace_bytes(parts.next()?)?,
            span: bytes(parts.next()?)?,
            is_sampled: match parts.next() {
                Some("1" | "d") => Some(true),
                Some("0") => Some(false),
                _ => None,
            },
            form: Form::B3Single,
        })
    }
}

/// Of 16 digits the upper half is zero.
fn trace_bytes(text: &str) -> Option<[u8; 16]> {
    match text.len() {
        16 => bytes(text).map(|low: [u8; 8]| {
            let mut all = [0; 16];
            all[8..].copy_from_slice(&low);
            all
        }),
        _ => bytes(text),
    }
}

/// An id: not all of it zero.
fn bytes<const N: usize>(text: &str) -> Option<[u8; N]> {
    hex_bytes(text).filter(|bytes| bytes != &[0; N])
}

fn hex_bytes<const N: usize>(text: &str) -> Option<[u8; N]> {
    let digits = text.as_bytes();
    if digits.len() != 2 * N || !digits.iter().all(u8::is_ascii_hexdigit) {
        return None;
    }
    let mut bytes = [0; N];
    for (byte, pair) in bytes.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
    }
    Some(bytes)
}

/// Lower-case hex digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    let digit = |nibble: u8| char::from_digit(nibble.into(), 16).unwrap_or('0');
    let pairs = bytes.iter().flat_map(|byte| [byte >> 4, byte & 15]);
    pairs.map(digit).collect()
}

/// `version-trace-parent-flags` (W3C Trace Context §3.2).
fn from_w3c(field: Option<&str>) -> Option<String> {
    let mut parts = field?.split('-');
    let version = parts.next()?;
    let trace = parts.next()?;
    let is_valid = version.len() == 2 && version != "ff" && is_id(trace, &[32]);
    is_valid.then(|| trace.to_owned())
}

fn from_b3(id: Option<&str>) -> Option<String> {
    let id = id?.to_ascii_lowercase();
    is_id(&id, &[16, 32]).then_some(id)
}

/// Hex digits, as many as one of these lengths, not all of them zero.
fn is_id(text: &str, lengths: &[usize]) -> bool {
    let is_hex = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    lengths.contains(&text.len())
        && text.bytes().all(is_hex)
        && text.bytes().any(|byte| byte != b'0')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_span_before_is_read_from_every_form() {
        let (trace, span) = ("0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331");
        let w3c = |flags: &str| Parent::from_w3c(Some(&format!("00-{trace}-{span}-{flags}")));
        let sampled = w3c("01").expect("a span");
        assert_eq!(hex(&sampled.trace), trace);
        assert_eq!(hex(&sampled.span), span);
        assert_eq!(sampled.is_sampled, Some(true));
        assert_eq!(w3c("00").and_then(|parent| parent.is_sampled), Some(false));
        for bad in ["0", "zz", "+1"] {
            assert_eq!(w3c(bad), None, "{bad}");
        }
        let b3 = |text: &str| Parent::from_b3(text);
        let whole = b3(&format!("{trace}-{span}-1-05e3ac9a4f6e3b90")).expect("a span");
        assert_eq!(
            (hex(&whole.trace), whole.is_sampled),
            (trace.into(), Some(true))
        );
        let short = b3(&format!("{span}-{span}")).expect("a span");
        assert_eq!(hex(&short.trace), format!("{}{span}", "0".repeat(16)));
        assert_eq!(short.is_sampled, None);
        assert_eq!(b3("0"), None);
        assert_eq!(b3(&format!("{trace}-{}", "0".repeat(16))), None);
    }

    #[test]
    fn ids_are_read_as_their_standards_say() {
        let trace = "0af7651916cd43dd8448eb211c80319c";
        let parent = format!("00-{trace}-b7ad6b7169203331-01");
        assert_eq!(from_w3c(Some(&parent)).as_deref(), Some(trace));
        for bad in [
            "00-0-1-01",
            "ff-0af7651916cd43dd8448eb211c80319c-1-01",
            "00",
        ] {
            assert_eq!(from_w3c(Some(bad)), None, "{bad}");
        }
        let zeros = format!("00-{}-b7ad6b7169203331-01", "0".repeat(32));
        assert_eq!(from_w3c(Some(&zeros)), None);
        assert_eq!(
            from_b3(Some("80F198EE56343BA8")).as_deref(),
            Some("80f198ee56343ba8")
        );
        assert_eq!(from_b3(Some("0")), None);
    }
}
