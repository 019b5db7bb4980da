//! `handover doctor`: what is wrong, and where to fix it.
//!
//! The doctor looks and changes nothing at Entra or the UEM. A finding that must be fixed makes the exit code 1; a doubt
//! does not.

mod checks;

use serde::Serialize;

pub(crate) use checks::{configuration, examine};

use super::text::plain;

/// How a check came out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Mark {
    /// As it should be.
    Good,
    /// Must be fixed.
    Wrong,
    /// Works, but somebody should look.
    Doubt,
    /// Could not be looked at, or need not be.
    Skipped,
}

impl Mark {
    fn sign(self) -> char {
        match self {
            Self::Good => '✓',
            Self::Wrong => '✗',
            Self::Doubt => '!',
            Self::Skipped => '–',
        }
    }
}

/// What one check found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Finding {
    /// How it came out.
    pub(crate) mark: Mark,
    /// What was looked at.
    pub(crate) about: String,
    /// What was found.
    pub(crate) says: String,
    /// What to do about it.
    pub(crate) fix: Option<String>,
}

/// Everything that was found.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Report {
    /// In the order of looking.
    pub(crate) findings: Vec<Finding>,
}

impl Report {
    pub(crate) fn good(&mut self, about: &str, says: impl Into<String>) {
        self.note(Mark::Good, about, says, None);
    }

    pub(crate) fn wrong(&mut self, about: &str, says: impl Into<String>, fix: impl Into<String>) {
        self.note(Mark::Wrong, about, says, Some(fix.into()));
    }

    pub(crate) fn doubt(&mut self, about: &str, says: impl Into<String>, fix: impl Into<String>) {
        self.note(Mark::Doubt, about, says, Some(fix.into()));
    }

    pub(crate) fn skipped(&mut self, about: &str, says: impl Into<String>) {
        self.note(Mark::Skipped, about, says, None);
    }

    fn note(&mut self, mark: Mark, about: &str, says: impl Into<String>, fix: Option<String>) {
        self.findings.push(Finding { mark, about: about.to_owned(), says: says.into(), fix });
    }

    /// How many things must be fixed.
    pub(crate) fn wrongs(&self) -> usize {
        self.findings.iter().filter(|finding| finding.mark == Mark::Wrong).count()
    }

    /// For people.
    pub(crate) fn told(&self) -> String {
        let width = self.findings.iter().map(|finding| finding.about.chars().count()).max().unwrap_or(0);
        let mut text = String::new();
        for finding in &self.findings {
            let sign = finding.mark.sign();
            text.push_str(&format!("{sign} {:<width$}  {}\n", plain(&finding.about), plain(&finding.says)));
            if let Some(fix) = &finding.fix {
                text.push_str(&format!("  {:<width$}  → {}\n", "", plain(fix)));
            }
        }
        let doubts = self.findings.iter().filter(|finding| finding.mark == Mark::Doubt).count();
        text.push_str(&match (self.wrongs(), doubts) {
            (0, 0) => "nothing to fix\n".to_owned(),
            (0, doubts) => format!("nothing must be fixed; {doubts} to look at\n"),
            (wrongs, doubts) => format!("{wrongs} to fix; {doubts} to look at\n"),
        });
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_says_what_is_wrong_and_where_to_fix_it() {
        let mut report = Report::default();
        report.good("configuration", "handover.toml");
        report.wrong("Entra", "the app lacks User.RevokeSessions.All", "grant it and give admin consent");
        report.doubt("source uem", "its clock is 45 s behind ours", "synchronise both clocks");
        report.skipped("source uem", "no target_url, so the rule was not read back");

        assert_eq!(report.wrongs(), 1);
        insta::assert_snapshot!(report.told(), @r#"
        ✓ configuration  handover.toml
        ✗ Entra          the app lacks User.RevokeSessions.All
                         → grant it and give admin consent
        ! source uem     its clock is 45 s behind ours
                         → synchronise both clocks
        – source uem     no target_url, so the rule was not read back
        1 to fix; 1 to look at
        "#);
    }
}
