//! Arbitrary frames: neither reader may panic, and where both understand a frame they must agree on what it carries.
#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use warmroute_extproc::codec::{decode, decode_outline};

fuzz_target!(|frame: &[u8]| {
    let frame = Bytes::copy_from_slice(frame);
    let outline = decode_outline(&frame);
    // The outline looks at less, so it may accept more.
    if let Ok(message) = decode(&frame) {
        let outline = outline.expect("what decodes whole has an outline");
        assert_eq!(outline.protocol_config, message.protocol_config);
    }
});
