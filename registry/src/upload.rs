//! Blobs into a repository: looked for, mounted, or sent piece by piece.

use std::io;
use std::pin::pin;
use std::sync::{Mutex, PoisonError};

use bytes::Bytes;
use futures_util::future::{Either, select};
use futures_util::stream;
use http_body_util::StreamBody;
use hyper::body::Frame;
use onedock_common::Digest;
use onedock_common::reference::RepositoryPath;
use reqwest::header::{AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE, HeaderValue, LOCATION};
use reqwest::{Body, Method, Response, StatusCode, Url};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, sleep_until};

use crate::body::into_error;
use crate::error::Error;
use crate::manifest::Descriptor;
use crate::pieces::Pieces;
use crate::remote::Remote;
use crate::transport::{Ask, is_busy, pause};

/// How often one blob's upload is begun again.
const RESTARTS: u32 = 3;

/// What became of one attempt to send.
enum Sent {
    Done(Response),
    /// The registry is at fault, and a new attempt may help.
    Again(Error),
}

impl Remote {
    /// The size of a blob that is here; `None` when it is not.
    pub(crate) async fn has_blob(&self, digest: &Digest) -> Result<bool, Error> {
        let ask = self.blob(Method::HEAD, digest)?;
        let response = self.endpoint.send(&ask, self.deadline).await?;
        match response.status() {
            StatusCode::OK => Ok(true),
            StatusCode::NOT_FOUND => Ok(false),
            _ => Err(into_error(&self.endpoint, response, &ask.what).await),
        }
    }

    /// Tries to mount a blob from another repository of this registry. `false` means that it
    /// has to be sent: mounting is an offer that a registry need not take (202, 404, 405), or
    /// that our login may not use (401, 403).
    pub(crate) async fn mount(
        &self,
        digest: &Digest,
        from: &RepositoryPath,
    ) -> Result<bool, Error> {
        let path = format!("{}/blobs/uploads/?mount={digest}&from={from}", self.path);
        let url = self.endpoint.at(&path)?;
        let scopes = self.push().and(from.as_str(), "pull");
        let ask = Ask::new(
            format!("the mount of {digest} from {from}"),
            Method::POST,
            url,
            scopes,
        );
        let response = match self.endpoint.send(&ask, self.deadline).await {
            Err(Error::Denied { .. }) => return Ok(false),
            response => response?,
        };
        match response.status().as_u16() {
            201 => Ok(true),
            202 => {
                // A session was opened instead; nothing will be sent into it.
                if let Ok(location) = self.location(&response) {
                    self.cancel(location).await;
                }
                Ok(false)
            }
            400 | 401 | 403 | 404 | 405 => Ok(false),
            _ => Err(into_error(&self.endpoint, response, &ask.what).await),
        }
    }

    async fn begin(&self) -> Result<Url, Error> {
        let url = self.endpoint.at(&format!("{}/blobs/uploads/", self.path))?;
        let mut ask = Ask::new(
            format!("an upload to {}", self.path),
            Method::POST,
            url,
            self.push(),
        );
        ask.headers
            .insert(CONTENT_LENGTH, HeaderValue::from_static("0"));
        let wanted = [StatusCode::ACCEPTED];
        let response = self.endpoint.expect(&ask, self.deadline, &wanted).await?;
        self.location(&response)
    }

    fn location(&self, response: &Response) -> Result<Url, Error> {
        let location = response
            .headers()
            .get(LOCATION)
            .and_then(|l| l.to_str().ok());
        let location =
            location.ok_or_else(|| self.endpoint.refuse("its upload has no Location"))?;
        self.endpoint.upload_location(location)
    }

    /// Gives an upload session up; the registry would purge it by itself after a week.
    async fn cancel(&self, location: Url) {
        let ask = Ask::new(
            "the end of an upload",
            Method::DELETE,
            location,
            self.push(),
        );
        if let Err(e) = self.endpoint.send(&ask, self.deadline).await {
            tracing::debug!(error = %e, "an upload session stays until the registry purges it");
        }
    }

    /// Sends a small blob, unless it is there.
    pub(crate) async fn put_small(
        &self,
        media_type: &str,
        bytes: Bytes,
    ) -> Result<Descriptor, Error> {
        let blob = Descriptor {
            media_type: media_type.to_owned(),
            size: bytes.len() as u64,
            digest: Digest::of(&bytes),
            urls: Vec::new(),
            platform: None,
        };
        if !self.has_blob(&blob.digest).await? {
            let mut location = self.begin().await?;
            location
                .query_pairs_mut()
                .append_pair("digest", blob.digest.as_str());
            let what = format!("blob {} of {}", blob.digest, self.path);
            let mut ask = Ask::new(what, Method::PUT, location, self.push());
            ask.headers.insert(CONTENT_TYPE, octets());
            ask.body = Some(bytes);
            self.endpoint
                .expect(&ask, self.deadline, &[StatusCode::CREATED])
                .await?;
        }
        Ok(blob)
    }

    /// Sends a blob of known size and digest. The pieces are opened anew for every attempt.
    pub(crate) async fn put_blob<P: Pieces>(
        &self,
        blob: &Descriptor,
        mut open: impl FnMut() -> P,
    ) -> Result<(), Error> {
        let mut restarts = 0;
        loop {
            let location = self.begin().await?;
            let mut put = location.clone();
            put.query_pairs_mut()
                .append_pair("digest", blob.digest.as_str());
            let what = format!("blob {} of {}", blob.digest, self.path);
            let mut ask = Ask::new(what, Method::PUT, put, self.push());
            ask.headers
                .insert(CONTENT_LENGTH, HeaderValue::from(blob.size));
            let failed = match self.stream(&ask, &mut open()).await {
                Ok(Sent::Done(response)) if response.status() == StatusCode::CREATED => {
                    return Ok(());
                }
                Ok(Sent::Done(response)) => {
                    let status = response.status();
                    let error = into_error(&self.endpoint, response, &ask.what).await;
                    self.worth_another(status, error)
                }
                Ok(Sent::Again(e)) => Ok(e),
                Err(e) => Err(e),
            };
            self.cancel(location).await;
            self.restart(failed?, &mut restarts).await?;
        }
    }

