//! Pages of lists. Cursors are opaque to clients; inside they are the key of the last row.

/// Which part of a list is wanted. `first` and `last` exclude each other.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct PageRequest {
    /// At most so many from the start (after `after`).
    pub first: Option<u32>,
    /// At most so many from the end (before `before`).
    pub last: Option<u32>,
    /// Behind this cursor.
    pub after: Option<String>,
    /// Ahead of this cursor.
    pub before: Option<String>,
}

/// A part of a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page<T> {
    /// The rows.
    pub items: Vec<T>,
    /// More behind.
    pub has_next: bool,
    /// More ahead.
    pub has_previous: bool,
}

/// The largest page, and the one of a request that names no size.
pub const MAX_PAGE: u32 = 500;

impl PageRequest {
    /// The same request with at most [`MAX_PAGE`] items: what a list of any length is asked for.
    #[must_use]
    pub fn bounded(&self) -> Self {
        let bound = |size: Option<u32>| size.map(|size| size.min(MAX_PAGE));
        let first = if self.last.is_none() { Some(self.first.unwrap_or(MAX_PAGE)) } else { self.first };
        Self { first: bound(first), last: bound(self.last), ..self.clone() }
    }

    /// Cuts a page out of a whole, ordered list whose items know their cursor.
    pub fn cut<T>(&self, mut items: Vec<T>, cursor: impl Fn(&T) -> String) -> Page<T> {
        let mut has_previous = false;
        let mut has_next = false;
        if let Some(after) = &self.after
            && let Some(at) = items.iter().position(|item| cursor(item) == *after)
        {
            items.drain(..=at);
            has_previous = true;
        }
        if let Some(before) = &self.before
            && let Some(at) = items.iter().position(|item| cursor(item) == *before)
        {
            items.truncate(at);
            has_next = true;
        }
        if let Some(first) = self.first
            && items.len() > first as usize
        {
            items.truncate(first as usize);
            has_next = true;
        }
        if let Some(last) = self.last
            && items.len() > last as usize
        {
            items.drain(..items.len() - last as usize);
            has_previous = true;
        }
        Page { items, has_next, has_previous }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_cover_a_list_without_gap_or_overlap() {
        let all: Vec<u32> = (0..10).collect();
        let mut seen: Vec<u32> = vec![];
        let mut after = None;
        loop {
            let page = PageRequest { first: Some(3), after: after.clone(), ..Default::default() }.cut(all.clone(), u32::to_string);
            seen.extend(&page.items);
            if !page.has_next {
                break;
            }
            after = page.items.last().map(u32::to_string);
        }
        assert_eq!(seen, all);
    }

    #[test]
    fn a_page_of_none_is_empty_and_says_that_there_is_more() {
        let page = PageRequest { first: Some(0), ..Default::default() }.cut(vec![1, 2], i32::to_string);
        assert_eq!(page, Page { items: vec![], has_next: true, has_previous: false });
    }
}
