//! Blobs into a repository: mounted from another one, or uploaded in chunks.

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
use reqwest::header::{CONTENT_LENGTH, CONTENT_TYPE, HeaderValue, LOCATION};
use reqwest::{Body, Method, Response, StatusCode, Url};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, sleep_until};

use super::remote::RemoteRepository;
use crate::chunks::Chunks;
use crate::error::Error;
use crate::oci::descriptor::Descriptor;
use crate::transport::answer::into_error;
use crate::transport::request::Request;
use crate::transport::retry::{is_busy, pause};

/// How often one blob's upload is begun again.
const RESTARTS: u32 = 3;
/// Smaller layers are uploaded without asking whether they could be mounted, in bytes.
pub(crate) const WORTH_MOUNTING: u64 = 16 * 1024;

/// The result of one request with a body of chunks.
struct Sent {
    answer: Result<Response, Error>,
    /// Whether the chunks came to their end. When they did not, the body ended early but in
    /// good order, and `answer` has the session's new address.
    chunks: Result<(), Error>,
}

/// How one attempt to upload a blob ended.
enum Attempt<T> {
    Done(T),
    /// It failed, but another may succeed.
    Again(Error),
}

impl RemoteRepository {
    /// Whether the repository has a blob.
    pub(crate) async fn has_blob(&self, digest: &Digest) -> Result<bool, Error> {
        let request = self.blob(Method::HEAD, digest)?;
        let response = self.endpoint.send(&request, &self.deadline).await?;
        match response.status() {
            StatusCode::OK => Ok(true),
            StatusCode::NOT_FOUND => Ok(false),
            _ => Err(into_error(&self.endpoint, response, &request.what).await),
        }
    }

    /// Tries to mount a blob from another repository of this registry. `false` means that it
    /// has to be uploaded: a registry need not support mounting (202, 404, 405), and the login may
    /// have no right to it (401, 403).
    pub(crate) async fn mount(
        &self,
        digest: &Digest,
        from: &RepositoryPath,
    ) -> Result<bool, Error> {
        let path = format!("{}/blobs/uploads/?mount={digest}&from={from}", self.path);
        let url = self.endpoint.at(&path)?;
        let scopes = self.push().and(from.as_str(), "pull");
        let request = Request::new(
            format!("the mount of {digest} from {from}"),
            Method::POST,
            url,
            scopes,
        );
        let response = match self.endpoint.send(&request, &self.deadline).await {
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
            _ => Err(into_error(&self.endpoint, response, &request.what).await),
        }
    }

    /// Makes a layer known in the repository of shared layers. Without it later copies cost more,
    /// nothing else.
    pub(crate) async fn share(&self, layer: &Descriptor) {
        let Some(shared) = self.shared().filter(|_| layer.size >= WORTH_MOUNTING) else {
            return;
        };
        match shared.mount(&layer.digest, &self.path).await {
            Ok(true) => {}
            Ok(false) => tracing::debug!(layer = %layer.digest, "the registry does not mount"),
            Err(error) => tracing::warn!(%error, layer = %layer.digest, "cannot share a layer"),
        }
    }

    async fn begin(&self) -> Result<Url, Error> {
        let url = self.endpoint.at(&format!("{}/blobs/uploads/", self.path))?;
        let mut request = Request::new(
            format!("an upload to {}", self.path),
            Method::POST,
            url,
            self.push(),
        );
        request
            .headers
            .insert(CONTENT_LENGTH, HeaderValue::from_static("0"));
        let wanted = [StatusCode::ACCEPTED];
        let response = self
            .endpoint
            .expect(&request, &self.deadline, &wanted)
            .await?;
        self.location(&response)
    }

    fn location(&self, response: &Response) -> Result<Url, Error> {
        let location = response.headers().get(LOCATION);
        let location = location
            .and_then(|l| l.to_str().ok())
            .ok_or_else(|| self.endpoint.refuse("its upload has no Location"))?;
        self.endpoint.own_url("an upload", location)
    }

    /// Cancels an upload session; the registry would purge it by itself after a week.
    async fn cancel(&self, location: Url) {
        let request = Request::new(
            "the end of an upload",
            Method::DELETE,
            location,
            self.push(),
        );
        if let Err(e) = self.endpoint.send(&request, &self.deadline).await {
            tracing::debug!(error = %e, "an upload session stays until the registry purges it");
        }
    }

