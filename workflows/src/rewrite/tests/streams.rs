//! The rewrite as a member of a stream.

use std::sync::Arc;

use bytes::Bytes;
use futures::{FutureExt as _, StreamExt as _};

use super::super::{SqlRewriter, rewrite_stream};
use super::{host, rewrite};
use crate::ports::{ByteStream, PortError};

fn stream_of(pieces: Vec<Result<&'static str, PortError>>) -> ByteStream {
    futures::stream::iter(
        pieces.into_iter().map(|piece| piece.map(|text| Bytes::from_static(text.as_bytes()))),
    )
    .boxed()
}

fn rewriter() -> SqlRewriter {
    SqlRewriter::new(Arc::new(rewrite([host("old.test", "new.test")])))
}

fn read(mut stream: ByteStream) -> (String, Option<PortError>) {
    let mut text = Vec::new();
    let mut error = None;
    while let Some(piece) = stream.next().now_or_never().unwrap() {
        assert_eq!(error, None, "something came behind the error");
        match piece {
            Ok(bytes) => {
                assert!(!bytes.is_empty());
                text.extend_from_slice(&bytes);
            }
            Err(failed) => error = Some(failed),
        }
    }
    (String::from_utf8(text).unwrap(), error)
}

#[test]
fn a_dump_comes_out_rewritten_and_its_report_is_there_at_the_end() {
    let (stream, handle) = rewrite_stream(
        stream_of(vec![Ok("INSERT INTO t VAL"), Ok(""), Ok("UES ('old.t"), Ok("est');\n")]),
        rewriter(),
    );
    assert_eq!(handle.report(), None);
    assert_eq!(read(stream), ("INSERT INTO t VALUES ('new.test');\n".to_owned(), None));
    assert_eq!(handle.report().unwrap().replacements, 1);
}

#[test]
fn an_error_of_the_dump_is_passed_on_and_there_is_no_report() {
    let lost = PortError::Lost("the connection to db1 was lost".into());
    let (stream, handle) =
        rewrite_stream(stream_of(vec![Ok("INSERT INTO t "), Err(lost.clone()), Ok("VALUES")]), rewriter());
    let (_, error) = read(stream);
    assert_eq!((error, handle.report()), (Some(lost), None));
}

#[test]
fn a_dump_that_is_cut_off_ends_in_an_error() {
    let (stream, handle) =
        rewrite_stream(stream_of(vec![Ok("INSERT INTO t VALUES ('old.test'),(")]), rewriter());
    let (text, error) = read(stream);
    assert_eq!(text, "INSERT INTO t VALUES ('new.test'),(");
    assert!(matches!(error, Some(PortError::Refused(_))), "{error:?}");
    assert_eq!(handle.report(), None);
}
