//! The pool's curves, fitted to what its requests took.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;

use super::line::Line;
use super::{Curve, Factor};
use crate::Nanos;

/// What one sample makes all earlier ones lose with a single endpoint; with N endpoints 1/N of it.
const FORGETTING: f64 = 0.01;
/// Gain of the moving means of expectations and of output tokens.
const GAIN: f64 = 0.01;
/// Gain of the moving mean of factors.
const FACTOR_GAIN: f64 = 0.05;
/// A fit begins with so many samples of [`Curve::START`].
const START_SAMPLES: u32 = 10;
/// Tokens between the samples that the prefill fit begins with.
const START_TOKENS: f64 = 200.0;
/// Requests in flight between the samples that the decode fit begins with: far enough that the start itself keeps [`LEAST_SHARE`].
const START_REQUESTS: f64 = 7.0;
/// Samples after which the curve is known well enough to call others outliers.
const SAMPLES_BEFORE_CLIPPING: f64 = 20.0;
/// A time to the first token counts as at most this multiple of what was expected, and `FIRST_TOKEN_SLACK` seconds.
const FIRST_TOKEN_LIMIT: f64 = 3.0;
const FIRST_TOKEN_SLACK: f64 = 0.050;
/// A time per output token counts as at most this multiple of what was expected.
const TOKEN_LIMIT: f64 = 5.0;
/// Part of the mean time per output token that requests in flight account for at least. Where all samples were taken at the same load the
/// fit cannot tell, and a decode cost without load would herd.
const LEAST_SHARE: f64 = 0.25;
/// What takes longer was not a request but a clock.
const ABSURD_SECONDS: f64 = 3600.0;
/// Nothing takes less, for each token or request: a cost of zero would compare with nothing.
const LEAST_SECONDS: f64 = 1e-12;
/// More tokens or requests than this are a wrong count.
const ABSURD_COUNT: f64 = 1e12;
/// One page speaks for no more requests: a counter that jumped must not make all that was learnt before forgotten.
const MOST_REQUESTS: f64 = 64.0;

/// What was measured of one request, or the means over several.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sample {
    /// Tokens to prefill up to and with the request's own, or requests in flight while it decoded, itself included; at least 1.
    pub at: f64,
    /// Seconds to its first token, or for each token after it.
    pub seconds: f64,
    /// How many requests it speaks for; more than 0.
    pub weight: f64,
}

impl Sample {
    /// Of one request.
    pub fn new(at: f64, seconds: f64) -> Self {
        Self {
            at,
            seconds,
            weight: 1.0,
        }
    }

    fn is_sound(&self) -> bool {
        (1.0..=ABSURD_COUNT).contains(&self.at)
            && (0.0..=ABSURD_SECONDS).contains(&self.seconds)
            && self.weight > 0.0
            && self.weight <= ABSURD_COUNT
    }
}

/// The pool-wide fits. Learning takes a lock for some tens of nanoseconds, reading takes none.
#[derive(Debug)]
pub struct Rates {
    fits: Mutex<Fits>,
    /// The curve's fields as bits. A reader may see some of one sample and some of the next.
    published: [AtomicU64; 5],
    /// The prefill curve is that of the pool and no longer the start.
    learnt: AtomicBool,
    /// N: live endpoints.
    endpoints: AtomicUsize,
    /// Nanoseconds at which a first token was last seen anywhere that was not drawn, plus 1; 0: never.
    first_token: AtomicU64,
    /// The same for an answer that ended without one, or was drawn.
    blind_end: AtomicU64,
}

#[derive(Debug)]
struct Fits {
    curve: Curve,
    prefill: Fit,
    decode: Fit,
    /// Moving mean of the decode factors of the endpoints that samples came from.
    decode_factor: f64,
}

#[derive(Debug, Default)]
struct Fit {
    line: Line,
    /// m: moving mean of what was expected, seconds.
    scale: f64,
    samples: f64,
}