    /// Uploads a small blob, unless it is there.
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
            let mut request = Request::new(what, Method::PUT, location, self.push());
            request.headers.insert(CONTENT_TYPE, octets());
            request.body = Some(bytes);
            self.endpoint
                .expect(&request, &self.deadline, &[StatusCode::CREATED])
                .await?;
        }
        Ok(blob)
    }

    /// Uploads a blob of known digest. The chunks are opened again for every attempt.
    pub(crate) async fn put_blob<C: Chunks>(
        &self,
        blob: &Descriptor,
        open: impl FnMut() -> C,
    ) -> Result<(), Error> {
        self.put_stream(open, |_| Ok((blob.digest.clone(), ())))
            .await
    }

    /// Uploads a blob whose digest is known only when its chunks have ended, from `finished`. The
    /// registry checks it again.
    ///
    /// As the engine does: one PATCH of all chunks, then a PUT with the digest. A session in
    /// which a request broke cannot be cancelled (CNCF Distribution: "upload resumed at wrong
    /// offset") and stays in the registry's storage for a week; so when the chunks fail, the
    /// PATCH is ended in good order, and the session that its answer names is cancelled.
    pub(crate) async fn put_stream<C: Chunks, T>(
        &self,
        mut open: impl FnMut() -> C,
        mut finished: impl FnMut(C) -> Result<(Digest, T), Error>,
    ) -> Result<T, Error> {
        let mut restarts = 0;
        loop {
            match self.attempt(open(), &mut finished).await? {
                Attempt::Done(result) => return Ok(result),
                Attempt::Again(failed) => self.restart(failed, &mut restarts).await?,
            }
        }
    }

    /// As [`RemoteRepository::put_stream`], of chunks that cannot be opened twice.
    pub(crate) async fn put_once<C: Chunks, T>(
        &self,
        chunks: C,
        mut finished: impl FnMut(C) -> Result<(Digest, T), Error>,
    ) -> Result<T, Error> {
        match self.attempt(chunks, &mut finished).await? {
            Attempt::Done(result) => Ok(result),
            Attempt::Again(failed) => Err(failed),
        }
    }

    async fn attempt<C: Chunks, T>(
        &self,
        mut chunks: C,
        finished: &mut impl FnMut(C) -> Result<(Digest, T), Error>,
    ) -> Result<Attempt<T>, Error> {
        let location = self.begin().await?;
        let what = format!("a blob of {}", self.path);
        let request = Request::new(what, Method::PATCH, location.clone(), self.push());
        let sent = self.stream(&request, &mut chunks).await;
        match sent.answer {
            Ok(response) if response.status() == StatusCode::ACCEPTED => {
                let mut location = self.location(&response)?;
                match sent.chunks.and_then(|()| finished(chunks)) {
                    Ok((digest, result)) => {
                        location
                            .query_pairs_mut()
                            .append_pair("digest", digest.as_str());
                        let put = Request::new(request.what, Method::PUT, location, request.scopes);
                        let wanted = [StatusCode::CREATED];
                        self.endpoint.expect(&put, &self.deadline, &wanted).await?;
                        Ok(Attempt::Done(result))
                    }
                    Err(e) => {
                        self.cancel(location).await;
                        Err(e)
                    }
                }
            }
            answer => {
                self.cancel(location).await;
                sent.chunks?;
                Ok(Attempt::Again(match answer {
                    Ok(response) => self.worth_another(response, &request.what).await?,
                    Err(e) => e,
                }))
            }
        }
    }

    /// The error of an answer after which another attempt may succeed: the registry is busy, it lost
    /// the session in a restart, or the token has ended.
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
        tracing::debug!(error = %failed, "an upload broke and is restarted");
        sleep(wait).await;
        Ok(())
    }

    /// Sends one request with a body of chunks.
    async fn stream<C: Chunks>(&self, request: &Request, chunks: &mut C) -> Sent {
        let (sender, mut receiver) = mpsc::channel::<Result<Frame<Bytes>, Infallible>>(2);
        let body = StreamBody::new(stream::poll_fn(move |context| receiver.poll_recv(context)));
        let builder = self
            .endpoint
            .build(request, &request.url)
            .header(CONTENT_TYPE, octets())
            .body(Body::wrap(body));
        let progress = Mutex::new(Instant::now());
        let pump = async {
            // Dropped at the end of this block, which ends the body.
            let sender = sender;
            while let Some(chunk) = chunks.next().await? {
                if sender.send(Ok(Frame::data(chunk))).await.is_err() {
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
            let (answer, chunks) = match select(pin!(builder.send()), pump).await {
                // The whole body must have been given for an answer to count.
                Either::Left((Ok(response), pump)) if response.status().is_success() => {
                    (Ok(response), pump.await)
                }
                Either::Left((answer, _)) => (answer, Ok(())),
                Either::Right((chunks, answer)) => (answer.await, chunks),
            };
            let answer = answer.map_err(|e| self.endpoint.unreachable(e));
            Sent { answer, chunks }
        };
        match select(pin!(sending), pin!(watch)).await {
            Either::Left((sent, _)) => sent,
            Either::Right(_) => Sent {
                answer: Err(self.endpoint.late(&request.what)),
                chunks: Ok(()),
            },
        }
    }
}

fn octets() -> HeaderValue {
    HeaderValue::from_static("application/octet-stream")
}
