//! The response's side: learn where and how the answer ended, at no more cost than the mode forces on us.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::headers::names;
use super::message::{
    BodyMode, BodyMutation, CommonReply, HeaderMutation, HttpBody, HttpHeaders, Reply, ReplyPhase,
};
use super::reply::{content_length, stream};
use super::sight::{Answer, Asked, Sight};
use super::{Exchange, Flight, Progress};
use crate::Nanos;
use crate::body::{Dialect, Usage, UsageScanner, restore_model};
use crate::control::{Report, Response};
use crate::engine::Ending;
use crate::plugin::ExternalFailure;

/// What the gateway tells with the response headers.
#[derive(Clone, Copy, Debug)]
pub(super) struct Gateway<'a> {
    /// There is metadata of its load balancer.
    pub(super) lb_metadata: bool,
    /// The endpoint that served, in that metadata.
    pub(super) served: Option<&'a str>,
    /// The address it is connected to.
    pub(super) upstream: Option<&'a str>,
}

/// What is known of the answer.
#[derive(Debug, Default)]
pub(super) struct ResponseSide {
    /// What the request spoke.
    pub(super) dialect: Dialect,
    /// Envoy was told with the request not to send the body.
    pub(super) declined: bool,
    /// Server-sent events: forwarded chunk by chunk.
    streaming: bool,
    sight: Sight,
    /// The model server answered, with no error.
    succeeded: bool,
    usage: Option<UsageScanner>,
    /// What the scanner found, once the answer has ended.
    tokens: Option<Usage>,
    first_byte: Option<Nanos>,
    last_byte: Option<Nanos>,
    bytes: u64,
    /// A plain answer in full duplex, held until its end so that it leaves in one piece.
    held: Vec<Bytes>,
    held_bytes: usize,
}

/// How an exchange ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// Its answer was seen to its end.
    Whole,
    /// Its stream ended before.
    Cut,
}

/// Of an answer that told none.
const NO_TOKENS: Usage = Usage {
    input_tokens: 0,
    output_tokens: 0,
    cached_tokens: None,
};

impl ResponseSide {
    /// Its tokens, as far as it told them. Nothing more of it is read.
    fn end(&mut self) -> Option<Usage> {
        if let Some(scanner) = self.usage.take() {
            self.tokens = scanner.finish();
        }
        self.tokens
    }
}

impl Exchange {
    pub(super) fn on_response_headers(
        &mut self,
        headers: &HttpHeaders,
        gateway: Gateway<'_>,
        now: Nanos,
        replies: &mut Vec<Reply>,
    ) -> Progress {
        let full_duplex = self.protocol.response_body_mode == BodyMode::FullDuplexStreamed;
        let mut common = CommonReply::default();
        let mut mode_override = None;
        if full_duplex {
            // The reference's mark that the response went through the picker.
            common.headers.set.push((
                Bytes::from_static(b"x-went-into-resp-headers"),
                Bytes::from_static(b"true"),
            ));
        }
        let event_stream = header(headers, b"content-type")
            .is_some_and(|value| memchr::memmem::find(value, b"text/event-stream").is_some());
        // Also where request headers are not sent to us: events must not be held back.
        self.response.streaming = event_stream;
        if let Some(flight) = &mut self.flight {
            let served = gateway.served.or(gateway.upstream);
            if let Some(served) = served.filter(|_| !flight.redirected) {
                self.engine
                    .served_by(&mut flight.reservation, &flight.chains, served);
            }
            // Nothing is retried from here on; a long answer need not keep them.
            flight.chains = Vec::new();
            let failed = header(headers, b":status")
                .or_else(|| header(headers, b"status"))
                .is_some_and(|status| !matches!(status.first(), Some(b'1' | b'2')));
            if let Some(recorded) = &mut flight.recorded {
                let status = header(headers, b":status").or_else(|| header(headers, b"status"));
                let status = status.and_then(|status| str::from_utf8(status).ok());
                recorded.status = status.and_then(|status| status.parse().ok());
            }
            if failed {
                flight.running.error("ModelServerError");
            }
            self.response.streaming = event_stream || (!failed && flight.streaming);
            if !self.response.streaming {
                // A plain answer's headers come when the engine is done with it.
                flight.reservation.release_prefill();
            }
            common.headers.set.append(&mut flight.response_headers);
            if let Some(active) = &flight.active {
                let response = Response {
                    endpoint: flight.reservation.endpoint(),
                    profile: &flight.profile,
                    lb_metadata: gateway.lb_metadata,
                    served: gateway.served,
                };
                for plugin in &active.policy.responses {
                    plugin.response_received(&response, &mut common.headers.set);
                }
            }
            if let Some(explanation) = &flight.explanation {
                common.headers.set.push((
                    Bytes::from_static(names::DECISION.as_bytes()),
                    Bytes::from(explanation.to_string()),
                ));
            }
            // What follows a 101 is a tunnel, without tokens and without usage.
            let tunnel = header(headers, b":status") == Some(b"101");
            let answer = Answer {
                protocol: self.protocol,
                declined: self.response.declined,
                streams: self.response.streaming && !failed && !tunnel,
                has_body: !headers.end_of_stream && !tunnel,
            };
            let wants_usage = flight.wants_usage(self.engine.settings());
            let draw = || flight.has_prompt && self.engine.samples_response();
            let asked = Asked::of(answer, wants_usage, draw);
            if flight.has_prompt {
                self.response.sight = Sight::of(answer, asked);
            }
            self.response.succeeded = !failed && !tunnel;
            if asked.any() {
                mode_override = Some((self.protocol.request_body_mode, BodyMode::Streamed));
            }
            if (asked.usage || asked.pieces) && flight.renamed.is_some() {
                // Each chunk names the client's model again, so the length changes; Envoy drops it by itself only where it was configured to stream.
                common.headers.remove.push("content-length");
            }
            if (answer.body_follows() || asked.any()) && !failed {
                let kind = self.response.dialect.response_kind(event_stream);
                self.response.usage = Some(UsageScanner::new(kind));
            }
        }
        replies.push(Reply {
            phase: ReplyPhase::ResponseHeaders(common),
            metadata: None,
            mode_override,
        });
        if headers.end_of_stream {
            self.finish_flight(now, End::Whole);
        }
        Progress::Continue
    }

