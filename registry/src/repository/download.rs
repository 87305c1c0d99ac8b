//! A blob as a stream that verifies itself: size and digest are checked before the last chunk is
//! given out, so that whoever passes it on never completes wrong bytes.

use bytes::Bytes;
use onedock_common::Digest;
use reqwest::header::{CONTENT_RANGE, HeaderValue, RANGE};
use reqwest::{Method, Response, StatusCode};
use sha2::{Digest as _, Sha256};
use tokio::time::{Instant, sleep, timeout};

use super::remote::RemoteRepository;
use crate::chunks::{Cancellation, Chunks};
use crate::error::Error;
use crate::oci::compression::MAGIC;
use crate::oci::config::Config;
use crate::oci::descriptor::Descriptor;
use crate::oci::manifest::{CONFIG_LIMIT, ImageManifest};
use crate::transport::answer::{into_error, is_web_page, no_page, read_all};
use crate::transport::pace::Pace;
use crate::transport::request::Request;
use crate::transport::retry::pause;

/// How often a broken transfer of one blob is resumed.
const RESUMES: u32 = 3;

/// A blob being read from a registry.
pub(crate) struct Download {
    remote: RemoteRepository,
    blob: Descriptor,
    answer: Option<Response>,
    /// How many bytes of `answer` are skipped: a registry without ranges sends from the start
    /// again.
    skip: u64,
    offset: u64,
    hasher: Sha256,
    resumes: u32,
    ended: bool,
    /// Whether the beginning looks like a web page, which matters only when it is not the blob.
    page: bool,
    cancellation: Cancellation,
    pace: Pace,
}

impl RemoteRepository {
    pub(crate) fn blob(&self, method: Method, digest: &Digest) -> Result<Request, Error> {
        let url = self.endpoint.at(&format!("{}/blobs/{digest}", self.path))?;
        Ok(Request::new(
            format!("blob {digest} of {}", self.path),
            method,
            url,
            self.pull(),
        ))
    }

    /// Starts to read a blob; the first request is sent for the first chunk.
    pub(crate) fn download(&self, blob: &Descriptor) -> Download {
        Download {
            remote: self.clone(),
            blob: blob.clone(),
            answer: None,
            skip: 0,
            offset: 0,
            hasher: Sha256::new(),
            resumes: 0,
            ended: false,
            page: false,
            cancellation: Cancellation::default(),
            pace: Pace::new(self.endpoint.slow),
        }
    }

    /// A small blob whole, verified.
    pub(crate) async fn small_blob(&self, blob: &Descriptor, limit: u64) -> Result<Bytes, Error> {
        if blob.size > limit {
            return Err(self.refuse(format!("{} has {} bytes", blob.digest, blob.size)));
        }
        let mut download = self.download(blob);
        let mut bytes = Vec::new();
        while let Some(chunk) = download.next().await? {
            bytes.extend_from_slice(&chunk);
        }
        Ok(Bytes::from(bytes))
    }

    /// The configuration of an image, as it is stored and read.
    pub(crate) async fn config(&self, image: &ImageManifest) -> Result<(Bytes, Config), Error> {
        let bytes = self.small_blob(&image.config, CONFIG_LIMIT).await?;
        let config = Config::parse(&bytes).map_err(|reason| self.refuse(reason))?;
        Ok((bytes, config))
    }

    /// The first bytes of a blob, by which its compression is recognised.
    pub(crate) async fn first_bytes(&self, blob: &Descriptor) -> Result<Vec<u8>, Error> {
        let length = blob.size.min(MAGIC as u64);
        if length == 0 {
            return Ok(Vec::new());
        }
        if let Some(bytes) = self.range(&blob.digest, 0, length).await? {
            return Ok(bytes);
        }
        // A registry without ranges: the answer is broken off again.
        let chunk = self.download(blob).next().await?;
        Ok(chunk.map(|chunk| chunk.to_vec()).unwrap_or_default())
    }

    /// `length` bytes of a blob from `start`; `None` when the registry serves no ranges.
    pub(crate) async fn range(
        &self,
        digest: &Digest,
        start: u64,
        length: u64,
    ) -> Result<Option<Vec<u8>>, Error> {
        let mut request = self.blob(Method::GET, digest)?;
        let end = start + length.saturating_sub(1);
        request
            .headers
            .insert(RANGE, range(&format!("bytes={start}-{end}")));
        let wanted = [
            StatusCode::PARTIAL_CONTENT,
            StatusCode::OK,
            StatusCode::RANGE_NOT_SATISFIABLE,
        ];
        let mut response = self
            .endpoint
            .expect(&request, &self.deadline, &wanted)
            .await?;
        if response.status() != StatusCode::PARTIAL_CONTENT || starts_at(&response) != Some(start) {
            return Ok(None);
        }
        let bytes = read_all(&self.endpoint, &mut response, length, &request.what).await?;
        Ok((bytes.len() as u64 == length).then_some(bytes))
    }
}

// Digits and two words of our own are always a header's value.
fn range(text: &str) -> HeaderValue {
    HeaderValue::from_str(text).unwrap_or(HeaderValue::from_static("bytes=0-"))
}

fn starts_at(response: &Response) -> Option<u64> {
    let text = response.headers().get(CONTENT_RANGE)?.to_str().ok()?;
    let (start, _) = text.strip_prefix("bytes ")?.split_once('-')?;
    onedock_common::types::decimal::parse_whole(start).ok()
}

