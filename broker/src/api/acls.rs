//! DescribeAcls, CreateAcls, DeleteAcls: there is no authorizer, and tools are told so, as by Apache Kafka without one.

use super::Context;
use ringlog_wire::create_acls::{AclCreationResult, CreateAclsRequest, CreateAclsResponse};
use ringlog_wire::delete_acls::{DeleteAclsFilterResult, DeleteAclsRequest, DeleteAclsResponse};
use ringlog_wire::describe_acls::{DescribeAclsRequest, DescribeAclsResponse};
use ringlog_wire::{ByteString, ErrorCode};
use std::rc::Rc;

pub(super) async fn describe(_: Rc<Context>, _: DescribeAclsRequest) -> DescribeAclsResponse {
    DescribeAclsResponse {
        error_code: ErrorCode::SecurityDisabled,
        error_message: Some(ByteString::from_static("No Authorizer is configured on the broker")),
        ..Default::default()
    }
}

pub(super) async fn create(_: Rc<Context>, request: CreateAclsRequest) -> CreateAclsResponse {
    let refused =
        AclCreationResult { error_code: ErrorCode::SecurityDisabled, error_message: Some(NO_AUTHORIZER) };
    CreateAclsResponse { results: vec![refused; request.creations.len()], ..Default::default() }
}

pub(super) async fn delete(_: Rc<Context>, request: DeleteAclsRequest) -> DeleteAclsResponse {
    let refused = DeleteAclsFilterResult {
        error_code: ErrorCode::SecurityDisabled,
        error_message: Some(NO_AUTHORIZER),
        ..Default::default()
    };
    DeleteAclsResponse { filter_results: vec![refused; request.filters.len()], ..Default::default() }
}

const NO_AUTHORIZER: ByteString = ByteString::from_static("No Authorizer is configured.");