impl Rates {
    /// Nothing learnt yet.
    pub fn new() -> Self {
        let curve = Curve::START;
        let mut prefill = Fit::default();
        let mut decode = Fit::default();
        for number in 1..=START_SAMPLES {
            let tokens = START_TOKENS * f64::from(number);
            let seconds = curve.first_token_seconds(tokens);
            prefill.line.add(tokens, seconds, 1.0, 1.0);
            let requests = START_REQUESTS * f64::from(number);
            let seconds = curve.token_seconds(requests);
            decode.line.add(requests, seconds, 1.0, 1.0);
        }
        prefill.scale = prefill.line.mean_took();
        decode.scale = decode.line.mean_took();
        let rates = Self {
            fits: Mutex::new(Fits {
                curve,
                prefill,
                decode,
                decode_factor: 1.0,
            }),
            published: [const { AtomicU64::new(0) }; 5],
            learnt: AtomicBool::new(false),
            endpoints: AtomicUsize::new(1),
            first_token: AtomicU64::new(0),
            blind_end: AtomicU64::new(0),
        };
        rates.publish(&curve);
        rates
    }

    /// The curves now.
    pub fn curve(&self) -> Curve {
        let [
            prefill_base,
            prefill_token,
            decode_base,
            decode_request,
            output_tokens,
        ] = self
            .published
            .each_ref()
            .map(|bits| f64::from_bits(bits.load(Ordering::Relaxed)));
        Curve {
            prefill_base,
            prefill_token,
            decode_base,
            decode_request,
            output_tokens,
        }
    }

    /// When a prefill of so many tokens that was reserved at `reserved` should be done, on an endpoint of that factor that works off one after
    /// the other and whose last one should be done at `before`. Gives (the end of the work, when the first token is late).
    ///
    /// As long as nothing was learnt, a prefill is taken as if it were alone: a queue that is worked off at a guessed rate might never end.
    pub(crate) fn prefill_done(
        &self,
        reserved: Nanos,
        before: Nanos,
        tokens: f64,
        factor: f64,
    ) -> (Nanos, Nanos) {
        let curve = self.curve();
        let after = |start: Nanos, seconds: f64| {
            (start + Duration::from_secs_f64(seconds.min(ABSURD_SECONDS)))
                .min(reserved + super::heard::ALIVE)
        };
        if self.learnt.load(Ordering::Relaxed) {
            let done = after(before.max(reserved), tokens * curve.prefill_token * factor);
            (
                done,
                after(done, curve.prefill_base * factor + FIRST_TOKEN_SLACK),
            )
        } else {
            let alone = FIRST_TOKEN_LIMIT * curve.first_token_seconds(tokens) + FIRST_TOKEN_SLACK;
            (reserved, after(reserved, alone))
        }
    }

    pub(crate) fn set_endpoints(&self, endpoints: usize) {
        self.endpoints.store(endpoints.max(1), Ordering::Relaxed);
    }

    /// Learns from times to first tokens at one endpoint, whose factor is `factor`. A sample that is no possible measurement is passed over.
    pub(crate) fn learn_prefill(&self, sample: Sample, factor: &mut Factor, now: Nanos) {
        if !sample.is_sound() {
            return;
        }
        let fits = &mut *self.fits.lock();
        let expected = fits.curve.first_token_seconds(sample.at);
        let limit = FIRST_TOKEN_LIMIT * expected + FIRST_TOKEN_SLACK;
        fits.prefill
            .learn(sample, (expected, limit), 1.0, self.kept(), factor, now);
        if let Some((base, slope)) = fits.prefill.line.fit() {
            fits.curve.prefill_base = base;
            fits.curve.prefill_token = slope.max(LEAST_SECONDS);
            self.publish(&fits.curve);
            if fits.prefill.samples >= SAMPLES_BEFORE_CLIPPING {
                self.learnt.store(true, Ordering::Relaxed);
            }
        }
    }

    /// Learns from times per output token, as above.
    pub(crate) fn learn_decode(&self, sample: Sample, factor: &mut Factor, now: Nanos) {
        if !sample.is_sound() {
            return;
        }
        let fits = &mut *self.fits.lock();
        let expected = fits.curve.token_seconds(sample.at);
        let limit = TOKEN_LIMIT * expected;
        // Slow endpoints also hold more requests: what an endpoint is slower by than others is no cost of a further request.
        // What all are slower by is the curve's.
        let own = factor.value(fits.decode.scale, now);
        fits.decode_factor += FACTOR_GAIN * (own - fits.decode_factor);
        let slower = own / fits.decode_factor;
        fits.decode
            .learn(sample, (expected, limit), slower, self.kept(), factor, now);
        let line = &fits.decode.line;
        if let Some((base, slope)) = line.fit() {
            let least = LEAST_SHARE * line.mean_took();
            let share = slope * line.mean_at();
            let (base, slope) = if share < least {
                (line.mean_took() - least, least / line.mean_at())
            } else {
                (base, slope)
            };
            fits.curve.decode_base = base;
            fits.curve.decode_request = slope.max(LEAST_SECONDS);
            self.publish(&fits.curve);
        }
    }