    pub(super) fn on_response_body(
        &mut self,
        body: HttpBody,
        now: Nanos,
        replies: &mut Vec<Reply>,
    ) -> Progress {
        let HttpBody {
            body: chunk,
            end_of_stream,
        } = body;
        self.observe(&chunk, now);
        let restored = match self
            .flight
            .as_ref()
            .and_then(|flight| flight.renamed.as_ref())
        {
            // Of a sample the client is to see no more than of any other answer.
            Some((target, incoming))
                if !chunk.is_empty() && self.response.sight != Sight::Sampled =>
            {
                restore_model(chunk.clone(), target, incoming)
            }
            _ => chunk.clone(),
        };
        match self.protocol.response_body_mode {
            BodyMode::FullDuplexStreamed if self.response.streaming => {
                stream(vec![restored], end_of_stream, response_reply, replies);
            }
            BodyMode::FullDuplexStreamed => {
                self.response.held_bytes += restored.len();
                self.response.held.push(restored);
                // An answer beyond the limit is not held back any longer: memory is bounded, order is kept.
                if end_of_stream || self.response.held_bytes > self.engine.settings().max_body_bytes
                {
                    self.response.held_bytes = 0;
                    stream(
                        std::mem::take(&mut self.response.held),
                        end_of_stream,
                        response_reply,
                        replies,
                    );
                }
            }
            mode => {
                let mut common = CommonReply::default();
                if restored.len() != chunk.len() || restored.as_ptr() != chunk.as_ptr() {
                    if mode == BodyMode::Buffered {
                        common.headers = HeaderMutation {
                            set: vec![content_length(restored.len())],
                            ..HeaderMutation::default()
                        };
                    }
                    common.body = BodyMutation::Replace(std::iter::once(restored).collect());
                }
                replies.push(Reply {
                    phase: ReplyPhase::ResponseBody(common),
                    metadata: None,
                    mode_override: None,
                });
            }
        }
        if end_of_stream {
            self.report(replies);
            self.finish_flight(now, End::Whole);
        }
        Progress::Continue
    }

    pub(super) fn on_response_trailers(
        &mut self,
        now: Nanos,
        replies: &mut Vec<Reply>,
    ) -> Progress {
        if !self.response.held.is_empty() {
            stream(
                std::mem::take(&mut self.response.held),
                false,
                response_reply,
                replies,
            );
        }
        replies.push(Reply {
            phase: ReplyPhase::ResponseTrailers,
            metadata: None,
            mode_override: None,
        });
        self.report(replies);
        self.finish_flight(now, End::Whole);
        Progress::Continue
    }

