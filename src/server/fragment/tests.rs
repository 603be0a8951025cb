use super::*;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// `/a#b`, Huffman-coded.
const CODED: &[u8] = b"\x60\x7f\xf5\x1f";

fn frame(kind: u8, flags: u8, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags, 0, 0, 0, 1], payload].concat()
}

/// What comes out when the bytes come in pieces of this size.
async fn through(bytes: &[u8], piece: usize) -> Vec<u8> {
    struct Pieces<'a>(&'a [u8], usize);
    impl AsyncRead for Pieces<'_> {
        fn poll_read(mut self: Pin<&mut Self>, _: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
            let size = self.1.min(self.0.len()).min(buf.remaining());
            let (now, later) = self.0.split_at(size);
            buf.put_slice(now);
            self.0 = later;
            Poll::Ready(Ok(()))
        }
    }
    let mut out = Vec::new();
    let mut stream = Marked::new(Pieces(bytes, piece));
    tokio::io::AsyncReadExt::read_to_end(&mut stream, &mut out)
        .await
        .unwrap();
    out
}

fn verdicts(blocks: &[&[u8]]) -> Vec<Verdict> {
    let mut reader = PathReader::default();
    let read = |block: &&[u8]| {
        reader.read(block);
        reader.end()
    };
    blocks.iter().map(read).collect()
}

#[tokio::test]
async fn marks_come_behind_the_block_whatever_pieces_it_comes_in() {
    let whole = frame(HEADERS, END_HEADERS, b"\x82\x87\x04\x02/a");
    let marked = |last: Vec<u8>| {
        let mut last = last;
        last[4] &= !END_HEADERS;
        [last, frame(CONTINUATION, END_HEADERS, MARK_FIELD)].concat()
    };
    let padded = [b"\x03\x00\x00\x00\x03\x10".as_slice(), b"\x82\x04\x04/a#b", &[b'#'; 3]].concat();
    let padded = frame(HEADERS, END_HEADERS | PADDED | PRIORITY, &padded);
    let data = frame(0, 0, b"\x04\x04/a#b");
    let (first, last) = (
        frame(HEADERS, 0, b"\x82\x04\x04/a"),
        frame(CONTINUATION, END_HEADERS, b"#b"),
    );
    let simple = frame(HEADERS, END_HEADERS | 1, b"\x82\x04\x04/a#b");
    let sent = [PREFACE, &whole, &data, &padded, &first, &last, &simple, &whole].concat();
    let expected = [
        PREFACE,
        &whole,
        &data,
        &marked(padded),
        &first,
        &marked(last),
        &marked(simple),
        &whole,
    ]
    .concat();
    for piece in 1..sent.len() + 1 {
        assert_eq!(through(&sent, piece).await, expected, "{piece}");
        // What breaks off is handed on, too.
        let cut = through(&sent[..piece], 7).await;
        assert!(cut.len() >= piece, "{piece}");
    }
}

#[test]
fn every_way_to_write_a_path_is_read() {
    let coded_path = [b"\x40\x84\xb9\x58\xd3\x3f\x84", CODED].concat();
    for block in [
        &b"\x04\x04/a#b"[..],
        b"\x14\x04/a#b",
        b"\x05\x04/a#b",
        b"\x44\x06/a?q#b",
        b"\x00\x05:path\x02/#",
        b"\x10\x05:path\x01#",
        b"\x40\x05:path\x04/a#b",
        &coded_path,
        &[b"\x04\x84", CODED].concat(),
    ] {
        assert_eq!(verdicts(&[block]), [Verdict::Fragment], "{block:?}");
    }
    for block in [
        &b"\x82\x87\x84\x01\x09localhost"[..],
        b"\x00\x01x\x01#",
        b"\x01\x04/a#b",
        b"\x00\x05:patH\x02/#",
        b"\x04\x84\x60\x7f\xf7\x1f",
        b"\x04\x00",
    ] {
        assert_eq!(verdicts(&[block]), [Verdict::Whole], "{block:?}");
    }
}