    /// Learns from the mean number of output tokens of so many answers.
    pub(crate) fn learn_output(&self, tokens: f64, answers: f64) {
        if !(0.0..=ABSURD_COUNT).contains(&tokens) || answers.is_nan() || answers <= 0.0 {
            return;
        }
        let fits = &mut *self.fits.lock();
        let gain = 1.0 - (1.0 - GAIN).powf(answers.min(MOST_REQUESTS));
        let output_tokens = &mut fits.curve.output_tokens;
        *output_tokens += gain * (tokens.max(1.0) - *output_tokens);
        self.publish(&fits.curve);
    }

    /// (prefill factor, decode factor) of an endpoint, now.
    pub(crate) fn factors(
        &self,
        prefill: &mut Factor,
        decode: &mut Factor,
        now: Nanos,
    ) -> (f64, f64) {
        let (prefill_scale, decode_scale) = {
            let fits = self.fits.lock();
            (fits.prefill.scale, fits.decode.scale)
        };
        (
            prefill.value(prefill_scale, now),
            decode.value(decode_scale, now),
        )
    }

    /// A first token was seen somewhere in the pool as those of all answers are; or something tells that others are not: an answer ended without
    /// one, or was drawn to be watched.
    pub(crate) fn hear(&self, every: bool, now: Nanos) {
        let heard = if every {
            &self.first_token
        } else {
            &self.blind_end
        };
        heard.store(now.0.saturating_add(1), Ordering::Relaxed);
    }

    /// The pool sees the first token of every answer: then one that is missing means an engine that hangs, not a signal that is missing.
    pub(crate) fn sees_first_tokens(&self, now: Nanos) -> bool {
        let alive = |heard: &AtomicU64| match heard.load(Ordering::Relaxed) {
            0 => false,
            nanos => now - Nanos(nanos - 1) <= super::heard::ALIVE,
        };
        alive(&self.first_token) && !alive(&self.blind_end)
    }

    /// Share of their weight that earlier samples keep at each request.
    fn kept(&self) -> f64 {
        1.0 - FORGETTING / self.endpoints.load(Ordering::Relaxed) as f64
    }

    /// Called with the lock held, so that a later curve is not overwritten by an earlier one.
    fn publish(&self, curve: &Curve) {
        let fields = [
            curve.prefill_base,
            curve.prefill_token,
            curve.decode_base,
            curve.decode_request,
            curve.output_tokens,
        ];
        for (field, published) in fields.iter().zip(&self.published) {
            published.store(field.to_bits(), Ordering::Relaxed);
        }
    }
}

impl Default for Rates {
    fn default() -> Self {
        Self::new()
    }
}

impl Fit {
    /// Adds a sample of an endpoint, whose factor is `factor`. `slower`: what its seconds are divided by in the pool's curve.
    /// `kept`: the share of their weight that earlier samples keep at each request.
    fn learn(
        &mut self,
        sample: Sample,
        (expected, limit): (f64, f64),
        slower: f64,
        kept: f64,
        factor: &mut Factor,
        now: Nanos,
    ) {
        let mut seconds = sample.seconds;
        let requests = sample.weight.min(MOST_REQUESTS);
        // A curve that is still its own start calls nothing an outlier, and no endpoint faster or slower.
        if self.samples >= SAMPLES_BEFORE_CLIPPING {
            seconds = seconds.min(limit);
            factor.add(seconds, expected, requests, now);
        }
        self.samples += requests;
        self.scale += (1.0 - (1.0 - GAIN).powf(requests)) * (expected - self.scale);
        // A page that speaks for many requests weighs and makes forget as much as they would have, one after the other.
        let all_kept = kept.powf(requests);
        let weight = (1.0 - all_kept) / (1.0 - kept);
        self.line.add(sample.at, seconds / slower, weight, all_kept);
    }
}
