//! Reads dm-verity superblocks and the parameters on a command line; both must survive being written.

#![no_main]

use libfuzzer_sys::fuzz_target;
use redoubt_dm_verity::{Superblock, TreeBuilder, VerityParams};

fuzz_target!(|data: &[u8]| {
    if let Ok(superblock) = Superblock::parse(data) {
        let block = superblock.to_block();
        assert_eq!(Superblock::parse(&block), Ok(superblock.clone()));
        let mut builder = TreeBuilder::new(superblock.format);
        if builder.push(data).is_ok() {
            let _ = builder.finish();
        }
    }
    if let Ok(text) = std::str::from_utf8(data)
        && let Ok(params) = text.parse::<VerityParams>()
    {
        assert_eq!(
            params.to_string().parse::<VerityParams>(),
            Ok(params.clone())
        );
        let table = params.table("/dev/vda", "/dev/vda", 0);
        assert!(table.is_ascii() && !table.contains('\n'));
    }
});
