//! A client's frames, good and bad, against the server's reader.

use tokio::io::AsyncReadExt;

use super::*;

/// What a client would write.
struct Frames {
    deflate: Deflate,
    bytes: Vec<u8>,
}

impl Frames {
    fn new() -> Self {
        Self {
            deflate: Deflate::new(),
            bytes: Vec::new(),
        }
    }

    fn control(mut self, kind: u16, flags: u8, body: &[u8]) -> Self {
        self.bytes.extend_from_slice(&0x8003_u16.to_be_bytes());
        self.bytes.extend_from_slice(&kind.to_be_bytes());
        let length = u32::try_from(body.len()).expect("short");
        let word = u32::from(flags) << 24 | length;
        self.bytes.extend_from_slice(&word.to_be_bytes());
        self.bytes.extend_from_slice(body);
        self
    }

    fn open(mut self, id: u32, headers: &[(&str, &str)]) -> Self {
        let mut body = words(id, 0).to_vec();
        body.extend_from_slice(&[0, 0]);
        body.extend(self.deflate.block(headers).expect("fits"));
        self.control(1, 0, &body)
    }

    fn data(mut self, id: u32, bytes: &[u8], fin: bool) -> Self {
        let mut frame = Vec::new();
        frame::data(&mut frame, id, bytes, fin);
        self.bytes.extend(frame);
        self
    }
}

/// Every event until the end, whether the end was an error, and what the server wrote.
async fn read(frames: Frames) -> (Vec<Event>, bool, Vec<u8>) {
    let (near, mut far) = tokio::io::duplex(1 << 20);
    let writer = Mutex::new(Writer::new(near));
    let mut reader = Reader::new(frames.bytes.as_slice(), 2);
    let mut events = Vec::new();
    let failed = loop {
        match reader.next(&writer).await {
            Ok(Some(event)) => events.push(event),
            Ok(None) => break false,
            Err(_) => break true,
        }
    };
    drop(writer);
    let mut written = Vec::new();
    far.read_to_end(&mut written).await.expect("in memory");
    (events, failed, written)
}

/// Kinds of the control frames in what the server wrote.
fn kinds(mut written: &[u8]) -> Vec<u16> {
    let mut kinds = Vec::new();
    while written.len() >= 8 {
        kinds.push(u16::from_be_bytes([written[2], written[3]]));
        let length =
            usize::from(written[5]) << 16 | usize::from(written[6]) << 8 | usize::from(written[7]);
        written = &written[8 + length..];
    }
    kinds
}

#[tokio::test]
async fn a_stream_is_accepted_and_its_data_and_end_arrive() {
    let frames = Frames::new()
        .open(1, &[("streamType", "stdin")])
        .data(1, b"hello", false)
        .data(1, &vec![7; 2 * PIECE], true);
    let (events, failed, written) = read(frames).await;
    assert!(!failed);
    assert_eq!(
        events[0],
        Event::Open {
            id: 1,
            headers: vec![("streamtype".into(), "stdin".into())],
            ended: false,
        }
    );
    let mut bytes = 0;
    for event in &events[1..] {
        let Event::Data { bytes: piece, .. } = event else {
            panic!("{event:?}")
        };
        assert!(piece.len() <= PIECE, "a piece is bounded");
        bytes += piece.len();
    }
    assert_eq!(bytes, 5 + 2 * PIECE);
    assert!(matches!(
        events.last(),
        Some(Event::Data { ended: true, .. })
    ));
    assert_eq!(kinds(&written)[0], 2, "a reply comes first");
}

#[tokio::test]
async fn pings_are_answered_and_our_own_are_not_sent_back() {
    let frames =
        Frames::new()
            .control(6, 0, &1_u32.to_be_bytes())
            .control(6, 0, &2_u32.to_be_bytes());
    let (events, failed, written) = read(frames).await;
    assert!(events.is_empty() && !failed);
    assert_eq!(kinds(&written), [6]);
}

#[tokio::test]
async fn streams_past_the_limit_and_data_of_unknown_streams_are_reset() {
    let frames = Frames::new()
        .open(1, &[])
        .open(3, &[])
        .open(5, &[])
        .data(9, b"x", false);
    let (events, failed, written) = read(frames).await;
    assert!(!failed);
    assert_eq!(events.len(), 2);
    assert_eq!(kinds(&written), [2, 2, 3, 3]);
}

#[tokio::test]
async fn malformed_frames_end_the_connection_with_goaway() {
    let version = Frames {
        bytes: vec![0x80, 2, 0, 1, 0, 0, 0, 0],
        ..Frames::new()
    };
    let long = Frames {
        bytes: vec![0x80, 3, 0, 1, 0, 0xff, 0xff, 0xff],
        ..Frames::new()
    };
    let cases = [
        ("another version", version),
        ("a control frame of 16 MB", long),
        (
            "SYN_STREAM without a body",
            Frames::new().control(1, 0, &[]),
        ),
        (
            "SYN_STREAM with garbage for headers",
            Frames::new().control(1, 0, &[0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0xde, 0xad]),
        ),
        ("an even id", Frames::new().open(2, &[])),
        ("an id twice", Frames::new().open(1, &[]).open(1, &[])),
        (
            "RST_STREAM without a stream",
            Frames::new().control(3, 0, &[0]),
        ),
        ("PING without an id", Frames::new().control(6, 0, &[])),
        ("HEADERS without a block", Frames::new().control(8, 0, &[0])),
        (
            "SETTINGS that lie",
            Frames::new().control(4, 0, &[0, 0, 0, 9]),
        ),
        ("an empty WINDOW_UPDATE", Frames::new().control(9, 0, &[])),
        (
            "a reply to nothing",
            Frames::new().control(2, 0, &[0, 0, 0, 1]),
        ),
    ];
    for (name, frames) in cases {
        let (_, failed, written) = read(frames).await;
        assert!(failed, "{name} is accepted");
        assert_eq!(kinds(&written).last(), Some(&7), "{name}: no GOAWAY");
    }
}

#[tokio::test]
async fn a_connection_that_ends_inside_a_frame_is_an_error_and_unknown_frames_are_not() {
    let mut cut = Frames::new().open(1, &[("a", "b")]);
    cut.bytes.truncate(cut.bytes.len() - 1);
    assert!(read(cut).await.1);
    let unknown = Frames::new().control(99, 0, b"whatever");
    assert!(!read(unknown).await.1);
}
