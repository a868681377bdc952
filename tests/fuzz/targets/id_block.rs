//! Reads an ID block and its authentication up to the signatures; what parses is written the same.

#![no_main]

use libfuzzer_sys::fuzz_target;
use redoubt_id_block::{ID_BLOCK_BYTES, IdAuth, IdBlock, SigningKey};

fuzz_target!(|data: &[u8]| {
    let (block, auth) = data.split_at(ID_BLOCK_BYTES.min(data.len()));
    let block = IdBlock::parse(block);
    if let Ok(block) = &block {
        assert_eq!(IdBlock::from_base64(&block.to_base64()).as_ref(), Ok(block));
    }
    if let Ok(auth) = IdAuth::parse(auth) {
        assert_eq!(IdAuth::parse(&auth.to_bytes()).as_ref(), Ok(&auth));
        if let Ok(block) = &block {
            let _ = auth.verify(block);
        }
    }
    if let Ok(text) = std::str::from_utf8(data) {
        let _ = IdBlock::from_base64(text);
        let _ = IdAuth::from_base64(text);
        let _ = SigningKey::from_pem(text);
    }
});
