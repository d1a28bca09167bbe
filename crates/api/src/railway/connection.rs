//! Relay connections, named per parent as Railway names them (`contracts/railway.md` 3.1).

use domain::page::{MAX_PAGE, Page, PageRequest};
use juniper::GraphQLObject;

use crate::graphql::{Ctx, Fault, Scalar};

/// The page of a list that is read from the store page by page, when the client names none.
pub(crate) const DEFAULT_PAGE: u32 = 50;

/// Where a page stands in its list.
#[derive(Clone, Debug, GraphQLObject)]
#[graphql(scalar = Scalar, context = Ctx)]
pub(crate) struct PageInfo {
    end_cursor: Option<String>,
    has_next_page: bool,
    has_previous_page: bool,
    start_cursor: Option<String>,
}

impl PageInfo {
    pub(crate) fn of<T>(page: &Page<T>, cursor: impl Fn(&T) -> String) -> Self {
        Self {
            end_cursor: page.items.last().map(&cursor),
            has_next_page: page.has_next,
            has_previous_page: page.has_previous,
            start_cursor: page.items.first().map(&cursor),
        }
    }
}

/// The four arguments of every connection.
pub(crate) fn page(after: Option<String>, before: Option<String>, first: Option<i32>, last: Option<i32>) -> Result<PageRequest, Fault> {
    page_of(MAX_PAGE, after, before, first, last)
}

/// The same where a page may have more rows than usual: a list that is in memory anyway, of which clients want everything.
pub(crate) fn page_of(
    most: u32,
    after: Option<String>,
    before: Option<String>,
    first: Option<i32>,
    last: Option<i32>,
) -> Result<PageRequest, Fault> {
    let size = |name: &str, value: Option<i32>| match value {
        None => Ok(None),
        Some(value) => match u32::try_from(value) {
            Ok(size) if size <= most => Ok(Some(size)),
            _ => Err(Fault::bad_input(format!("{name} is {value}: a page has 0 to {most} rows"))),
        },
    };
    // Clients with generated types send "" where they have no cursor yet.
    let given = |cursor: Option<String>| cursor.filter(|text| !text.is_empty());
    let request = PageRequest { first: size("first", first)?, last: size("last", last)?, after: given(after), before: given(before) };
    if request.first.is_some() && request.last.is_some() {
        return Err(Fault::bad_input("first and last exclude each other: send one of them"));
    }
    Ok(request)
}

/// The same with a page size when the client names none.
pub(crate) fn sized(mut request: PageRequest) -> PageRequest {
    if request.first.is_none() && request.last.is_none() {
        request.first = Some(DEFAULT_PAGE);
    }
    request
}

/// Defines a connection and its edge over a node type that has `fn cursor(&self) -> String`.
macro_rules! connection {
    ($($(#[$doc:meta])* $name:ident, $edge:ident, $node:ty;)+) => {$(
        $(#[$doc])*
        #[derive(Clone)]
        pub(crate) struct $name {
            edges: Vec<$edge>,
            info: $crate::railway::connection::PageInfo,
        }

        /// A row with its place in the list.
        #[derive(Clone)]
        pub(crate) struct $edge($node);

        impl From<domain::page::Page<$node>> for $name {
            fn from(page: domain::page::Page<$node>) -> Self {
                let info = $crate::railway::connection::PageInfo::of(&page, |node| node.cursor());
                Self { edges: page.items.into_iter().map($edge).collect(), info }
            }
        }

        #[juniper::graphql_object(context = $crate::graphql::Ctx, scalar = $crate::graphql::Scalar)]
        impl $name {
            fn edges(&self) -> &[$edge] {
                &self.edges
            }
            fn page_info(&self) -> &$crate::railway::connection::PageInfo {
                &self.info
            }
        }

        #[juniper::graphql_object(context = $crate::graphql::Ctx, scalar = $crate::graphql::Scalar)]
        impl $edge {
            fn cursor(&self) -> String {
                self.0.cursor()
            }
            fn node(&self) -> &$node {
                &self.0
            }
        }
    )+};
}
pub(crate) use connection;
