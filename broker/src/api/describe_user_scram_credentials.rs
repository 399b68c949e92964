//! DescribeUserScramCredentials: which users have which SCRAM credentials, without anything secret.

use super::Context;
use crate::cluster::Image;
use ringlog_wire::describe_user_scram_credentials::{
    CredentialInfo, DescribeUserScramCredentialsRequest, DescribeUserScramCredentialsResponse,
    DescribeUserScramCredentialsResult,
};
use ringlog_wire::{ByteString, ErrorCode};
use std::collections::BTreeMap;
use std::rc::Rc;

pub(super) async fn handle(
    context: Rc<Context>,
    request: DescribeUserScramCredentialsRequest,
) -> DescribeUserScramCredentialsResponse {
    let image = context.broker.image();
    let mut named: BTreeMap<String, usize> = BTreeMap::new();
    for user in request.users.into_iter().flatten() {
        *named.entry(user.name.to_string()).or_default() += 1;
    }
    let results = match named.is_empty() {
        true => image.scram_users().map(|user| describe(&image, user)).collect(),
        false => named
            .into_iter()
            .map(|(user, times)| match times {
                1 => describe(&image, &user),
                _ => {
                    let why =
                        "Cannot describe SCRAM credentials for the same user twice in a single request: ";
                    refuse(&user, ErrorCode::DuplicateResource, why)
                }
            })
            .collect(),
    };
    DescribeUserScramCredentialsResponse { error_message: None, results, ..Default::default() }
}

fn describe(image: &Image, user: &str) -> DescribeUserScramCredentialsResult {
    let Some(known) = image.scram_credentials(user) else {
        let why = "Attempt to describe a user credential that does not exist: ";
        return refuse(user, ErrorCode::ResourceNotFound, why);
    };
    let info = |(mechanism, credential): (&crate::cluster::Mechanism, &crate::cluster::ScramCredential)| {
        CredentialInfo { mechanism: mechanism.code(), iterations: credential.iterations }
    };
    DescribeUserScramCredentialsResult {
        user: user.into(),
        error_message: None,
        credential_infos: known.iter().map(info).collect(),
        ..Default::default()
    }
}

fn refuse(user: &str, error_code: ErrorCode, why: &str) -> DescribeUserScramCredentialsResult {
    let error_message = Some(ByteString::from(format!("{why}{user}")));
    DescribeUserScramCredentialsResult { user: user.into(), error_code, error_message, ..Default::default() }
}
