//! One request: login, redirects and retries, within the call's deadline.

use std::time::Instant;

use bytes::Bytes;
use reqwest::header::{AUTHORIZATION, HeaderMap};
use reqwest::{Method, RequestBuilder, Response, StatusCode, Url};

use super::answer::into_error;
use super::authorize::answer_challenge;
use super::endpoint::Endpoint;
use super::redirect::REDIRECTS;
use super::retry::{Deadline, Retries};
use super::token::Scopes;
use crate::error::Error;

/// A request to a registry.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    /// What is requested, for messages: `manifest onedock/img-7:latest`.
    pub(crate) what: String,
    pub(crate) method: Method,
    pub(crate) url: Url,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Option<Bytes>,
    pub(crate) scopes: Scopes,
}

impl Request {
    pub(crate) fn new(what: impl Into<String>, method: Method, url: Url, scopes: Scopes) -> Self {
        Self {
            what: what.into(),
            method,
            url,
            headers: HeaderMap::new(),
            body: None,
            scopes,
        }
    }
}

impl Endpoint {
    /// Sends until there is a final answer. The caller decides about answers below 500 other than
    /// 401 and 429.
    pub(crate) async fn send(
        &self,
        request: &Request,
        deadline: &Deadline,
    ) -> Result<Response, Error> {
        let (mut logins, mut retries) = (0, Retries::default());
        loop {
            let begun = Instant::now();
            let answer = self.once(request).await;
            // What is sent may be a layer, and take as long as that takes.
            if request.body.is_none() && !deadline.spend(begun.elapsed()) {
                return Err(self.over_budget(&request.what));
            }
            let Some(response) = retries.check(self, &request.what, deadline, answer).await? else {
                continue;
            };
            let refused = response.status() == StatusCode::UNAUTHORIZED;
            if !refused || logins >= 2 || !self.is_own(response.url()) {
                return Ok(response);
            }
            logins += 1;
            let asked = (request.what.as_str(), &request.scopes);
            answer_challenge(self, response.headers(), asked, logins, deadline).await?;
        }
    }

    /// As [`Endpoint::send`], and anything but `wanted` is an error.
    pub(crate) async fn expect(
        &self,
        request: &Request,
        deadline: &Deadline,
        wanted: &[StatusCode],
    ) -> Result<Response, Error> {
        let response = self.send(request, deadline).await?;
        if wanted.contains(&response.status()) {
            Ok(response)
        } else {
            Err(into_error(self, response, &request.what).await)
        }
    }

    /// The request to `url`, with the login or token where that is the registry itself.
    pub(crate) fn build(&self, request: &Request, url: &Url) -> RequestBuilder {
        let mut builder = self
            .http
            .request(request.method.clone(), url.clone())
            .headers(request.headers.clone());
        if self.is_own(url)
            && let Some(header) = self.auth.header(&request.scopes)
        {
            builder = builder.header(AUTHORIZATION, header);
        }
        match &request.body {
            Some(body) => builder.body(body.clone()),
            None => builder,
        }
    }

    async fn once(&self, request: &Request) -> Result<Response, Error> {
        let mut url = request.url.clone();
        for _ in 0..=REDIRECTS {
            let response = self
                .send_once(self.build(request, &url), &request.what)
                .await?;
            if !matches!(request.method, Method::GET | Method::HEAD) {
                return Ok(response);
            }
            match self.redirect(&url, &response)? {
                Some(next) => url = next,
                None => return Ok(response),
            }
        }
        Err(self.too_many_redirects())
    }
}
