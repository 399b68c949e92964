//! AlterUserScramCredentials: users get and lose SCRAM credentials.

use super::Context;
use crate::cluster::{NewCredential, Outcome, Request, ScramChange, Secret};
use ringlog_wire::ErrorCode;
use ringlog_wire::alter_user_scram_credentials::{
    AlterUserScramCredentialsRequest, AlterUserScramCredentialsResponse, AlterUserScramCredentialsResult,
};
use std::rc::Rc;

pub(super) async fn handle(
    context: Rc<Context>,
    request: AlterUserScramCredentialsRequest,
) -> AlterUserScramCredentialsResponse {
    let deletions = request.deletions.iter().map(|deletion| ScramChange {
        user: deletion.name.to_string(),
        mechanism: deletion.mechanism,
        set: None,
    });
    let upsertions = request.upsertions.iter().map(|new| ScramChange {
        user: new.name.to_string(),
        mechanism: new.mechanism,
        set: Some(NewCredential {
            iterations: new.iterations,
            salt: Secret(new.salt.to_vec()),
            salted_password: Secret(new.salted_password.to_vec()),
        }),
    });
    let changes: Vec<ScramChange> = deletions.chain(upsertions).collect();
    let mut users: Vec<String> = changes.iter().map(|change| change.user.clone()).collect();
    users.sort_unstable();
    users.dedup();
    let row = |user: String, error_code, why: Option<String>| AlterUserScramCredentialsResult {
        user: user.into(),
        error_code,
        error_message: why.map(Into::into),
    };
    let results = match context.broker.control(Request::AlterScram(changes)).await {
        Outcome::Scram(told) => told
            .into_iter()
            .map(|(user, result)| match result {
                Ok(()) => row(user, ErrorCode::None, None),
                Err(refusal) => row(user, refusal.code, Some(refusal.message)),
            })
            .collect(),
        Outcome::Failed(code) => users.into_iter().map(|user| row(user, code, None)).collect(),
        other => unreachable!("credentials are answered with {other:?}"),
    };
    AlterUserScramCredentialsResponse { results, ..Default::default() }
}