    /// Sends a blob whose size and digest are known only when its pieces have ended;
    /// `finished` then tells them. The registry checks the digest again.
    pub(crate) async fn put_unknown<P: Pieces, T>(
        &self,
        mut open: impl FnMut() -> P,
        mut finished: impl FnMut(P) -> Result<(Digest, T), Error>,
    ) -> Result<T, Error> {
        let mut restarts = 0;
        loop {
            let location = self.begin().await?;
            let what = format!("a layer of {}", self.path);
            let ask = Ask::new(what.clone(), Method::PATCH, location.clone(), self.push());
            let mut pieces = open();
            let failed = match self.stream(&ask, &mut pieces).await {
                Ok(Sent::Done(response)) if response.status() == StatusCode::ACCEPTED => {
                    let mut put = self.location(&response)?;
                    match finished(pieces) {
                        Ok((digest, told)) => {
                            put.query_pairs_mut().append_pair("digest", digest.as_str());
                            let ask = Ask::new(what, Method::PUT, put, self.push());
                            let wanted = [StatusCode::CREATED];
                            self.endpoint.expect(&ask, self.deadline, &wanted).await?;
                            return Ok(told);
                        }
                        Err(e) => Err(e),
                    }
                }
                Ok(Sent::Done(response)) => {
                    let status = response.status();
                    let error = into_error(&self.endpoint, response, &ask.what).await;
                    self.worth_another(status, error)
                }
                Ok(Sent::Again(e)) => Ok(e),
                Err(e) => Err(e),
            };
            self.cancel(location).await;
            self.restart(failed?, &mut restarts).await?;
        }
    }

    /// An answer to an upload that a new attempt may better: the registry is busy, it lost the
    /// session in a restart, or the token ended meanwhile.
    fn worth_another(&self, status: StatusCode, error: Error) -> Result<Error, Error> {
        match status {
            StatusCode::NOT_FOUND | StatusCode::UNAUTHORIZED => Ok(error),
            status if is_busy(status) => Ok(error),
            _ => Err(error),
        }
    }

    async fn restart(&self, failed: Error, restarts: &mut u32) -> Result<(), Error> {
        *restarts += 1;
        let wait = pause(*restarts);
        if *restarts > RESTARTS || Instant::now() + wait > self.deadline.at() {
            return Err(failed);
        }
        tracing::debug!(error = %failed, "an upload broke and is begun again");
        sleep(wait).await;
        Ok(())
    }

    /// Sends one request whose body is made of pieces. Errors are the pieces' own; faults of
    /// the registry are [`Sent::Again`].
    async fn stream<P: Pieces>(&self, ask: &Ask, pieces: &mut P) -> Result<Sent, Error> {
        let (sender, mut receiver) = mpsc::channel::<io::Result<Frame<Bytes>>>(2);
        let body = StreamBody::new(stream::poll_fn(move |context| receiver.poll_recv(context)));
        let mut request = self
            .endpoint
            .http
            .request(ask.method.clone(), ask.url.clone())
            .headers(ask.headers.clone())
            .header(CONTENT_TYPE, octets())
            .body(Body::wrap(body));
        if let Some(header) = self.endpoint.auth.header(&ask.scopes) {
            request = request.header(AUTHORIZATION, header);
        }
        let progress = Mutex::new(Instant::now());
        let pump = async {
            let sender = sender;
            while let Some(piece) = pieces.next().await.transpose() {
                match piece {
                    Ok(piece) => {
                        if sender.send(Ok(Frame::data(piece))).await.is_err() {
                            return Ok(());
                        }
                        *progress.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
                    }
                    Err(e) => {
                        // Ends the request before its end: the registry keeps nothing of it.
                        let _ = sender
                            .send(Err(io::Error::other("the source failed")))
                            .await;
                        return Err(e);
                    }
                }
            }
            Ok(())
        };
        let limit = self.endpoint.request_limit;
        let watch = async {
            loop {
                let last = *progress.lock().unwrap_or_else(PoisonError::into_inner);
                if last.elapsed() >= limit {
                    return;
                }
                sleep_until(last + limit).await;
            }
        };
        let sending = async {
            let pump = pin!(pump);
            let answer = match select(pin!(request.send()), pump).await {
                // The whole body must have been given for an answer to count.
                Either::Left((Ok(response), pump)) if response.status().is_success() => {
                    pump.await?;
                    Ok(response)
                }
                Either::Left((answer, _)) => answer,
                Either::Right((pumped, request)) => {
                    pumped?;
                    request.await
                }
            };
            Ok(match answer {
                Ok(response) => Sent::Done(response),
                Err(e) => Sent::Again(self.endpoint.unreachable(e)),
            })
        };
        match select(pin!(sending), pin!(watch)).await {
            Either::Left((sent, _)) => sent,
            Either::Right(_) => Ok(Sent::Again(self.endpoint.late(&ask.what))),
        }
    }
}

fn octets() -> HeaderValue {
    HeaderValue::from_static("application/octet-stream")
}
