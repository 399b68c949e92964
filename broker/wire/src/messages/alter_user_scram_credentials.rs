//! AlterUserScramCredentials: users get and lose SCRAM credentials.

use bytes::Bytes;
use bytestring::ByteString;

use crate::error::ErrorCode;
use crate::message::{Request, messages};

messages! {
    /// Says who gets and who loses what.
    pub message AlterUserScramCredentialsRequest: AlterUserScramCredentials [0-0], flexible [0+] {
        /// Who loses.
        deletions: Vec<ScramCredentialDeletion> [0+],
        /// Who gets.
        upsertions: Vec<ScramCredentialUpsertion> [0+],
    }

    /// A credential to delete.
    pub struct ScramCredentialDeletion {
        /// The user.
        name: ByteString [0+],
        /// 1 for SCRAM-SHA-256, 2 for SCRAM-SHA-512.
        mechanism: i8 [0+],
    }

    /// A credential to set.
    pub struct ScramCredentialUpsertion {
        /// The user.
        name: ByteString [0+],
        /// 1 for SCRAM-SHA-256, 2 for SCRAM-SHA-512.
        mechanism: i8 [0+],
        /// How often the password was hashed.
        iterations: i32 [0+],
        /// The client's salt.
        salt: Bytes [0+],
        /// The password, salted and hashed: as good as the password.
        salted_password: Bytes [0+],
    }

    /// What came of it.
    pub message AlterUserScramCredentialsResponse: AlterUserScramCredentials [0-0], flexible [0+] {
        /// How long the client should hold back, in milliseconds.
        throttle_time_ms: i32 [0+],
        /// One for each user.
        results: Vec<AlterUserScramCredentialsResult> [0+],
    }

    /// One user's.
    pub struct AlterUserScramCredentialsResult {
        /// The user.
        user: ByteString [0+],
        /// What went wrong, or `NONE`.
        error_code: ErrorCode [0+],
        /// The same in words, or null.
        error_message: Option<ByteString> [0+] null [0+] = Some(ByteString::new()),
    }
}

impl Request for AlterUserScramCredentialsRequest {
    type Response = AlterUserScramCredentialsResponse;
}
