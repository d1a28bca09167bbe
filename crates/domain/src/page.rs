//! Pages of lists. Cursors are opaque to clients; inside they are the key of the last row.

use uuid::Uuid;

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

/// How a list stands that a page is cut out of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// By ids, which are its cursors, the oldest first.
    Oldest,
    /// The same, the newest first.
    Newest,
    /// Otherwise.
    Other,
}

/// A cursor that no list has given out, or one of a list in no order of ids whose row is gone.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the cursor {0:?} is not in this list: pass endCursor or startCursor of a page unchanged, or read it from its beginning")]
pub struct BadCursor(pub String);

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

    /// Cuts a page out of a whole list whose items know their cursor. Where a cursor's row is gone, a list in the order of ids goes on where
    /// it was.
    ///
    /// # Errors
    /// A cursor that the list cannot have given out, or that tells nothing any more.
    pub fn cut<T>(&self, order: Order, mut items: Vec<T>, cursor: impl Fn(&T) -> String) -> Result<Page<T>, BadCursor> {
        if let Some(after) = &self.after {
            let (at, is_there) = place(order, &items, &cursor, after)?;
            items.drain(..at + usize::from(is_there));
        }
        if let Some(before) = &self.before {
            let (at, _) = place(order, &items, &cursor, before)?;
            items.truncate(at);
        }
        let mut page = self.shorten(items);
        page.has_previous |= self.after.is_some();
        page.has_next |= self.before.is_some();
        Ok(page)
    }

    /// As much of a list as is wanted, whatever the cursors say.
    pub fn shorten<T>(&self, mut items: Vec<T>) -> Page<T> {
        let mut has_previous = false;
        let mut has_next = false;
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

/// Where the row of a cursor stands, or how many rows stand ahead of where it was; and whether it is there.
fn place<T>(order: Order, items: &[T], cursor: impl Fn(&T) -> String, sought: &str) -> Result<(usize, bool), BadCursor> {
    if let Some(at) = items.iter().position(|item| cursor(item) == sought) {
        return Ok((at, true));
    }
    let bad = || BadCursor(sought.chars().take(80).collect());
    let id = Uuid::parse_str(sought).map_err(|_| bad())?;
    let ahead = |item: &T| match (order, Uuid::parse_str(&cursor(item))) {
        (Order::Oldest, Ok(own)) => own < id,
        (Order::Newest, Ok(own)) => own > id,
        (Order::Other, _) | (_, Err(_)) => false,
    };
    match order {
        Order::Other => Err(bad()),
        Order::Oldest | Order::Newest => Ok((items.iter().filter(|item| ahead(item)).count(), false)),
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
            let request = PageRequest { first: Some(3), after: after.clone(), ..Default::default() };
            let page = request.cut(Order::Other, all.clone(), u32::to_string).unwrap();
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
        let page = PageRequest { first: Some(0), ..Default::default() }.cut(Order::Other, vec![1, 2], i32::to_string).unwrap();
        assert_eq!(page, Page { items: vec![], has_next: true, has_previous: false });
    }

    #[test]
    fn a_list_goes_on_where_a_row_was_that_is_gone() {
        let ids: Vec<Uuid> = (1..=5).map(|n| Uuid::from_u128(n * 10)).collect();
        let newest: Vec<Uuid> = ids.iter().rev().copied().collect();
        let gone = Some(Uuid::from_u128(25).to_string());
        let (after, before) =
            (PageRequest { after: gone.clone(), ..Default::default() }, PageRequest { before: gone, ..Default::default() });
        let cut = |request: &PageRequest, order, items: &[Uuid]| request.cut(order, items.to_vec(), Uuid::to_string);
        assert_eq!(cut(&after, Order::Oldest, &ids).unwrap().items, ids[2..]);
        assert_eq!(cut(&before, Order::Oldest, &ids).unwrap().items, ids[..2]);
        assert_eq!(cut(&after, Order::Newest, &newest).unwrap().items, newest[3..]);
        assert_eq!(cut(&before, Order::Newest, &newest).unwrap().items, newest[..3]);
        assert!(cut(&after, Order::Oldest, &[]).unwrap().items.is_empty());
        // What is in no such order does not begin anew without a word.
        assert!(cut(&after, Order::Other, &ids).is_err());
        for bad in ["", "nonsense"] {
            let request = PageRequest { after: Some(bad.into()), ..Default::default() };
            assert_eq!(cut(&request, Order::Oldest, &ids), Err(BadCursor(bad.into())));
        }
    }
}
