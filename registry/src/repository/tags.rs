//! The list of tags (distribution specification, "Listing Tags").

use std::collections::BTreeSet;

use onedock_common::types::reference::Tag;
use reqwest::header::LINK;
use reqwest::{Method, StatusCode};
use serde::Deserialize;

use super::remote::RemoteRepository;
use crate::error::Error;
use crate::transport::answer::{no_page, read_all};
use crate::transport::request::Request;

/// The most pages of a list, and the most tags.
const PAGES: usize = 100;
const TAGS: usize = 100_000;
/// The largest page, in bytes.
const PAGE_LIMIT: u64 = 4 << 20;

impl RemoteRepository {
    /// All tags; none when the repository is not there.
    pub(crate) async fn tags(&self) -> Result<Vec<Tag>, Error> {
        #[derive(Deserialize)]
        struct Page {
            tags: Option<Vec<String>>,
        }
        let mut found = BTreeSet::new();
        let mut next = self
            .endpoint
            .at(&format!("{}/tags/list?n=1000", self.path))?;
        for _ in 0..PAGES {
            let what = format!("the list of tags of {}", self.path);
            let request = Request::new(what, Method::GET, next.clone(), self.pull());
            let response = self
                .endpoint
                .expect(&request, &self.deadline, &[StatusCode::OK])
                .await;
            let mut response = match response {
                Err(e) if e.is_not_found() => return Ok(Vec::new()),
                response => response?,
            };
            let link = response.headers().get(LINK).and_then(|l| l.to_str().ok());
            let link = link
                .and_then(next_page)
                .map(|page| self.endpoint.own_url("a list of tags", page));
            let link = link.transpose()?;
            let bytes = read_all(&self.endpoint, &mut response, PAGE_LIMIT, &request.what).await?;
            no_page(&self.endpoint, &bytes, &request.what)?;
            let page: Page = serde_json::from_slice(&bytes)
                .map_err(|_| self.endpoint.refuse("its list of tags is damaged"))?;
            // A tag that the specification does not allow cannot be requested either.
            found.extend(
                page.tags
                    .into_iter()
                    .flatten()
                    .filter_map(|t| t.parse().ok()),
            );
            match link {
                Some(link) if found.len() <= TAGS => next = link,
                Some(_) => break,
                None => return Ok(found.into_iter().collect()),
            }
        }
        Err(self
            .endpoint
            .refuse(format!("{} has too many tags", self.path)))
    }
}

/// The address in `<…>; rel="next"` (RFC 8288).
fn next_page(link: &str) -> Option<&str> {
    let (address, rest) = link.trim().strip_prefix('<')?.split_once('>')?;
    rest.contains("next").then_some(address)
}
