//! Fewer, larger system calls: a socket that is read ahead and written once a turn.
//!
//! h2 writes and flushes each DATA frame by itself (at most 16 KB to most peers) and reads some 8 KB at a time; a body of 400 KB then
//! costs 30 writes and 50 reads, and most of a stream's CPU time is the kernel's. Here a flush waits until the connection's task has
//! nothing more to do, which is when [`Flusher::poll_flush`] is called: the frames of all streams that moved in that turn leave together.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Bytes read ahead.
const INPUT_LENGTH: usize = 64 << 10;

/// With so many bytes waiting, a write goes to the socket first and is refused while that does not take any.
const OUTPUT_LIMIT: usize = 128 << 10;

/// The socket as hyper sees it.
pub(super) struct Coalescing<S>(Arc<Mutex<State<S>>>);

/// The handle that really flushes. Both live in one task, so the lock is never contended.
pub(super) struct Flusher<S>(Arc<Mutex<State<S>>>);

struct State<S> {
    stream: S,
    input: Box<[u8]>,
    /// Where the bytes of `input` that nobody took yet begin and end.
    unread: (usize, usize),
    output: Vec<u8>,
    /// How much of `output` the socket has taken.
    written: usize,
}

/// Splits `stream` into what hyper gets and what flushes it.
pub(super) fn coalesce<S>(stream: S) -> (Coalescing<S>, Flusher<S>) {
    let input = vec![0; INPUT_LENGTH].into_boxed_slice();
    let state = Arc::new(Mutex::new(State {
        stream,
        input,
        unread: (0, 0),
        output: Vec::new(),
        written: 0,
    }));
    (Coalescing(Arc::clone(&state)), Flusher(state))
}

impl<S: AsyncWrite + Unpin> State<S> {
    fn waiting(&self) -> usize {
        self.output.len() - self.written
    }

    /// Writes until at most `target` bytes wait.
    fn poll_drain(&mut self, target: usize, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.waiting() > target {
            let taken = ready!(
                Pin::new(&mut self.stream).poll_write(context, &self.output[self.written..])
            )?;
            if taken == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.written += taken;
        }
        if self.waiting() == 0 {
            self.output.clear();
            self.written = 0;
        }
        Poll::Ready(Ok(()))
    }

    fn poll_room(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.waiting() < OUTPUT_LIMIT {
            Poll::Ready(Ok(()))
        } else {
            self.poll_drain(OUTPUT_LIMIT / 2, context)
        }
    }

    /// Takes at most [`OUTPUT_LIMIT`] bytes of `data`; returns how many.
    fn append(&mut self, data: &[u8]) -> usize {
        if self.written >= OUTPUT_LIMIT {
            // A slow reader leaves a growing written part in front; it goes before the buffer grows.
            self.output.drain(..self.written);
            self.written = 0;
        }
        let taken = data.len().min(OUTPUT_LIMIT);
        self.output.extend_from_slice(&data[..taken]);
        taken
    }
}

