//! A small blocking Kafka client, for the command line: one connection, one request at a time.

use super::Failure;
use bytes::Bytes;
use ringlog_wire::api_versions::{ApiVersionsRequest, ApiVersionsResponse};
use ringlog_wire::metadata::{
    MetadataRequest, MetadataRequestTopic, MetadataResponse, MetadataResponseTopic,
};
use ringlog_wire::{
    ApiKey, ByteString, ErrorCode, Message, Part, RESPONSE_LEN_MIN, Reader, Request, ResponseHeader,
    encode_request, frame_len,
};
use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

/// A connection to a broker.
pub(super) struct Client {
    stream: TcpStream,
    address: String,
    versions: BTreeMap<i16, (i16, i16)>,
    correlation_id: i32,
}

/// What the client calls itself.
const CLIENT_ID: &str = "ringlog-cli";
/// A broker that takes longer than this to answer is taken for gone.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(60);
/// The largest answer read.
const ANSWER_BYTES_MAX: usize = 256 << 20;

impl Client {
    /// Connects and asks what the broker serves.
    pub(super) fn connect(address: &str) -> Result<Self, Failure> {
        let stream = TcpStream::connect(address).map_err(|error| {
            Failure(format!(
                "connect to {address}: {error}; is the broker running? `--broker HOST:PORT` names another"
            ))
        })?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(ANSWER_TIME_MAX))?;
        let mut client =
            Self { stream, address: address.to_owned(), versions: BTreeMap::new(), correlation_id: 0 };
        let request = ApiVersionsRequest {
            client_software_name: ByteString::from_static("ringlog"),
            client_software_version: ByteString::from_static(env!("CARGO_PKG_VERSION")),
        };
        let response: ApiVersionsResponse = client.exchange(&request, 3)?;
        check(response.error_code, "ask for the broker's versions")?;
        client.versions =
            response.api_keys.iter().map(|api| (api.api_key, (api.min_version, api.max_version))).collect();
        Ok(client)
    }

    /// Asks, in the highest version both sides know.
    pub(super) fn call<R: Request>(&mut self, request: &R) -> Result<R::Response, Failure> {
        self.call_up_to(request, i16::MAX)
    }

    /// The same, in no version above this one.
    pub(super) fn call_up_to<R: Request>(
        &mut self,
        request: &R,
        version_max: i16,
    ) -> Result<R::Response, Failure> {
        let spec = R::API.spec();
        let served = self.versions.get(&R::API.code()).copied();
        let (min, max) =
            served.ok_or_else(|| Failure(format!("{} does not serve {}", self.address, spec.name)))?;
        let version = max.min(spec.max).min(version_max);
        if version < min.max(spec.min) {
            return Err(Failure(format!(
                "{} serves no version of {} that is known here",
                self.address, spec.name
            )));
        }
        self.exchange(request, version)
    }

    /// All topics, or those of these names, which are not created.
    pub(super) fn metadata(&mut self, names: Option<&[&str]>) -> Result<MetadataResponse, Failure> {
        let topics = names.map(|names| {
            let topic = |name: &&str| MetadataRequestTopic {
                name: Some(ByteString::from(*name)),
                ..Default::default()
            };
            names.iter().map(topic).collect()
        });
        self.call(&MetadataRequest { topics, allow_auto_topic_creation: false, ..Default::default() })
    }

    /// One topic, which must exist unless `create` lets the broker make it.
    pub(super) fn topic(&mut self, name: &str, create: bool) -> Result<MetadataResponseTopic, Failure> {
        let topic = MetadataRequestTopic { name: Some(ByteString::from(name)), ..Default::default() };
        let request = MetadataRequest {
            topics: Some(vec![topic]),
            allow_auto_topic_creation: create,
            ..Default::default()
        };
        let response = self.call(&request)?;
        let topic = response.topics.into_iter().next().ok_or_else(|| Failure("an empty answer".into()))?;
        check(topic.error_code, &format!("topic {name}"))?;
        Ok(topic)
    }

    fn exchange<R: Request>(&mut self, request: &R, version: i16) -> Result<R::Response, Failure> {
        self.correlation_id += 1;
        let parts = encode_request(version, self.correlation_id, Some(CLIENT_ID), request)?;
        for part in parts {
            let Part::Bytes(bytes) = part else { unreachable!("a client sends from memory") };
            self.stream.write_all(&bytes).map_err(|error| self.failed("send to", &error))?;
        }
        let mut prefix = [0; 4];
        self.stream.read_exact(&mut prefix).map_err(|error| self.failed("receive from", &error))?;
        let len = frame_len(prefix, RESPONSE_LEN_MIN, ANSWER_BYTES_MAX)?;
        let mut frame = vec![0; len];
        self.stream.read_exact(&mut frame).map_err(|error| self.failed("receive from", &error))?;
        let frame = Bytes::from(frame);
        let mut reader = Reader::new(&frame);
        let header = ResponseHeader::read(&mut reader, R::API, version)?;
        if header.correlation_id != self.correlation_id {
            return Err(Failure(format!("{} answered another request", self.address)));
        }
        if R::API == ApiKey::ApiVersions {
            // A broker that does not know the version answers in version 0.
            return decode_versions::<R>(&frame, version);
        }
        Ok(R::Response::decode(&mut reader, version)?)
    }

    fn failed(&self, action: &str, error: &std::io::Error) -> Failure {
        Failure(format!("{action} {}: {error}", self.address))
    }
}

fn decode_versions<R: Request>(frame: &Bytes, version: i16) -> Result<R::Response, Failure> {
    let mut reader = Reader::new(frame);
    ResponseHeader::read(&mut reader, R::API, version)?;
    if let Ok(response) = R::Response::decode(&mut reader, version) {
        return Ok(response);
    }
    let mut reader = Reader::new(frame);
    ResponseHeader::read(&mut reader, R::API, 0)?;
    Ok(R::Response::decode(&mut reader, 0)?)
}

/// An error of the broker's with the words it gave.
pub(super) fn refused(code: ErrorCode, message: Option<&str>) -> Result<(), Failure> {
    check(code, message.unwrap_or("the broker refuses"))
}

/// An error of the broker's, in words.
pub(super) fn check(code: ErrorCode, what: &str) -> Result<(), Failure> {
    if code == ErrorCode::None { Ok(()) } else { Err(Failure(format!("{what}: {code}"))) }
}