#[test]
fn the_table_is_the_clients() {
    let enter = [b"\x44\x84", CODED].concat();
    let other = b"\x40\x01x\x01y";
    // A field of 4022 bytes and some, beside which the first just fits, or doesn't.
    let fills = |more: u8| {
        let length = 4022 + usize::from(more);
        [b"\x40\x01x\x7f".as_slice(), &[0xb7 + more, 0x1e], &vec![b'y'; length]].concat()
    };
    use Verdict::{Fragment, Unsure, Whole};
    assert_eq!(
        verdicts(&[
            &enter,
            b"\xbe",
            other,
            b"\xbe",
            b"\xbf",
            b"\x7f\x00\x02/c",
            b"\xbe\x82",
            b"\xc0"
        ]),
        [Fragment, Fragment, Whole, Whole, Fragment, Whole, Whole, Fragment]
    );
    assert_eq!(
        verdicts(&[&enter, &fills(0), b"\xbe", b"\xbf"]),
        [Fragment, Whole, Whole, Fragment]
    );
    assert_eq!(
        verdicts(&[&enter, &fills(1), b"\xbe", b"\xbf"]),
        [Fragment, Whole, Whole, Unsure]
    );
    // The size of the table goes down to nothing and up again.
    assert_eq!(
        verdicts(&[&enter, b"\x20\x3f\xe1\x1f\x82", b"\xbe"]),
        [Fragment, Whole, Unsure]
    );
    // A name from the table, with another value.
    assert_eq!(
        verdicts(&[&enter, b"\x0f\x2f\x02/c", b"\x0f\x2f\x02/#"]),
        [Fragment, Whole, Fragment]
    );
}

#[test]
fn what_is_not_understood_makes_all_that_follows_doubtful() {
    for block in [
        &b"\x80"[..],
        b"\xbe",
        b"\x7f\x80\x80\x80\x80\x01",
        b"\x82\x20",
        b"\x3f\xe2\x1f",
        b"\x04\x04/a",
        b"\x04",
        b"\x04\x81\xff",
        b"\x04\x82\xf8\xff",
        b"\x04\x84\xff\xff\xff\xff",
        b"\x04\x81\x60",
    ] {
        assert_eq!(verdicts(&[block, b"\x82"]), [Verdict::Unsure; 2], "{block:?}");
    }
}

#[tokio::test]
async fn frames_out_of_order_make_all_that_follows_doubtful() {
    let get = frame(HEADERS, END_HEADERS, b"\x82");
    let mut other = frame(CONTINUATION, END_HEADERS, b"");
    other[8] = 3;
    for bad in [
        frame(CONTINUATION, END_HEADERS, b""),
        frame(PUSH_PROMISE, END_HEADERS, b"\0\0\0\x02\x82"),
        [frame(HEADERS, 0, b""), get.clone()].concat(),
        [frame(HEADERS, 0, b""), frame(0, 0, b"")].concat(),
        [frame(HEADERS, 0, b""), other].concat(),
        frame(HEADERS, END_HEADERS | PADDED, b"\x02\x82"),
        frame(HEADERS, END_HEADERS | PADDED, b""),
        frame(HEADERS, END_HEADERS | PRIORITY, b"\0\0\0"),
        frame(HEADERS, END_HEADERS | PRIORITY, b"\x80\0\0\x01\0\x82"),
        frame(HEADERS, END_HEADERS, &[0x82; LARGEST_FRAME + 1]),
    ] {
        for piece in [1, 7, 100_000] {
            let out = through(&[PREFACE, &bad, &get].concat(), piece).await;
            assert!(out.ends_with(b"atlas-auth-proxy-target\x01?"), "{bad:?}");
        }
    }
}

proptest::proptest! {
    #[test]
    fn no_bytes_are_lost_and_none_panic(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..300), piece in 1usize..50) {
        let mut frames = [PREFACE, &frame(HEADERS, END_HEADERS, &bytes)].concat();
        frames.extend(&bytes);
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let out = runtime.block_on(through(&frames, piece));
        assert_eq!(out, runtime.block_on(through(&frames, frames.len())));
        assert!(out.len() >= frames.len());
    }
}
