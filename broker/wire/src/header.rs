//! The headers before requests and responses.

use bytestring::ByteString;

use crate::api::ApiKey;
use crate::field::Field;
use crate::reader::{DecodeError, Reader};
use crate::writer::{EncodeError, Writer};

/// What stands before every request. Its first fields are the same in every version, so it can be read for an API or a version that is not
/// known, to refuse it with a name in the log.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RequestHeader {
    /// The API asked for; [`ApiKey::from_code`] gives its name, if it has one.
    pub api_key: i16,
    /// The version of the request, and of the response wanted.
    pub api_version: i16,
    /// The client's number for this request; the response repeats it.
    pub correlation_id: i32,
    /// What the client calls itself, or null.
    pub client_id: Option<ByteString>,
}

impl RequestHeader {
    /// Reads the header and leaves `reader` at the body. (Behind an API that is not known there is no telling where a body starts.)
    pub fn read(reader: &mut Reader<'_>) -> Result<RequestHeader, DecodeError> {
        // The client id has a two-byte length in every header, so that a broker can read it before it knows the version.
        reader.flexible = false;
        reader.field = "api_key";
        let api_key = i16::read(reader)?;
        reader.field = "api_version";
        let api_version = i16::read(reader)?;
        reader.field = "correlation_id";
        let correlation_id = i32::read(reader)?;
        reader.field = "client_id";
        let client_id = Option::<ByteString>::read(reader)?;
        let header = RequestHeader { api_key, api_version, correlation_id, client_id };
        if header.api().is_some_and(|api| api.is_flexible(api_version)) {
            reader.tagged_fields(|_, _| Ok(()))?;
        }
        Ok(header)
    }

    /// The API asked for, if there is one with this number.
    pub fn api(&self) -> Option<ApiKey> {
        ApiKey::from_code(self.api_key)
    }

    pub(crate) fn write(&self, writer: &mut Writer, header_version: i16) -> Result<(), EncodeError> {
        self.api_key.write(writer)?;
        self.api_version.write(writer)?;
        self.correlation_id.write(writer)?;
        writer.field = "client_id";
        writer.flexible = false;
        self.client_id.write(writer)?;
        if header_version >= 2 {
            writer.put_uvarint(0);
        }
        Ok(())
    }
}

/// What stands before every response.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ResponseHeader {
    /// The number of the request this answers.
    pub correlation_id: i32,
}

impl ResponseHeader {
    /// Reads the header of a response to `api` in `version` and leaves `reader` at the body.
    pub fn read(reader: &mut Reader<'_>, api: ApiKey, version: i16) -> Result<ResponseHeader, DecodeError> {
        reader.field = "correlation_id";
        let correlation_id = i32::read(reader)?;
        if api.response_header_version(version) >= 1 {
            reader.tagged_fields(|_, _| Ok(()))?;
        }
        Ok(ResponseHeader { correlation_id })
    }

    pub(crate) fn write(self, writer: &mut Writer, header_version: i16) {
        writer.put(&self.correlation_id.to_be_bytes());
        if header_version >= 1 {
            writer.put_uvarint(0);
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    #[test]
    fn a_header_of_an_unknown_api_or_version_is_read_for_the_log() {
        for (api_key, api_version) in
            [(1000, 7), (-5, -5), (ApiKey::Produce.code(), 2), (ApiKey::ApiVersions.code(), 99)]
        {
            let header =
                RequestHeader { api_key, api_version, correlation_id: -7, client_id: Some("rdkafka".into()) };
            let mut writer = Writer::new();
            header.write(&mut writer, 2).unwrap();
            let [crate::Part::Bytes(frame)] = &writer.finish().unwrap()[..] else { panic!("one part") };
            assert_eq!(RequestHeader::read(&mut Reader::new(&frame.slice(4..))), Ok(header));
        }
    }

    #[test]
    fn tagged_fields_of_a_flexible_header_are_skipped() {
        let frame = Bytes::from_static(b"\0\x03\0\x09\0\0\0\x01\xff\xff\x01\x05\x02xyBODY");
        let mut reader = Reader::new(&frame);
        let header = RequestHeader::read(&mut reader).unwrap();
        assert_eq!((header.api(), header.client_id), (Some(ApiKey::Metadata), None));
        assert_eq!(reader.remaining(), 4);
    }
}
