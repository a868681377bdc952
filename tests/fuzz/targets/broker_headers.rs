//! Reads paths, URIs, tokens and cookies of the key-broker protocol.

#![no_main]

use libfuzzer_sys::fuzz_target;
use redoubt_kbs_protocol::{ResourcePath, SessionCookie, TokenTimes};

fuzz_target!(|data: &[u8]| {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    for path in [ResourcePath::parse(text), ResourcePath::from_uri(text)]
        .into_iter()
        .flatten()
    {
        // A part becomes a file name of the broker.
        for part in path.parts() {
            assert!(!part.is_empty() && part != "." && part != ".." && !part.contains(['/', '\0']));
        }
        assert_eq!(ResourcePath::from_uri(&path.uri()).ok(), Some(path));
    }
    if let Ok(times) = TokenTimes::parse(text) {
        let _ = times.lifetime_s();
    }
    for cookie in [
        SessionCookie::from_cookie(text),
        SessionCookie::from_set_cookie(text),
    ]
    .into_iter()
    .flatten()
    {
        assert_eq!(
            SessionCookie::from_cookie(&cookie.to_header()),
            Some(cookie)
        );
    }
});
