//! One client connection, from its first byte to its end.

mod drive;
mod farewell;
mod http1;
mod http2;
mod parking;
mod timed_body;

use http::{HeaderValue, Request, Response, Version, header};

use super::listener::Listener;
use super::standing::Standing;
use super::strict::Refusal;
use crate::code::ErrorCode;
use crate::proxy::{ClientBody, ResponseBody};

pub(super) use drive::LAST_CALL;
pub(super) use farewell::farewell;
pub(super) use http1::serve_http1;
pub(super) use http2::serve_http2;

/// Serves a request by the snapshot that is in force when it comes, if the peer is still let in by it.
async fn serve_one(listener: &Listener, standing: &Standing, request: Request<ClientBody>) -> Response<ResponseBody> {
    let snapshot = listener.snapshot();
    let http1 = request.version() != Version::HTTP_2;
    let (mut response, last) = match standing.check(&snapshot) {
        Ok(()) => {
            let response = snapshot.pipeline.serve(standing.client(&snapshot), request).await;
            (response, standing.is_over(&snapshot))
        }
        Err(lost) => (
            snapshot
                .pipeline
                .refuse(standing.peer, &request, lost.code, &lost.detail),
            true,
        ),
    };
    if last && http1 {
        response
            .headers_mut()
            .insert(header::CONNECTION, HeaderValue::from_static("close"));
    } else if last {
        standing.end();
    }
    response
}

fn code_of(refusal: &Refusal) -> ErrorCode {
    match refusal {
        Refusal::Malformed(_) | Refusal::TargetByte(_) => ErrorCode::BadRequest,
        Refusal::HeadTooLarge(_) | Refusal::TooManyFields(_) => ErrorCode::HeadersTooLarge,
    }
}
