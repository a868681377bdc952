//! Command lines near a given one.

use crate::difference::Difference;

/// Parameters that come and go in practice: debugging, logging, consoles.
pub const KNOWN_PARAMETERS: &[&str] = &[
    "agent.debug_console",
    "agent.debug_console_vport=1026",
    "agent.log=debug",
    "agent.log=info",
    "agent.log=trace",
    "agent.log=warn",
    "agent.log=error",
    "agent.log_vport=1025",
    "quiet",
    "debug",
    "systemd.show_status=false",
    "console=hvc0",
    "console=ttyS0",
    "earlyprintk=ttyS0",
    "redoubt.attester=snp",
    "redoubt.attester=simulated-snp",
    "redoubt.attester=none",
];

/// A command line and what it changes about the one it was made from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Variant {
    pub(crate) cmdline: String,
    pub(crate) differences: Vec<Difference>,
}

/// Every command line that is one change away.
pub(crate) fn single_edits(cmdline: &str, more: &[String]) -> Vec<Variant> {
    let parameters = split(cmdline);
    let known = known(more);
    let mut variants: Vec<Variant> = edits(&parameters, &known, true)
        .into_iter()
        .map(|(parameters, difference)| Variant {
            cmdline: parameters.join(" "),
            differences: vec![difference],
        })
        .collect();
    for (end, name) in [(" ", "blank"), ("\n", "line end")] {
        variants.push(Variant {
            cmdline: format!("{cmdline}{end}"),
            differences: vec![Difference::Trailing(name)],
        });
    }
    variants.push(Variant {
        cmdline: String::new(),
        differences: vec![Difference::EmptyCmdline],
    });
    variants.retain(|variant| variant.cmdline != cmdline);
    variants
}

/// Command lines that are two changes away, where what is added stands at the end.
pub(crate) fn double_edits(cmdline: &str, more: &[String]) -> Vec<Variant> {
    let parameters = split(cmdline);
    let known = known(more);
    let mut variants = Vec::new();
    for (once, first) in edits(&parameters, &known, false) {
        for (twice, second) in edits(&once, &known, false) {
            let cmdline_twice = twice.join(" ");
            if cmdline_twice != cmdline && !undoes(&first, &second) {
                variants.push(Variant {
                    cmdline: cmdline_twice,
                    differences: vec![first.clone(), second],
                });
            }
        }
    }
    variants
}

/// The order of two removals does not matter, and an addition is not to be changed at once.
fn undoes(first: &Difference, second: &Difference) -> bool {
    match (first, second) {
        (Difference::Removed(first), Difference::Removed(second)) => first > second,
        (Difference::Added { parameter, .. }, Difference::Removed(removed))
        | (Difference::Added { parameter, .. }, Difference::Changed { from: removed, .. }) => {
            parameter == removed
        }
        (Difference::Changed { to, .. }, Difference::Removed(removed))
        | (Difference::Changed { to, .. }, Difference::Changed { from: removed, .. }) => {
            to == removed
        }
        _ => false,
    }
}

fn known(more: &[String]) -> Vec<String> {
    more.iter()
        .cloned()
        .chain(KNOWN_PARAMETERS.iter().map(|text| (*text).to_owned()))
        .collect()
}

fn name(parameter: &str) -> &str {
    parameter.split('=').next().unwrap_or(parameter)
}

/// Splits at blanks outside double quotes.
fn split(cmdline: &str) -> Vec<String> {
    let mut parameters = vec![String::new()];
    let mut quoted = false;
    for c in cmdline.chars() {
        if c == ' ' && !quoted {
            parameters.push(String::new());
            continue;
        }
        quoted ^= c == '"';
        if let Some(parameter) = parameters.last_mut() {
            parameter.push(c);
        }
    }
    parameters.retain(|parameter| !parameter.is_empty());
    parameters
}

/// One change: a parameter removed, changed, or added (anywhere or at the end).
fn edits(
    parameters: &[String],
    known: &[String],
    anywhere: bool,
) -> Vec<(Vec<String>, Difference)> {
    let mut edits = Vec::new();
    for (index, parameter) in parameters.iter().enumerate() {
        let mut without = parameters.to_vec();
        without.remove(index);
        edits.push((without, Difference::Removed(parameter.clone())));
        let others = known
            .iter()
            .filter(|other| name(other) == name(parameter) && *other != parameter);
        for other in others {
            let mut changed = parameters.to_vec();
            changed[index].clone_from(other);
            let (from, to) = (parameter.clone(), other.clone());
            edits.push((changed, Difference::Changed { from, to }));
        }
    }
    let absent = known
        .iter()
        .filter(|parameter| !parameters.contains(parameter));
    for parameter in absent {
        // The end is where additions are most likely.
        let places = (0..=parameters.len()).rev();
        for place in places.take(if anywhere { usize::MAX } else { 1 }) {
            let mut with = parameters.to_vec();
            with.insert(place, parameter.clone());
            let after = place
                .checked_sub(1)
                .map(|before| parameters[before].clone());
            let parameter = parameter.clone();
            edits.push((with, Difference::Added { parameter, after }));
        }
    }
    edits
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quoted_blanks_stay_within_a_parameter() {
        assert_eq!(
            split("a  b=\"c d\" \"e f\"=g "),
            ["a", "b=\"c d\"", "\"e f\"=g"]
        );
    }

    #[test]
    fn a_single_edit_never_gives_the_same_line() {
        for line in ["", "quiet", "console=ttyS0 quiet agent.log=debug quiet"] {
            let edits = single_edits(line, &["x=1".to_owned()]);
            assert!(edits.iter().all(|variant| variant.cmdline != line));
            assert!(edits.iter().any(|variant| variant.cmdline.contains("x=1")));
        }
    }

    #[test]
    fn two_edits_are_two_differences_and_neither_undoes_the_other() {
        let line = "console=ttyS0 quiet panic=1";
        let variants = double_edits(line, &[]);
        assert!(
            variants
                .iter()
                .all(|variant| variant.differences.len() == 2)
        );
        assert!(variants.iter().all(|variant| variant.cmdline != line));
        let wanted = "quiet panic=1 agent.log=debug";
        assert!(variants.iter().any(|variant| variant.cmdline == wanted));
    }
}