impl Download {
    /// Ends with an error when another transfer of the call has failed.
    pub(crate) fn until(mut self, cancellation: Cancellation) -> Self {
        self.cancellation = cancellation;
        self
    }

    async fn receive(&mut self) -> Result<Option<Bytes>, Error> {
        let endpoint = &self.remote.endpoint;
        let Some(answer) = &mut self.answer else {
            return Ok(None);
        };
        let begun = Instant::now();
        let what = || format!("blob {}", self.blob.digest);
        let chunk = match timeout(endpoint.idle, answer.chunk()).await {
            Err(_) => return Err(endpoint.idle_for(&what())),
            Ok(chunk) => chunk.map_err(|e| endpoint.unreachable(e))?,
        };
        let length = chunk.as_ref().map_or(0, Bytes::len);
        match self.pace.keeps(length, begun.elapsed()) {
            true => Ok(chunk),
            false => Err(endpoint.too_slow(&what())),
        }
    }

    async fn request(&mut self) -> Result<(), Error> {
        let mut request = self.remote.blob(Method::GET, &self.blob.digest)?;
        if self.offset > 0 {
            request
                .headers
                .insert(RANGE, range(&format!("bytes={}-", self.offset)));
        }
        let endpoint = &self.remote.endpoint;
        let mut answer = endpoint.send(&request, &self.remote.deadline).await?;
        self.skip = match answer.status() {
            StatusCode::OK => {
                let length = answer.content_length();
                if let Some(found) = length.filter(|length| *length != self.blob.size) {
                    if let Ok(Ok(Some(chunk))) = timeout(endpoint.idle, answer.chunk()).await {
                        no_page(endpoint, &chunk, &request.what)?;
                    }
                    return Err(self.wrong_length(found));
                }
                self.offset
            }
            StatusCode::PARTIAL_CONTENT if starts_at(&answer) == Some(self.offset) => 0,
            StatusCode::PARTIAL_CONTENT => {
                return Err(endpoint.refuse("it sends another part of a blob than was requested"));
            }
            _ => return Err(into_error(endpoint, answer, &request.what).await),
        };
        self.answer = Some(answer);
        Ok(())
    }

    fn without_skipped(&mut self, mut chunk: Bytes) -> Option<Bytes> {
        let skipped = usize::try_from(self.skip)
            .unwrap_or(usize::MAX)
            .min(chunk.len());
        self.skip -= skipped as u64;
        let rest = chunk.split_off(skipped);
        (!rest.is_empty()).then_some(rest)
    }

    fn accept(&mut self, chunk: Bytes) -> Result<Bytes, Error> {
        if self.offset == 0 {
            self.page = is_web_page(&chunk);
        }
        self.offset += chunk.len() as u64;
        if self.offset > self.blob.size {
            return Err(self.wrong_length(self.offset));
        }
        self.hasher.update(&chunk);
        if self.offset == self.blob.size {
            self.finish()?;
        }
        Ok(chunk)
    }

    fn finish(&mut self) -> Result<(), Error> {
        self.ended = true;
        self.answer = None;
        let found = Digest::from_hasher(std::mem::take(&mut self.hasher));
        if found == self.blob.digest {
            return Ok(());
        }
        if self.page {
            return Err(self.web_page());
        }
        Err(Error::Digest {
            what: format!("a blob of {}", self.remote.name()),
            expected: self.blob.digest.clone(),
            found,
        })
    }

    async fn broken(&mut self, why: Option<Error>) -> Result<(), Error> {
        self.answer = None;
        self.resumes += 1;
        let wait = pause(self.resumes);
        let late = Instant::now() + wait > self.remote.deadline.at();
        if self.resumes > RESUMES || late {
            return Err(why.unwrap_or_else(|| self.wrong_length(self.offset)));
        }
        tracing::debug!(blob = %self.blob.digest, offset = self.offset, "transfer broke, resumed");
        sleep(wait).await;
        Ok(())
    }

    fn web_page(&self) -> Error {
        let what = format!("blob {} of {}", self.blob.digest, self.remote.path);
        self.remote.endpoint.web_page(&what)
    }

    fn wrong_length(&self, found: u64) -> Error {
        if self.page {
            return self.web_page();
        }
        Error::Length {
            what: format!("blob {} of {}", self.blob.digest, self.remote.name()),
            expected: self.blob.size,
            found,
        }
    }
}

impl Chunks for Download {
    /// The last chunk is given only when the whole is right.
    async fn next(&mut self) -> Result<Option<Bytes>, Error> {
        loop {
            if self.ended {
                return Ok(None);
            }
            self.cancellation.check()?;
            if self.answer.is_none() && self.blob.size > 0 {
                self.request().await?;
            }
            match self.receive().await {
                Ok(Some(chunk)) => {
                    if let Some(chunk) = self.without_skipped(chunk) {
                        return self.accept(chunk).map(Some);
                    }
                }
                Ok(None) if self.offset == self.blob.size => {
                    self.finish()?;
                    return Ok(None);
                }
                Ok(None) => self.broken(None).await?,
                // Taken up again it would be as slow.
                Err(e @ Error::Answer { .. }) => return Err(e),
                Err(e) => self.broken(Some(e)).await?,
            }
        }
    }
}
