//! Which column of a table becomes which member.

use csv::StringRecord;

use super::map::Map;
use super::members::{self, MEMBERS};
use super::table::TableFault;

/// Where the fields of the members stand.
pub(super) struct Columns {
    /// The head of each column, without space around it.
    pub(super) heads: Vec<String>,
    /// The columns of each member, by the member's place among all.
    pub(super) of_member: Vec<Vec<usize>>,
    /// What stands in no column, by the same place.
    pub(super) fixed: Vec<Option<String>>,
}

impl Columns {
    /// The columns of a first line.
    pub(super) fn of(heads: &StringRecord, map: &Map, line: u64) -> Result<Self, TableFault> {
        let heads: Vec<String> = heads.iter().map(|head| head.trim().to_owned()).collect();
        let mut of_member = vec![Vec::new(); MEMBERS.len()];
        let mut fixed = vec![None; MEMBERS.len()];
        let find = |wanted: &str| -> Result<usize, TableFault> {
            let mut found =
                (0..heads.len()).filter(|&at| heads[at].to_lowercase() == wanted.to_lowercase());
            match (found.next(), found.next()) {
                (Some(at), None) => Ok(at),
                (None, _) => Err(TableFault::line(
                    line,
                    format!("no column is called {wanted}, which the mapping file names"),
                )),
                (Some(_), Some(_)) => Err(TableFault::line(
                    line,
                    format!("two columns are called {wanted}: give one of them another name"),
                )),
            }
        };
        for (&member, wanted) in &map.columns {
            for head in wanted {
                of_member[member].push(find(head.trim())?);
            }
        }
        for (&member, value) in &map.fixed {
            fixed[member] = Some(value.clone());
        }
        for (at, head) in heads.iter().enumerate() {
            let Some(member) = members::find(head) else { continue };
            if map.columns.contains_key(&member) || fixed[member].is_some() {
                continue;
            }
            if !of_member[member].is_empty() {
                return Err(TableFault::line(
                    line,
                    format!(
                        "two columns are called {}: give one of them another name",
                        MEMBERS[member].name
                    ),
                ));
            }
            of_member[member].push(at);
        }
        let missing: Vec<&str> = MEMBERS
            .iter()
            .enumerate()
            .filter(|(at, member)| {
                member.is_needed && of_member[*at].is_empty() && fixed[*at].is_none()
            })
            .map(|(_, member)| member.name)
            .collect();
        if !missing.is_empty() {
            return Err(TableFault::line(
                line,
                format!(
                    "no column for {}: the first line names the columns; name others in --map FILE, \
                 under [columns], and what is the same for every order under [fixed]",
                    missing.join(", ")
                ),
            ));
        }
        Ok(Self { heads, of_member, fixed })
    }

    /// How the column of a member is called in the file.
    pub(super) fn name(&self, member: usize) -> String {
        let heads = self.of_member[member].iter().map(|&column| self.heads[column].as_str());
        let heads: Vec<&str> = heads.collect();
        if heads.is_empty() { MEMBERS[member].name.to_owned() } else { heads.join(" + ") }
    }
}
