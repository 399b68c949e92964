//! DescribeUserScramCredentials: which users have which SCRAM credentials.

use bytestring::ByteString;

use crate::error::ErrorCode;
use crate::message::{Request, messages};

messages! {
    /// Asks about credentials.
    pub message DescribeUserScramCredentialsRequest: DescribeUserScramCredentials [0-0], flexible [0+] {
        /// The users; null or none for all.
        users: Option<Vec<UserName>> [0+] null [0+] = Some(Vec::new()),
    }

    /// One user.
    pub struct UserName {
        /// The name.
        name: ByteString [0+],
    }

    /// The credentials, without anything secret.
    pub message DescribeUserScramCredentialsResponse: DescribeUserScramCredentials [0-0], flexible [0+] {
        /// How long the client should hold back, in milliseconds.
        throttle_time_ms: i32 [0+],
        /// What went wrong, or `NONE`.
        error_code: ErrorCode [0+],
        /// The same in words, or null.
        error_message: Option<ByteString> [0+] null [0+] = Some(ByteString::new()),
        /// One for each user.
        results: Vec<DescribeUserScramCredentialsResult> [0+],
    }

    /// One user's.
    pub struct DescribeUserScramCredentialsResult {
        /// The user.
        user: ByteString [0+],
        /// What went wrong, or `NONE`.
        error_code: ErrorCode [0+],
        /// The same in words, or null.
        error_message: Option<ByteString> [0+] null [0+] = Some(ByteString::new()),
        /// What it has.
        credential_infos: Vec<CredentialInfo> [0+],
    }

    /// One credential.
    pub struct CredentialInfo {
        /// 1 for SCRAM-SHA-256, 2 for SCRAM-SHA-512.
        mechanism: i8 [0+],
        /// How often the password was hashed.
        iterations: i32 [0+],
    }
}

impl Request for DescribeUserScramCredentialsRequest {
    type Response = DescribeUserScramCredentialsResponse;
}