    /// Puts what reporters tell of the ended answer on its last reply.
    fn report(&mut self, replies: &mut [Reply]) {
        let active = self
            .flight
            .as_ref()
            .and_then(|flight| flight.active.clone());
        let Some(active) = active.filter(|active| active.reports()) else {
            return;
        };
        let usage = self.response.end().unwrap_or(NO_TOKENS);
        let mut reports: Vec<Report> = Vec::new();
        for reporter in &active.policy.reporters {
            match reporter.part.report(&usage) {
                Ok(Some(report)) => {
                    // The last one wins, as in the reference.
                    reports.retain(|other| {
                        (&other.namespace, &other.name) != (&report.namespace, &report.name)
                    });
                    reports.push(report);
                }
                Ok(None) => {}
                Err(problem) => self.engine.stats().plugin_failed(
                    &reporter.type_name,
                    &reporter.name,
                    &ExternalFailure::Raised(problem),
                ),
            }
        }
        if let Some(last) = replies.last_mut().filter(|_| !reports.is_empty()) {
            last.metadata.get_or_insert_default().reports = reports;
        }
    }

    fn observe(&mut self, chunk: &Bytes, now: Nanos) {
        if chunk.is_empty() {
            return;
        }
        let response = &mut self.response;
        response.bytes += chunk.len() as u64;
        if let Some(usage) = &mut response.usage {
            usage.feed(chunk);
        }
        let Some(flight) = &mut self.flight else {
            return;
        };
        if let Some(last) = response.last_byte {
            if response.streaming {
                flight.running.itl(now - last);
            }
        } else {
            response.first_byte = Some(now);
            match response.sight {
                Sight::Hidden => flight.reservation.release_prefill(),
                Sight::Sampled if self.engine.settings().response_sample < 1.0 => {
                    flight.reservation.drawn_first_token(now);
                }
                Sight::Sampled | Sight::Every => flight.reservation.first_token(now),
            }
        }
        response.last_byte = Some(now);
    }

    /// Ends the flight: releases its load and writes down how it went. Once.
    pub(super) fn finish_flight(&mut self, now: Nanos, end: End) {
        let Some(flight) = self.flight.take() else {
            return;
        };
        let Flight {
            reservation,
            running: series,
            received,
            recorded,
            has_prompt,
            ..
        } = flight;
        let served = recorded
            .is_some()
            .then(|| Arc::clone(reservation.endpoint()));
        let response = &mut self.response;
        let usage = response.end();
        let output_tokens = usage
            .and_then(|usage| u32::try_from(usage.output_tokens).ok())
            .filter(|tokens| *tokens > 0);
        // Envoy says nothing of the end of a body that does not come here: its stream ends then, as it does when the client goes.
        let hidden = response.sight == Sight::Hidden && response.bytes == 0;
        let may_be_whole = end == End::Whole || hidden;
        if response.succeeded && may_be_whole && has_prompt {
            reservation.finish(now, output_tokens);
        } else {
            // What was cut off before our eyes or went wrong says nothing of what the endpoint can do.
            drop(reservation);
        }
        let duration = now - received;
        series.duration(duration);
        if response.bytes > 0 {
            series.response_size(response.bytes);
        }
        if let Some(first) = response.first_byte {
            let first = if response.streaming {
                first - received
            } else {
                duration
            };
            series.ttft(first, response.streaming);
        }
        if let (Some(entry), Some(served)) = (recorded, served) {
            let first_token = response.first_byte.filter(|_| response.streaming);
            let ending = Ending {
                duration,
                first_token: first_token.map(|first| first - received),
                output_tokens: usage.map(|usage| usage.output_tokens),
                served,
            };
            self.engine.recorded(entry, ending);
        }
        if let Some(usage) = usage {
            series.input_tokens(usage.input_tokens);
            series.output_tokens(usage.output_tokens);
            series.cached_tokens(usage.cached_tokens.unwrap_or(0));
            if usage.output_tokens > 0 {
                series.ntpot(duration.div_f64(usage.output_tokens as f64));
            }
            if let (true, Some(first), 2..) =
                (response.streaming, response.first_byte, usage.output_tokens)
            {
                let decoding: Duration = now - first;
                series.tpot(decoding.div_f64((usage.output_tokens - 1) as f64));
            }
        }
    }
}

fn header<'a>(headers: &'a HttpHeaders, key: &[u8]) -> Option<&'a [u8]> {
    headers
        .headers
        .iter()
        .find(|header| header.key == key)
        .map(|header| &header.value[..])
}

fn response_reply(body: BodyMutation) -> Reply {
    Reply {
        phase: ReplyPhase::ResponseBody(CommonReply {
            body,
            ..CommonReply::default()
        }),
        metadata: None,
        mode_override: None,
    }
}