impl<S: AsyncWrite + Unpin> Flusher<S> {
    /// Sends what waits.
    pub(super) fn poll_flush(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let state = &mut *self.0.lock();
        ready!(state.poll_drain(0, context))?;
        Pin::new(&mut state.stream).poll_flush(context)
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Coalescing<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let State {
            stream,
            input,
            unread: (start, end),
            ..
        } = &mut *self.0.lock();
        if start == end {
            if buffer.remaining() >= INPUT_LENGTH {
                return Pin::new(stream).poll_read(context, buffer);
            }
            let mut ahead = ReadBuf::new(input);
            ready!(Pin::new(stream).poll_read(context, &mut ahead))?;
            (*start, *end) = (0, ahead.filled().len());
        }
        // Nothing to copy here means that the peer has closed.
        let taken = buffer.remaining().min(*end - *start);
        buffer.put_slice(&input[*start..*start + taken]);
        *start += taken;
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Coalescing<S> {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<io::Result<usize>> {
        let state = &mut *self.0.lock();
        ready!(state.poll_room(context))?;
        Poll::Ready(Ok(state.append(data)))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let state = &mut *self.0.lock();
        ready!(state.poll_room(context))?;
        let mut total = 0;
        for slice in slices {
            let taken = state.append(slice);
            total += taken;
            if taken < slice.len() || state.waiting() >= OUTPUT_LIMIT {
                break;
            }
        }
        Poll::Ready(Ok(total))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    /// Promises only; see the head of this file.
    fn poll_flush(self: Pin<&mut Self>, _context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let state = &mut *self.0.lock();
        ready!(state.poll_drain(0, context))?;
        Pin::new(&mut state.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    use super::*;

    #[tokio::test]
    async fn writes_wait_for_the_real_flush_and_then_leave_together() {
        let (near, mut far) = duplex(1 << 20);
        let (mut socket, flusher) = coalesce(near);
        socket.write_all(b"one ").await.expect("a write");
        socket.flush().await.expect("a promise");
        socket.write_all(b"two").await.expect("a write");
        let mut received = [0; 16];
        let early = poll_fn(|context| {
            Poll::Ready(
                Pin::new(&mut far)
                    .poll_read(context, &mut ReadBuf::new(&mut received))
                    .is_pending(),
            )
        });
        assert!(early.await);
        poll_fn(|context| flusher.poll_flush(context))
            .await
            .expect("a flush");
        let length = far.read(&mut received).await.expect("a read");
        assert_eq!(&received[..length], b"one two");
    }

    #[tokio::test]
    async fn a_peer_that_does_not_read_is_not_buffered_for_without_a_bound() {
        let (near, _far) = duplex(1 << 10);
        let (mut socket, _flusher) = coalesce(near);
        let data = vec![0; 16 << 10];
        let mut accepted = 0;
        let refused = poll_fn(|context| {
            loop {
                match Pin::new(&mut socket).poll_write(context, &data) {
                    Poll::Ready(taken) => accepted += taken.unwrap_or(0),
                    Poll::Pending => return Poll::Ready(true),
                }
                if accepted > 1 << 20 {
                    return Poll::Ready(false);
                }
            }
        });
        assert!(refused.await);
        assert!(accepted <= 2 * OUTPUT_LIMIT);
    }

    #[tokio::test]
    async fn bytes_survive_small_pipes_and_any_size_of_read_and_write() {
        let (near, far) = duplex(777);
        let (socket, flusher) = coalesce(near);
        let (mut reader, mut writer) = tokio::io::split(socket);
        let (mut far_reader, mut far_writer) = tokio::io::split(far);
        let sent: Vec<u8> = (0..400_000_u32).map(|index| (index % 251) as u8).collect();
        let mut received = vec![0; sent.len()];
        let echo = tokio::io::copy(&mut far_reader, &mut far_writer);
        let write = async {
            for piece in sent.chunks(30_011) {
                writer.write_all(piece).await.expect("a write");
                poll_fn(|context| flusher.poll_flush(context))
                    .await
                    .expect("a flush");
            }
        };
        let read = async {
            for (index, part) in received.chunks_mut(30_011).enumerate() {
                for small in part.chunks_mut(if index % 2 == 0 { 30_011 } else { 1_000 }) {
                    reader.read_exact(small).await.expect("a read");
                }
            }
        };
        tokio::select! {
            end = echo => panic!("the echo ended: {end:?}"),
            _ = async { tokio::join!(write, read) } => {}
        }
        assert!(received == sent);
    }

    #[tokio::test]
    async fn a_shutdown_sends_what_waits() {
        let (near, mut far) = duplex(1 << 10);
        let (mut socket, _flusher) = coalesce(near);
        socket.write_all(b"last words").await.expect("a write");
        socket.shutdown().await.expect("a shutdown");
        let mut received = String::new();
        far.read_to_string(&mut received).await.expect("a read");
        assert_eq!(received, "last words");
    }
}
