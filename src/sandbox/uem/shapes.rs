//! The UEM's objects as its REST API shows them.
//!
//! v1 names things in Pascal case, v2 in camel case, and neither device shape knows a UPN. Absent values are missing keys.

use chrono::{DateTime, Utc};
use serde_json::{Value, json};
use uuid::Uuid;

use super::{
    Rule,
    event::Format,
    fleet::{Device, Fleet, Holding, Status, User},
    sender::Hook,
};

/// The one organization group there is.
pub(super) const GROUP: Uuid = Uuid::from_u128(0x2c7f_6a10_54d5_4b77_b3a1_5a6d_bf2c_9a10);
const GROUP_ID: i64 = 1210;

/// A v1 time: milliseconds and no zone.
fn unzoned(at: DateTime<Utc>) -> String {
    at.format("%Y-%m-%dT%H:%M:%S%.3f").to_string()
}

fn group_name(device: &Device) -> &str {
    let name = &device.spec.organization_group;
    if name.is_empty() { "Contoso Clinics" } else { name }
}

fn device_name(device: &Device) -> String {
    let name = &device.spec.name;
    if name.is_empty() { format!("iPad {}", device.spec.serial) } else { name.clone() }
}

/// Takes the keys without a value out.
fn present(mut object: Value) -> Value {
    if let Some(map) = object.as_object_mut() {
        map.retain(|_, value| !value.is_null());
    }
    object
}

pub(super) fn device_v1(device: &Device, holding: Holding, fleet: &Fleet) -> Value {
    let user = holding.user.and_then(|id| fleet.users.get(&id));
    let group = group_name(device);
    present(json!({
        "Udid": device.udid, "SerialNumber": device.spec.serial, "AssetNumber": device.spec.asset_number,
        "DeviceFriendlyName": device_name(device),
        "LocationGroupId": {"Id": {"Value": GROUP_ID}, "Name": group, "Uuid": GROUP}, "LocationGroupName": group,
        "UserId": user.map(|user| json!({"Id": {"Value": user.id}, "Name": user.display_name(), "Uuid": user.uuid})),
        "UserName": user.map(|user| &user.spec.user_name),
        "UserEmailAddress": user.map(|user| &user.spec.email),
        "Ownership": "S", "Platform": "Apple", "Model": "iPad (10th generation)", "OperatingSystem": "18.3.1",
        "LastSeen": unzoned(holding.said), "EnrollmentStatus": holding.status.name(),
        "ComplianceStatus": if holding.status == Status::Enrolled { "Compliant" } else { "NotAvailable" },
        "CompromisedStatus": false, "LastEnrolledOn": "2026-01-11T08:00:12.077",
        "LastComplianceCheckOn": "0001-01-01T00:00:00.000", "IsSupervised": true,
        "EnrollmentUserUuid": Uuid::nil(), "ManagedBy": 1, "Id": {"Value": device.id}, "Uuid": device.uuid,
    }))
}

pub(super) fn device_v2(device: &Device, holding: Holding, fleet: &Fleet) -> Value {
    let user = holding.user.and_then(|id| fleet.users.get(&id));
    let group = group_name(device);
    let seen = format!("{}Z", unzoned(holding.said));
    let enrolled = holding.status == Status::Enrolled;
    present(json!({
        "id": device.id, "uuid": device.uuid, "udid": device.udid, "serialNumber": device.spec.serial,
        "friendlyName": device_name(device), "assetNumber": device.spec.asset_number,
        "organizationGroupName": group, "supervised": true,
        "platformInfo": {
            "deviceType": "APPLE", "platformName": "Apple", "modelName": "iPad (10th generation)", "osVersion": "18.3.1",
        },
        "enrollmentInfo": present(json!({
            "enrollmentStatus": holding.status.name().to_uppercase(), "compliant": enrolled,
            "enrollmentTimestamp": "2026-01-11T08:00:12.077Z", "lastSeenTimestamp": seen, "ownership": "CORPORATE",
            "organizationGroupId": GROUP, "organizationGroupName": group,
            "userName": user.map(|user| &user.spec.user_name), "userEmailAddress": user.map(|user| &user.spec.email),
            "enrollmentUserUuid": user.map(|user| user.uuid), "managedBy": "MDM",
        })),
    }))
}

pub(super) fn user_v1(user: &User) -> Value {
    let staged = i32::from(user.staging() != "StagingDisabled");
    present(json!({
        "UserName": user.spec.user_name, "FirstName": user.display_name(), "LastName": "", "Status": true,
        "Email": user.spec.email, "SecurityType": if security_type(user) == "basic" { 2 } else { 1 },
        "ExternalId": user.spec.external_id, "DeviceStagingType": staged, "StagingMode": staged,
        "DeviceStagingEnabled": staged != 0, "Id": {"Value": user.id}, "Uuid": user.uuid,
    }))
}

pub(super) fn user_v2(user: &User) -> Value {
    let email = Some(&user.spec.email).filter(|email| !email.is_empty());
    present(json!({
        "uuid": user.uuid, "externalId": user.spec.external_id, "userName": user.spec.user_name,
        "domain": (security_type(user) == "directory").then_some("contoso"), "displayName": user.display_name(),
        "userPrincipalName": user.spec.upn, "emailAddress": email, "status": true,
        "securityType": security_type(user), "deviceStagingType": user.staging(), "enrolledDeviceCount": user.devices,
        "organizationGroupUuid": GROUP, "aadMappingAttribute": user.spec.aad_mapping_attribute,
    }))
}

fn security_type(user: &User) -> &str {
    user.spec.security_type.as_deref().unwrap_or("directory")
}

/// The event notification rule, with its mixed casing.
pub(super) fn rule(rule: &Rule, hook: &Hook) -> Value {
    json!({
        "TargetName": "Handover", "TargetUrl": rule.url, "Username": hook.user_name, "Password": "",
        "Format": i32::from(rule.format == Format::Json), "IsActive": rule.active,
        "DeviceEvents": {
            "Enrollment": true, "UnenrolledEnterpriseWipe": true, "Wipe": true, "CompromisedStatusChange": false,
            "Delete": true, "ComplianceStatusChange": false, "CheckOutCheckIn": rule.check_out_check_in,
            "DeviceAttributes": {
                "AssetNumber": false, "FriendlyName": false, "OrganizationGroup": false, "UserEmailAddress": true,
                "Ownership": false, "OperatingSystem": false, "PhoneNumber": false, "DeviceMCC": false,
            },
        },
        "organizationGroupId": GROUP_ID, "organizationGroupUuid": GROUP, "id": 17,
        "uuid": Uuid::from_u128(0x9b0e_41d2_77aa_4c8e_8a11_0d5f_3c2b_1a17),
    })
}
