//! The measured command line's word about the root disk.

use redoubt_dm_verity::VerityParams;

use crate::error::LoaderError;

/// The kernel parameter that the launch plan sets.
const NAME: &str = "redoubt.root_verity";
const CMDLINE: &str = "/proc/cmdline";

/// What this guest's command line says.
pub(crate) fn of_this_guest() -> Result<VerityParams, LoaderError> {
    let text = std::fs::read_to_string(CMDLINE).map_err(LoaderError::file("read", CMDLINE))?;
    parse(&text)
}

fn parse(command_line: &str) -> Result<VerityParams, LoaderError> {
    let mut values = command_line
        .split_ascii_whitespace()
        .filter_map(|word| word.strip_prefix(NAME)?.strip_prefix('='));
    match (values.next(), values.next()) {
        (Some(value), None) => Ok(value.parse()?),
        (None, _) => Err(LoaderError::NoParameter { name: NAME }),
        (Some(_), Some(_)) => Err(LoaderError::ParameterTwice { name: NAME }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PARAMS: &str = "root_hash=0707070707070707070707070707070707070707070707070707070707070707,\
                          salt=01,data_blocks=8,data_block_size=4096,hash_block_size=4096";

    #[test]
    fn the_parameter_is_found_among_others() {
        let line = format!("console=ttyS0 xredoubt.root_verity=1 {NAME}={PARAMS} quiet\n");
        assert_eq!(parse(&line).unwrap().to_string(), PARAMS);
    }

    #[test]
    fn nothing_and_two_of_them_are_refused() {
        let one = format!("{NAME}={PARAMS}");
        assert!(matches!(
            parse("quiet"),
            Err(LoaderError::NoParameter { .. })
        ));
        assert!(matches!(parse(NAME), Err(LoaderError::NoParameter { .. })));
        let two = parse(&format!("{one} {one}"));
        assert!(matches!(two, Err(LoaderError::ParameterTwice { .. })));
        let broken = parse(&format!("{NAME}=root_hash=7"));
        assert!(matches!(broken, Err(LoaderError::Parameter(_))));
    }
}
