//! The page of the `redoubt` command, from its own help.

use std::fmt::Write as _;
use std::path::Path;

use anyhow::Result;

use super::output_of;

const OPENING: &str = "\
<!-- Written by `cargo xtask docs` from the command's own help. -->
# The `redoubt` command
";

/// Collects the help of the command and of all its subcommands.
pub(super) fn page(redoubt: &Path) -> Result<String> {
    let mut page = OPENING.to_owned();
    add(&mut page, redoubt, &[])?;
    Ok(page)
}

fn add(page: &mut String, redoubt: &Path, words: &[&str]) -> Result<()> {
    let mut arguments = words.to_vec();
    arguments.push("--help");
    let help = output_of(redoubt, &arguments)?;
    let mut title = vec!["redoubt"];
    title.extend(words);
    writeln!(
        page,
        "\n## `{}`\n\n```text\n{}\n```",
        title.join(" "),
        help.trim_end()
    )?;
    for name in subcommands(&help) {
        let mut deeper = words.to_vec();
        deeper.push(name);
        add(page, redoubt, &deeper)?;
    }
    Ok(())
}

/// The names in the section `Commands:` of a help text, `help` left out.
fn subcommands(help: &str) -> Vec<&str> {
    help.lines()
        .skip_while(|line| *line != "Commands:")
        .skip(1)
        .take_while(|line| line.starts_with("  "))
        .filter(|line| !line.starts_with("   "))
        .filter_map(|line| line.split_whitespace().next())
        .filter(|name| *name != "help")
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subcommands_are_read_from_a_help_text() {
        let help = "Do\n\nUsage: x <COMMAND>\n\nCommands:\n  one   First\n  two   Second\n            more\n  help  Print\n\nOptions:\n  -h  Print\n";
        assert_eq!(subcommands(help), ["one", "two"]);
        assert!(subcommands("Usage: x\n\nOptions:\n  -h  Print\n").is_empty());
    }
}
