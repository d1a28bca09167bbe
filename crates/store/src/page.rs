//! Pages by key. Ids follow time, so that newest first is the order of ids backwards, and a page is a range of the index whatever the
//! length of the list.

use domain::page::{Page, PageRequest};
use uuid::Uuid;

use crate::StoreError;

/// The range that a page asks for.
pub(crate) struct Range {
    /// Rows have greater ids.
    pub(crate) above: Uuid,
    /// Rows have smaller ids.
    pub(crate) below: Uuid,
    /// One more than wanted, to know whether there is more.
    pub(crate) limit: i64,
    /// The end of the list is wanted: its rows come oldest first.
    pub(crate) oldest_first: bool,
}

fn cursor(text: Option<&String>, default: Uuid) -> Result<Uuid, StoreError> {
    text.map_or(Ok(default), |text| Uuid::parse_str(text).map_err(|_| StoreError::BadCursor(text.chars().take(80).collect())))
}

pub(crate) fn range(page: &PageRequest) -> Result<Range, StoreError> {
    let oldest_first = page.first.is_none() && page.last.is_some();
    let wanted = page.first.or(page.last);
    Ok(Range {
        above: cursor(page.before.as_ref(), Uuid::nil())?,
        below: cursor(page.after.as_ref(), Uuid::max())?,
        limit: wanted.map_or(i64::MAX, |wanted| i64::from(wanted) + 1),
        oldest_first,
    })
}

/// A text without capitals. Letter by letter, so that what is searched for and what it is found in become the same.
pub(crate) fn lowered(text: &str) -> String {
    text.chars().flat_map(char::to_lowercase).collect()
}

/// The pattern of texts that contain `part`, whatever the case, for `LIKE … ESCAPE '\\'`.
pub(crate) fn containing(part: &str) -> String {
    let mut pattern = String::from("%");
    for c in lowered(part).chars() {
        if matches!(c, '%' | '_' | '\\') {
            pattern.push('\\');
        }
        pattern.push(c);
    }
    pattern.push('%');
    pattern
}

/// Makes a page of the rows that the range returned, at most one more than wanted.
pub(crate) fn page<T>(request: &PageRequest, range: &Range, mut rows: Vec<T>) -> Page<T> {
    if range.oldest_first {
        rows.reverse();
    }
    // The cursors have done their work in the statement; what is left of the request is its length.
    let mut page = request.shorten(rows);
    page.has_previous |= request.after.is_some();
    page.has_next |= request.before.is_some();
    page
}
