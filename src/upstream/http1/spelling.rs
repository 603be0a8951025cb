//! Names of fields as Atlas wrote them, for old programs that compare bytes. hyper writes answers to clients, and takes a
//! spelling only from a value that no one else can make: it reads such names itself, once for each list of them.

use std::collections::HashMap;

use bytes::{Bytes, BytesMut};
use http::{Extensions, Method, Request};
use http_body_util::Empty;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::head::MOST_NAMES;

/// Lists that are remembered. An upstream with more of them costs a reading for each answer.
const MOST: usize = 64;

/// What was read for each list of names, for all connections of an upstream.
#[derive(Debug, Default)]
pub struct Spellings(Mutex<HashMap<Bytes, Extensions>>);

impl Spellings {
    /// What tells hyper to write these names as they are spelled here.
    pub(super) async fn of(&self, names: impl Iterator<Item = &Bytes>) -> Extensions {
        let mut head = BytesMut::from(&b"HTTP/1.1 200 OK\r\n"[..]);
        let mut usual = true;
        for name in names {
            usual &= is_title_case(name);
            head.extend_from_slice(name);
            // A value that is good for fields of the framing, too.
            head.extend_from_slice(if name.eq_ignore_ascii_case(b"transfer-encoding") {
                b": chunked\r\n"
            } else {
                b": 0\r\n"
            });
        }
        if usual {
            // hyper's own way.
            return Extensions::new();
        }
        head.extend_from_slice(b"\r\n");
        let head = head.freeze();
        if let Some(known) = self.0.lock().get(&head) {
            return known.clone();
        }
        let spelled = read_by_hyper(&head).await.unwrap_or_default();
        if head.len() <= MOST_NAMES {
            let mut known = self.0.lock();
            if known.len() >= MOST {
                known.clear();
            }
            known.insert(head, spelled.clone());
        }
        spelled
    }
}

/// `X-Frame-Options`.
fn is_title_case(name: &[u8]) -> bool {
    let mut begins = true;
    name.iter().all(|byte| {
        if std::mem::replace(&mut begins, *byte == b'-') {
            !byte.is_ascii_lowercase()
        } else {
            !byte.is_ascii_uppercase()
        }
    })
}

/// What hyper notes beside the answer with this head.
async fn read_by_hyper(head: &[u8]) -> Option<Extensions> {
    let (ours, mut theirs) = tokio::io::duplex(head.len().max(1024));
    let (mut sender, connection) = http1::Builder::new()
        .preserve_header_case(true)
        .handshake(TokioIo::new(ours))
        .await
        .ok()?;
    let mut request = Request::new(Empty::<Bytes>::new());
    // The answer has no content, whatever its fields say.
    *request.method_mut() = Method::HEAD;
    let answer = async {
        // Not before the question: hyper takes no answer to nothing.
        let mut question = [0; 256];
        let _some = theirs.read(&mut question).await.ok()?;
        theirs.write_all(head).await.ok()?;
        Some(theirs)
    };
    let asked = async {
        let (answered, _open) = tokio::join!(sender.send_request(request), answer);
        answered.ok().map(|answer| answer.into_parts().0.extensions)
    };
    tokio::select! {
        biased;
        asked = asked => asked,
        _ = connection => None,
    }
}
