//! Which trace a request belongs to, as it says itself: W3C Trace Context or B3.

use crate::message::View;

/// The trace's id in lower-case hex digits.
pub(crate) fn id(view: View<'_>) -> Option<String> {
    let field = |name| std::str::from_utf8(view.field(name)?).ok();
    from_w3c(field("traceparent"))
        .or_else(|| from_b3(field("x-b3-traceid")))
        .or_else(|| from_b3(field("b3")?.split('-').next()))
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
