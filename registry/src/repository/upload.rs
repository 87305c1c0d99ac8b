//! Blobs into a repository: looked for, mounted, or sent piece by piece.

use std::convert::Infallible;
use std::pin::pin;
use std::sync::{Mutex, PoisonError};

use bytes::Bytes;
use futures_util::future::{Either, select};
use futures_util::stream;
use http_body_util::StreamBody;
use hyper::body::Frame;
use onedock_common::Digest;
use onedock_common::types::reference::RepositoryPath;
use reqwest::header::{AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE, HeaderValue, LOCATION};
use reqwest::{Body, Method, Response, StatusCode, Url};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, sleep_until};

use crate::chunks::Pieces;
use crate::error::Error;
use crate::oci::manifest::Descriptor;
use crate::repository::remote::Remote;
use crate::transport::answer::into_error;
use crate::transport::request::{Ask, is_busy, pause};

/// How often one blob's upload is begun again.
const RESTARTS: u32 = 3;

/// What became of one attempt to send.
struct Sent {
    /// What the registry answered.
    answer: Result<Response, Error>,
    /// Whether the pieces came to their end. When they did not, the body ended early but in
    /// good order, and `answer` tells the session's new address.
    pieces: Result<(), Error>,
}

/// How one attempt to send a blob ended.
enum Attempt<T> {
    Done(T),
    /// Not, but another may.
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
        let blob = Descriptor::new(media_type, bytes.len() as u64, Digest::of(&bytes));
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

    /// Sends a blob of known digest. The pieces are opened anew for every attempt.
    pub(crate) async fn put_blob<P: Pieces>(
        &self,
        blob: &Descriptor,
        open: impl FnMut() -> P,
    ) -> Result<(), Error> {
        self.put_unknown(open, |_| Ok((blob.digest.clone(), ())))
            .await
    }

    /// Sends a blob whose digest is known only when its pieces have ended; `finished` then tells
    /// it. The registry checks it again.
    ///
    /// The engine's way: one PATCH of all pieces, then a PUT with the digest. A session into
    /// which a request broke can not be given up (CNCF Distribution: "upload resumed at wrong
    /// offset") and lies in the registry's storage for a week; so when the pieces fail, the
    /// PATCH is ended in good order, and the session that its answer names is given up.
    pub(crate) async fn put_unknown<P: Pieces, T>(
        &self,
        mut open: impl FnMut() -> P,
        mut finished: impl FnMut(P) -> Result<(Digest, T), Error>,
    ) -> Result<T, Error> {
        let mut restarts = 0;
        loop {
            match self.attempt(open(), &mut finished).await? {
                Attempt::Done(told) => return Ok(told),
                Attempt::Again(failed) => self.restart(failed, &mut restarts).await?,
            }
        }
    }

    /// As [`Remote::put_unknown`], of pieces that cannot be opened twice.
    pub(crate) async fn put_once<P: Pieces, T>(
        &self,
        pieces: P,
        mut finished: impl FnMut(P) -> Result<(Digest, T), Error>,
    ) -> Result<T, Error> {
        match self.attempt(pieces, &mut finished).await? {
            Attempt::Done(told) => Ok(told),
            Attempt::Again(failed) => Err(failed),
        }
    }

    async fn attempt<P: Pieces, T>(
        &self,
        mut pieces: P,
        finished: &mut impl FnMut(P) -> Result<(Digest, T), Error>,
    ) -> Result<Attempt<T>, Error> {
        let location = self.begin().await?;
        let what = format!("a blob of {}", self.path);
        let ask = Ask::new(what, Method::PATCH, location.clone(), self.push());
        let sent = self.stream(&ask, &mut pieces).await;
        match sent.answer {
            Ok(response) if response.status() == StatusCode::ACCEPTED => {
                let mut location = self.location(&response)?;
                match sent.pieces.and_then(|()| finished(pieces)) {
                    Ok((digest, told)) => {
                        location
                            .query_pairs_mut()
                            .append_pair("digest", digest.as_str());
                        let put = Ask::new(ask.what, Method::PUT, location, ask.scopes);
                        let wanted = [StatusCode::CREATED];
                        self.endpoint.expect(&put, self.deadline, &wanted).await?;
                        Ok(Attempt::Done(told))
                    }
                    Err(e) => {
                        self.cancel(location).await;
                        Err(e)
                    }
                }
            }
            answer => {
                self.cancel(location).await;
                sent.pieces?;
                Ok(Attempt::Again(match answer {
                    Ok(response) => self.worth_another(response, &ask.what).await?,
                    Err(e) => e,
                }))
            }
        }
    }

    /// An answer to an upload that a new attempt may better: the registry is busy, it lost the
    /// session in a restart, or the token ended meanwhile.
    async fn worth_another(&self, response: Response, what: &str) -> Result<Error, Error> {
        let status = response.status();
        let error = into_error(&self.endpoint, response, what).await;
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

    /// Sends one request whose body is made of pieces.
    async fn stream<P: Pieces>(&self, ask: &Ask, pieces: &mut P) -> Sent {
        let (sender, mut receiver) = mpsc::channel::<Result<Frame<Bytes>, Infallible>>(2);
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
            // Dropped at the end of this block, which ends the body.
            let sender = sender;
            while let Some(piece) = pieces.next().await? {
                if sender.send(Ok(Frame::data(piece))).await.is_err() {
                    break;
                }
                *progress.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
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
            let (answer, pieces) = match select(pin!(request.send()), pump).await {
                // The whole body must have been given for an answer to count.
                Either::Left((Ok(response), pump)) if response.status().is_success() => {
                    (Ok(response), pump.await)
                }
                Either::Left((answer, _)) => (answer, Ok(())),
                Either::Right((pieces, request)) => (request.await, pieces),
            };
            let answer = answer.map_err(|e| self.endpoint.unreachable(e));
            Sent { answer, pieces }
        };
        match select(pin!(sending), pin!(watch)).await {
            Either::Left((sent, _)) => sent,
            Either::Right(_) => Sent {
                answer: Err(self.endpoint.late(&ask.what)),
                pieces: Ok(()),
            },
        }
    }
}

fn octets() -> HeaderValue {
    HeaderValue::from_static("application/octet-stream")
}
